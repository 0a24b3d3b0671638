"""One search in one file: its rows, its latency tables and its run folder, to hand to a colleague.

A zip file with `manifest.json` (format, schema, name, sizes and SHA-256 of the files), `rows/<table>.jsonl` (a row per
line, columns by name) and `run/…` (the run folder). What is read back comes from outside: every name, size, type and
value is checked before anything is written, and either all of it arrives or nothing.
"""

import hashlib
import json
import math
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
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Select,
    Table,
    Text,
    insert,
    select,
)
from sqlalchemy.exc import StatementError

from latency.device import Device
from search import store_tables
from search.config import parse_config
from search.database import Database, insert_new
from search.record import measurement_from_row, step_from_row, trial_from_row
from search.schema import (
    REVISIONS,
    UtcDateTime,
    devices,
    exports,
    latency_entries,
    latency_tables,
    log_lines,
    metadata,
    netadapt_steps,
    network_measurements,
    search_labels,
    searches,
    trials,
)
from search.trial import Stage, State
from space.arch import Architecture
from space.errors import MobilenasError, RunError, StoreError

FORMAT = 1
MANIFEST = "manifest.json"
MAX_FILES = 100_000
MAX_ROW_BYTES = 512 * 2**20
MAX_RUN_BYTES = 64 * 2**30
MAX_TEXT = 10 * 2**20
# Rows of numbers shrink to a tenth, weights hardly at all.
MAX_RATIO = 300
_CHUNK = 2**20
# What belongs to a process, not to the search.
_LEFT_OUT = (".tmp", ".lock")

# Of each table the rows that belong to a search, in an order that foreign keys accept.
_OF_SEARCH = (search_labels, log_lines, trials, netadapt_steps, network_measurements, exports)
_TABLES: dict[str, Table] = {
    table.name: table for table in (devices, latency_tables, latency_entries, searches, *_OF_SEARCH)
}


class InvalidArchive(StoreError):
    """A file is no archive of a search, or a damaged or a malicious one."""


def write_archive(database: Database, name: str, out: IO[bytes]) -> int:
    """Write a search into a file that need not be seekable, and return the number of files of its run folder.

    Raises:
        StoreError: there is no such search.
    """
    with database.read() as connection, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        search = connection.execute(select(searches).where(searches.c.name == name)).mappings().one_or_none()
        if search is None:
            raise StoreError(f"there is no search named {name!r}; see `mobilenas searches`")
        for table, query in _queries(search["id"]).items():
            with archive.open(f"rows/{table.name}.jsonl", "w") as member:
                for row in connection.execute(query).mappings():
                    member.write(f"{json.dumps(dict(row), default=datetime.isoformat)}\n".encode())
        files = {}
        for path, inside in _files(Path(search["run_folder"])) if search["run_folder"] else ():
            digest, size = hashlib.sha256(), 0
            with path.open("rb") as source, archive.open(f"run/{inside}", "w", force_zip64=True) as member:
                while chunk := source.read(_CHUNK):
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
        .union(select(network_measurements.c.table_id).where(network_measurements.c.search_id == search_id))
    )
    tables = latency_tables.c.id.in_(used)
    of_search = {table: table.c.search_id == search_id for table in _OF_SEARCH}
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
            yield path, PurePosixPath(*inside.parts)


# RuntimeError is also a password, and RecursionError a value that is nested too deeply.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError),
    *(ValueError, LookupError),
)


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
        with zipfile.ZipFile(source) as archive:
            files = _members(archive)
            rows = {table: _rows(archive, table) for table in _TABLES.values()}
            search = _checked_search(rows)
            name = _fit_name(search["name"] if name is None else name)
            folder = (runs / name).absolute()
            if folder.exists():
                raise RunError(f"folder {folder} exists already; choose another --name or --runs")
            _extract(archive, files, draft)
        _record(database, rows, name, folder, draft)
    except MobilenasError:
        raise
    except _UNREADABLE as error:
        raise InvalidArchive(
            f"the archive cannot be read ({type(error).__name__}: {error}); ask for a new one"
        ) from error
    except (TypeError, AttributeError, OverflowError, StatementError) as error:
        raise InvalidArchive(
            f"the archive holds a wrong value ({' '.join(str(error).split())[:200]}); ask for a new one"
        ) from error
    except OSError as error:
        raise RunError(f"the files cannot be written into {runs}: {error}; choose another --runs") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return name


