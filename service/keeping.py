"""Commands that keep the record: db upgrade, check, copy and backup."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from search import transfer
from search.check import check as faults_of
from search.check import missing_weights
from search.database import Database
from service.settings import load_settings
from space.errors import StoreError

READER = "mobilenas_reader"

console = Console()


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


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
        _say(f"{database.shown_url}: {changed}")
        if password is None:
            return
        if database.is_sqlite:
            _say(f"no role {READER}: whoever may read an SQLite file may read it")
        else:
            database.grant_reader(READER, password.get_secret_value())
            _say(f"role {READER} may read")


def check(url: str) -> None:
    """The command `db check`.

    Raises:
        StoreError: something is wrong.
    """
    with _opened(url) as database:
        faults = 0
        for line in faults_of(database):
            _say(line)
            faults += 1
        if faults:
            raise StoreError(f"the database {database.shown_url} has {faults} fault(s)")
        absent = missing_weights(database)
        if absent:
            _say(f"{len(absent)} weights file(s) are not on this machine, such as {absent[0]}")
        _say(f"{database.shown_url}: no faults")


def copy(source: str, target: str) -> None:
    """The command `db copy`."""
    with _opened(source) as read, _opened(target) as written:
        counts = transfer.copy(read, written)
        _say(f"{sum(counts.values()):,} rows copied into {written.shown_url}: {_told(counts)}")


def backup(url: str, out: Path) -> None:
    """The command `db backup`."""
    with _opened(url) as database:
        counts = transfer.backup(database, out)
    _say(f"{sum(counts.values()):,} rows written into {out}: {_told(counts)}")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {table}" for table, count in counts.items() if count) or "it was empty"
