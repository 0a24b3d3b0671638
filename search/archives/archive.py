"""One search in one file: its rows, its latency tables and its run folder, to hand to a colleague.

A zip file with `manifest.json` (format, schema, name, sizes and SHA-256 of the files), `rows/<table>.jsonl` (a row per
line, columns by name) and `run/…` (the run folder). What is read back comes from outside: every name, size, type and
value is checked before anything is written, and either all of it arrives or nothing.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    insert,
    select,
)
from sqlalchemy.exc import StatementError

from search.archives.checks import (
    CHUNK,
    FORMAT,
    MANIFEST,
    OF_SEARCH,
    InvalidArchive,
    Rows,
    check_members,
    device_of,
    extract,
    is_confined,
    open_archive,
    read_rows,
)
from search.archives.consistency import search_faults
from search.record import tables
from search.record.database import Database, insert_new
from search.record.schema import (
    REVISIONS,
    devices,
    exports,
    latency_entries,
    latency_tables,
    log_lines,
    netadapt_steps,
    network_measurements,
    present_measurements,
    present_models,
    search_labels,
    search_targets,
    searches,
    trial_latencies,
    trials,
)
from search.record.views import VIEWS
from search.run_folder import KITS
from space.errors import MobilenasError, RunError, StoreError

# What belongs to a process, not to the search.
_LEFT_OUT = (".tmp", ".lock")

# RuntimeError is also a password, and RecursionError a value that is nested too deeply.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError),
    *(ValueError, LookupError),
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _fit_name(name: object) -> str:
    """A search's name becomes a folder."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArchive(f"search name {name!r} must match {_NAME.pattern}; choose another with --name")
    return name


def write_archive(database: Database, name: str, out: IO[bytes]) -> int:
    """Write a search into a file that need not be seekable, and return the number of files of its run folder.

    Raises:
        StoreError: there is no such search.
        RunError: a file of the run folder has a name that not every system can have.
    """
    with database.read() as connection, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        search = connection.execute(select(searches).where(searches.c.name == name)).mappings().one_or_none()
        if search is None:
            raise StoreError(f"there is no search named {name!r}; see: mobilenas searches")
        for table, query in _queries(search["id"]).items():
            with archive.open(f"rows/{table.name}.jsonl", "w") as member:
                for row in connection.execute(query).mappings():
                    member.write(f"{json.dumps(dict(row), default=datetime.isoformat)}\n".encode())
        files = {}
        for path, inside in _files(Path(search["run_folder"])) if search["run_folder"] else ():
            digest, size = hashlib.sha256(), 0
            with path.open("rb") as source, archive.open(f"run/{inside}", "w", force_zip64=True) as member:
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    member.write(chunk)
            files[str(inside)] = {"sha256": digest.hexdigest(), "bytes": size}
        manifest = {"format": FORMAT, "schema": REVISIONS[-1], "search": name, "files": files}
        archive.writestr(MANIFEST, json.dumps(manifest, indent=2))
    return len(files)


def _queries(search_id: int) -> dict[Table, Select[Any]]:
    used = (
        select(searches.c.table_id)
        .where(searches.c.id == search_id)
        .union(
            select(network_measurements.c.table_id).where(network_measurements.c.search_id == search_id),
            select(present_measurements.c.table_id).where(present_measurements.c.search_id == search_id),
            select(search_targets.c.table_id).where(search_targets.c.search_id == search_id),
        )
    )
    tables = latency_tables.c.id.in_(used)
    of_search = {table: table.c.search_id == search_id for table in OF_SEARCH}
    conditions: dict[Table, ColumnElement[bool]] = {
        devices: devices.c.id.in_(select(latency_tables.c.device_id).where(tables)),
        latency_tables: tables,
        latency_entries: latency_entries.c.table_id.in_(used),
        searches: searches.c.id == search_id,
        **of_search,
    }
    return {table: select(table).where(which).order_by(*table.primary_key) for table, which in conditions.items()}


def _files(folder: Path) -> Iterator[tuple[Path, PurePosixPath]]:
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        linked = any((folder / part).is_symlink() for part in (inside, *inside.parents[:-1]))
        if path.is_file() and not linked and not path.name.endswith(_LEFT_OUT):
            member = PurePosixPath(*inside.parts)
            if not is_confined(f"run/{member}"):
                raise RunError(f"file {str(path)!r} has a name that not every system can have; rename it or move it")
            yield path, member