# What a file says of itself


_UNFIT = re.compile(r'[\\:*?"<>|\x00-\x1f]')
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def _fit_name(name: object) -> str:
    """A search's name becomes a folder."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArchive(f"search name {name!r} must match {_NAME.pattern}; choose another with --name")
    return name


def _members(archive: zipfile.ZipFile) -> dict[str, str]:
    """Check all names and sizes, and return the SHA-256 of every file of the run folder."""
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise InvalidArchive(f"the archive has more than {MAX_FILES} files")
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise InvalidArchive("the archive holds a name twice")
    known = {MANIFEST, *(f"rows/{name}.jsonl" for name in _TABLES)}
    if missing := known - names:
        raise InvalidArchive(f"the archive lacks {', '.join(sorted(missing))}")
    for member in members:
        if member.filename not in known and not _is_confined(member.filename):
            raise InvalidArchive(f"the archive holds {member.filename!r}, which is no part of a search")
        if member.file_size > MAX_RATIO * member.compress_size + _CHUNK:
            raise InvalidArchive(f"{member.filename!r} claims to be {member.file_size} bytes, which is beyond belief")
    for whose, cap in (("rows/", MAX_ROW_BYTES), ("run/", MAX_RUN_BYTES), (MANIFEST, MAX_ROW_BYTES)):
        if sum(member.file_size for member in members if member.filename.startswith(whose)) > cap:
            raise InvalidArchive(f"{whose} of the archive is larger than {cap} bytes")
    manifest = _json(archive.read(MANIFEST))
    if manifest["format"] != FORMAT or manifest["schema"] != REVISIONS[-1]:
        raise InvalidArchive(
            f"the archive has format {manifest['format']!r} and schema {manifest['schema']!r}, here they are {FORMAT} "
            f"and {REVISIONS[-1]!r}; upgrade the older mobilenas, then archive again"
        )
    files = {f"run/{inside}": str(about["sha256"]) for inside, about in manifest["files"].items()}
    if set(files) != names - known:
        raise InvalidArchive("the archive does not hold the files that it lists")
    return files


def _is_confined(member: str) -> bool:
    """Whether a name is one of the run folder and means a plain path inside it, on every system."""
    first, *parts = member.split("/")
    return (
        first == "run"
        and 0 < len(parts) <= 16
        and all(0 < len(part) <= 200 and not set(part) <= {"."} and not _UNFIT.search(part) for part in parts)
    )


def _extract(archive: zipfile.ZipFile, files: Mapping[str, str], draft: Path) -> None:
    draft.mkdir(parents=True)
    for member, sha256 in files.items():
        path = draft.joinpath(*member.split("/")[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        # zipfile gives no more bytes than the directory says, which was checked.
        with archive.open(member) as source, path.open("xb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != sha256:
            raise InvalidArchive(f"{member} is not what the archive lists; ask for a new one")


def _json(content: bytes) -> Any:  # noqa: ANN401 - JSON
    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise InvalidArchive(f"{text[:40]} is no number that a record may hold")
        return number

    try:
        return json.loads(content, parse_constant=finite, parse_float=finite)
    except RecursionError as error:
        raise InvalidArchive("the archive holds a value that is nested too deeply") from error


def _rows(archive: zipfile.ZipFile, table: Table) -> list[dict[str, Any]]:
    names = set(table.c.keys())
    rows = []
    for line in archive.read(f"rows/{table.name}.jsonl").splitlines():
        content = _json(line)
        if not isinstance(content, dict) or set(content) != names:
            raise InvalidArchive(f"a row of {table.name} does not have this table's columns")
        rows.append({name: _value(table.c[name], value) for name, value in content.items()})
    return rows


def _value(column: Column[Any], value: Any) -> Any:  # noqa: ANN401 - a column's
    """A value of the column's type, never a converted one but for dates and whole numbers."""
    kind = column.type
    if value is None and column.nullable:
        return None
    if isinstance(kind, UtcDateTime) and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment
    if isinstance(kind, Double) and type(value) in (int, float):
        return float(value)
    if value is None or not _fits(kind, value):
        raise InvalidArchive(f"{column} cannot be {str(value)[:40]!r}")
    return value


