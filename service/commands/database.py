"""Commands that keep the record: db upgrade, check, copy and backup; archive; gc."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from search.archives.archive import read_archive, write_archive
from search.archives.consistency import check as faults_of
from search.archives.consistency import missing_weights
from search.archives.copy import backup as back_up
from search.archives.copy import copy as copy_record
from search.archives.gc import free
from search.record.database import Database
from search.record.store import Store
from search.trial import SearchStage
from service.settings import load_settings
from service.terminal.console import say
from space.errors import RunError, StoreError

READER = "mobilenas_reader"


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


def upgrade(url: str) -> None:
    """The command `db upgrade`: the current schema, and on PostgreSQL a role that may read and nothing else."""
    password = load_settings().reader_password
    with _opened(url) as database:
        before = database.revision()
        database.upgrade()
        after = database.revision()
        changed = f"schema {before or 'none'} → {after}" if before != after else f"schema {after} is current"
        say(f"{database.shown_url}: {changed}")
        if password is None:
            return
        if database.is_sqlite:
            say(f"no role {READER}: whoever can read the SQLite file can read the record")
        else:
            database.grant_reader(READER, password.get_secret_value())
            say(f"role {READER} may read")


def check(url: str) -> None:
    """The command `db check`.

    Raises:
        StoreError: something is wrong.
    """
    with _opened(url) as database:
        faults = 0
        for line in faults_of(database):
            say(line)
            faults += 1
        if faults:
            raise StoreError(f"the database {database.shown_url} has {faults} fault(s)")
        absent = missing_weights(database)
        if absent:
            say(f"{len(absent)} file(s) of weights are not on this machine, such as {absent[0]}")
        say(f"{database.shown_url}: no faults")


def copy(source: str, target: str) -> None:
    """The command `db copy`."""
    with _opened(source) as read, _opened(target) as written:
        counts = copy_record(read, written)
        say(f"{sum(counts.values()):,} rows copied into {written.shown_url}: {_told(counts)}")


def backup(url: str, out: Path) -> None:
    """The command `db backup`."""
    with _opened(url) as database:
        counts = back_up(database, out)
    say(f"{sum(counts.values()):,} rows written into {out}: {_told(counts)}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {table}" for table, count in counts.items() if count) or "it was empty"


def archive(url: str, name: str, out: Path) -> None:
    """The command `archive NAME --out`; `-` is stdout."""
    with _opened(url) as database:
        if out == Path("-"):
            if sys.stdout.isatty():
                raise RunError("a zip file cannot be shown on a terminal; redirect it, or name a file with --out")
            sys.stdout.flush()
            write_archive(database, name, sys.stdout.buffer)
            return
        if out.exists():
            raise RunError(f"{out} exists already; choose another --out")
        draft = out.with_name(f".{out.name}.tmp")
        try:
            with draft.open("wb") as file:
                count = write_archive(database, name, file)
            draft.replace(out)
        except OSError as error:
            raise RunError(f"{out} cannot be written: {error}; choose another --out") from error
        finally:
            draft.unlink(missing_ok=True)
    say(f"search '{name}' with {count} files is in {out} ({out.stat().st_size / 1e6:.1f} MB)")


def import_archive(url: str, source: Path, runs: Path, name: str | None) -> None:
    """The command `archive --import`; `-` is stdin."""
    store = Store.open(url)
    store.close()
    try:
        with TemporaryFile() if source == Path("-") else source.open("rb") as file, _opened(url) as database:
            if source == Path("-"):
                shutil.copyfileobj(sys.stdin.buffer, file)
                file.seek(0)
            name = read_archive(database, file, runs, name)
    except OSError as error:
        raise RunError(f"{source} cannot be read: {error}") from error
    say(f"search '{name}' is imported; its files are in {(runs / name).absolute()}")


def gc(url: str, search: str | None, *, dry_run: bool) -> None:
    """The command `gc`."""
    store = Store.open(url)
    try:
        records = [store.searches.get(search)] if search is not None else store.searches.all()
        done = [record for record in records if search is not None or record.stage is SearchStage.DONE]
        freed = [free(store, record, dry_run=dry_run) for record in done]
    finally:
        store.close()
    for each in freed:
        if each.files or each.trials:
            say(f"{each.search}: {len(each.files)} files of {len(each.trials)} trials, {each.bytes / 1e6:.1f} MB")
    total = sum(each.bytes for each in freed) / 1e6
    say(f"{'would free' if dry_run else 'freed'} {total:.1f} MB in {len(done)} finished searches")