def read_archive(database: Database, source: IO[bytes], runs: Path, name: str | None = None) -> str:
    """Record the search of an archive under its own or another name, and return that; its files go into `runs`.

    Latency tables that the record holds already are not recorded again. The search is not claimed and not queued.

    Raises:
        InvalidArchive: it is none, or damaged.
        StoreError: the name is taken.
        RunError: its run folder is taken.
    """
    draft = runs / f".import-{secrets.token_hex(8)}"
    try:
        with open_archive(source) as archive:
            files = check_members(archive, source.seek(0, os.SEEK_END))
            rows = read_rows(archive)
            name = _fit_name(rows[searches][0]["name"] if name is None else name)
            folder = (runs / name).absolute()
            if folder.exists() and any(folder.iterdir()):
                raise RunError(f"folder {folder} exists already and is not empty; choose another --name or --runs")
            extract(archive, files, draft)
        for kit in KITS:  # programs that people run on their devices: they are made here again
            (draft / kit).unlink(missing_ok=True)
        _record(database, rows, name, folder, draft)
    except MobilenasError:
        raise
    except _UNREADABLE as error:
        raise InvalidArchive(
            f"the archive cannot be read ({type(error).__name__}: {error}); ask for a new one"
        ) from error
    except StatementError as error:  # a value that SQLAlchemy cannot turn into the database's
        raise InvalidArchive(f"the archive holds a wrong value ({error.orig}); ask for a new one") from error
    except (TypeError, AttributeError, OverflowError) as error:
        raise InvalidArchive(f"the archive holds a wrong value ({error}); ask for a new one") from error
    except OSError as error:
        raise RunError(f"the files cannot be written into {runs}: {error}; choose another --runs") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return name


# Recording


def _record(database: Database, rows: Rows, name: str, folder: Path, draft: Path) -> None:
    moved = False
    try:
        with database.write() as connection:
            if connection.scalar(select(searches.c.id).where(searches.c.name == name)) is not None:
                raise StoreError(f"a search named {name!r} exists already; choose another --name")
            _insert_all(connection, rows, name, folder)
            draft.rename(folder)
            moved = True
    except BaseException:
        if moved:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _insert_all(connection: Connection, rows: Rows, name: str, folder: Path) -> None:
    device_ids = {row["id"]: _known_device(connection, row) for row in rows[devices]}
    table_ids = {row["id"]: _known_table(connection, row, device_ids) for row in rows[latency_tables]}
    entries = [{**row, "table_id": table_ids[row["table_id"]]} for row in rows[latency_entries]]
    for entry in entries:
        del entry["id"]
    if entries:
        connection.execute(insert_new(connection, latency_entries, "table_id", "key"), entries)
    for table_id in set(table_ids.values()):
        tables.load_table(connection, table_id)
    (search,) = rows[searches]
    values = {
        **search,
        "name": name,
        "config": {**search["config"], "name": name},
        "run_folder": str(folder) if search["run_folder"] is not None else None,
        "device_id": None if search["device_id"] is None else device_ids[search["device_id"]],
        "table_id": None if search["table_id"] is None else table_ids[search["table_id"]],
        "queued_at": None,
        "claimed_by": None,
        "heartbeat_at": None,
        "claims": 0,
    }
    search_id = _insert(connection, searches, values)
    trial_ids: dict[int, int] = {}
    for row in sorted(rows[trials], key=lambda row: row["number"]):
        # What was taken over from another search came with a copy of its weights.
        origin = trial_ids.get(row["reused_from"])
        trial_ids[row["id"]] = _insert(connection, trials, {**row, "search_id": search_id, "reused_from": origin})
    remap: dict[str, Callable[[int], int]] = {"search_id": lambda _: search_id}
    _insert_rows(connection, search_labels, rows[search_labels], **remap)
    _insert_rows(connection, log_lines, rows[log_lines], **remap)
    _insert_rows(connection, netadapt_steps, rows[netadapt_steps], **remap)
    of_tables = {**remap, "table_id": table_ids.__getitem__}
    _insert_rows(connection, present_models, rows[present_models], **remap)
    for table in (search_targets, trial_latencies, network_measurements, present_measurements):
        _insert_rows(connection, table, rows[table], **of_tables)
    _insert_rows(connection, exports, rows[exports], **remap, trial_id=trial_ids.__getitem__)
    _read_back(connection, search_id, name)


def _read_back(connection: Connection, search_id: int, name: str) -> None:
    """Read the new rows as every command and view will, so that nothing is recorded that breaks one of them."""
    if fault := next(search_faults(connection, search_id), None):
        raise InvalidArchive(f"the archive's search would be damaged: {fault}; ask for a new one")
    for title, described in VIEWS.items():
        view = described.as_table(title)
        query = select(view).where(view.c.search == name) if "search" in view.c else select(view)
        connection.execute(query).all()


def _known_device(connection: Connection, row: Mapping[str, Any]) -> int:
    return tables.device_id(connection, device_of(row))


def _known_table(connection: Connection, row: Mapping[str, Any], device_ids: Mapping[int, int]) -> int:
    device_id = device_ids[row["device_id"]]
    this = (latency_tables.c.device_id == device_id) & (latency_tables.c.scope == row["scope"])
    known: int | None = connection.scalar(
        select(latency_tables.c.id).where(this, latency_tables.c.created_at == row["created_at"])
    )
    return _insert(connection, latency_tables, {**row, "device_id": device_id}) if known is None else known


def _insert(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    values = {name: value for name, value in row.items() if name != "id"}
    return int(connection.execute(insert(table).values(values).returning(table.c.id)).scalar_one())


def _insert_rows(
    connection: Connection, table: Table, rows: list[dict[str, Any]], **remap: Callable[[int], int]
) -> None:
    """Insert rows under new ids, with foreign keys changed alike."""
    changed = [
        {name: remap[name](value) if name in remap else value for name, value in row.items() if name != "id"}
        for row in rows
    ]
    if changed:
        connection.execute(insert(table), changed)