def _fits(kind: object, value: object) -> bool:
    if isinstance(kind, Boolean):
        return isinstance(value, bool)
    if isinstance(kind, Text):
        return isinstance(value, str) and len(value) <= MAX_TEXT and "\0" not in value
    if isinstance(kind, Integer):
        half = 2 ** (63 if isinstance(kind, BigInteger) else 31)
        return type(value) is int and -half <= value < half
    return isinstance(kind, JSON)


# What the rows say of each other


def _checked_search(rows: Mapping[Table, list[dict[str, Any]]]) -> dict[str, Any]:
    """Read everything as the product reads it, and return the one search."""
    if len(rows[searches]) != 1:
        raise InvalidArchive(f"the archive holds {len(rows[searches])} searches, not one")
    (search,) = rows[searches]
    parse_config(search["config"])
    Stage(search["stage"])
    if search["data"] != search["config"]["data"]["source"]:
        raise InvalidArchive("the search's data is not the one of its configuration")
    for row in rows[devices]:
        if _device(row).fingerprint != row["fingerprint"]:
            raise InvalidArchive(f"the fingerprint of device {row['name']!r} is not its own")
    for row in rows[trials]:
        _check_trial(row)
    for row in rows[exports]:
        if not all(isinstance(item, str) for pair in row["files"].items() for item in pair):
            raise InvalidArchive("an export's files are no names with their SHA-256")
    for row in rows[network_measurements]:
        if not row["samples"] or not all(type(sample) in (int, float) for sample in row["samples"]):
            raise InvalidArchive("a measured network has no samples, or such that are no numbers")
    return search


def _check_trial(row: Mapping[str, Any]) -> None:
    if Architecture.from_json(row["architecture"]).arch_id != row["arch_id"]:
        raise InvalidArchive(f"the architecture of trial {row['number']} is not the one of its id")
    if row["weights"] is not None and not _is_confined(f"run/{row['weights']}"):
        raise InvalidArchive(f"the weights of trial {row['number']} are no file of the run folder")
    if Stage(row["stage"]) in (Stage.QUEUED, Stage.DONE):
        raise InvalidArchive(f"trial {row['number']} belongs to no stage")
    State(row["state"])
    if row["params"] is not None and not all(
        value is None or isinstance(value, str | int | float) for value in row["params"].values()
    ):
        raise InvalidArchive(f"the parameters of trial {row['number']} are no plain values")


def _device(row: Mapping[str, Any]) -> Device:
    return Device(**{name: value for name, value in row.items() if name not in ("id", "fingerprint")})


# Recording


def _record(
    database: Database, rows: Mapping[Table, list[dict[str, Any]]], name: str, folder: Path, draft: Path
) -> None:
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


def _insert_all(connection: Connection, rows: Mapping[Table, list[dict[str, Any]]], name: str, folder: Path) -> None:
    device_ids = {row["id"]: _known_device(connection, row) for row in rows[devices]}
    table_ids = {}
    for row in rows[latency_tables]:
        new_id = table_ids[row["id"]] = _known_table(connection, row, device_ids)
        mine = [entry for entry in rows[latency_entries] if entry["table_id"] == row["id"]]
        entries = [{**entry, "table_id": new_id} for entry in mine]
        for entry in entries:
            del entry["id"]
        if entries:
            connection.execute(insert_new(connection, latency_entries, "table_id", "key"), entries)
        store_tables.load_table(connection, new_id)
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
    _insert_rows(connection, network_measurements, rows[network_measurements], **remap, table_id=table_ids.__getitem__)
    _insert_rows(connection, exports, rows[exports], **remap, trial_id=trial_ids.__getitem__)
    _read_back(connection, search_id)


def _read_back(connection: Connection, search_id: int) -> None:
    """Read the new rows as searches do, so that nothing is recorded that cannot be read."""
    for table, read in (
        (trials, trial_from_row),
        (netadapt_steps, step_from_row),
        (network_measurements, measurement_from_row),
    ):
        for row in connection.execute(select(table).where(table.c.search_id == search_id)).mappings():
            read(row)


def _known_device(connection: Connection, row: Mapping[str, Any]) -> int:
    return store_tables.device_id(connection, _device(row))


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


assert set(_TABLES) == set(metadata.tables), "a new table must say whether it belongs to a search"
