"""What an archive from outside may hold: every name, size, type and value is checked before anything is written."""

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Integer, Table, Text

from latency.device import Device
from latency.table import calibrations_from_plain
from search.config.load import parse_config
from search.record.rows import SearchStart
from search.record.schema import (
    REVISIONS,
    SAME_TABLES,
    UtcDateTime,
    devices,
    exports,
    latency_entries,
    latency_tables,
    log_lines,
    metadata,
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
from search.trial import SearchStage
from space.arch import Architecture
from space.errors import InvalidTable, StoreError
from trainer.data.facts import DataFacts

FORMAT = 1
MANIFEST = "manifest.json"
MAX_FILES = 100_000
# Rows are held in memory, as values that are many times larger.
MAX_ROW_BYTES = 128 * 2**20
MAX_FILE_BYTES = 4 * 2**30
MAX_RUN_BYTES = 64 * 2**30
MAX_TEXT = 10 * 2**20
# Rows of numbers shrink to a tenth, weights hardly at all.
MAX_RATIO = 300
CHUNK = 2**20
# zipfile reads these in steps of bounded size; the others it unpacks whole, whatever that comes to.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNFIT = re.compile(r'[\\:*?"<>|\x00-\x1f\ud800-\udfff]')

# Texts end on terminals, where these would move the cursor or worse; lines and tabs are harmless.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Views add numbers up and convert moments; beyond these a row would break them for the whole record.
_YEARS = range(1970, 3000)
_MAX_NUMBER = 1e12
_MAX_COUNT = 2**45

# What a search knows from its beginning on, and a queued one does not; where a function predicts there is no table.
_START = [field.name for field in fields(SearchStart) if field.name not in ("table_id", "reference_ms", "data_facts")]

# Of each table the rows that belong to a search, in an order that foreign keys accept.
OF_SEARCH = (
    *(search_targets, search_labels, log_lines, trials, trial_latencies),
    *(netadapt_steps, network_measurements, present_models, present_measurements, exports),
)
TABLES: dict[str, Table] = {
    table.name: table for table in (devices, latency_tables, latency_entries, searches, *OF_SEARCH)
}

# Columns that archives of the oldest schema that is read do not have, and what they mean by that.
_ADDED: dict[str, dict[str, int | None]] = {
    "latency_entries": dict.fromkeys(("low_ms", "high_ms", "spread")),
    "searches": {"group_name": None, "priority": 0, "data_facts": None},
    "trials": dict.fromkeys(("peak_bytes", "sampler_attrs", "log_likelihood", "probability")),
}
# Tables that they do not have.
_NEW = {search_targets.name, trial_latencies.name, present_models.name, present_measurements.name}

Rows = Mapping[Table, list[dict[str, Any]]]

# How devices are reached is nobody else's business, a table's validations are its owner's, what signals are worth is
# of a data set.
_KEPT_HERE = ("device_settings", "validations", "validated_networks", "signal_qualities")
assert {*TABLES, *_KEPT_HERE} == set(metadata.tables), "a new table must say whether it belongs to a search"


class InvalidArchive(StoreError):
    """A file is no archive of a search, or a damaged or a malicious one."""


def open_archive(source: IO[bytes]) -> zipfile.ZipFile:
    """The archive in a file."""
    try:
        return zipfile.ZipFile(source)
    except OSError as error:  # a directory that begins before the file, or a pipe
        raise InvalidArchive(f"the archive cannot be read ({error}); ask for a new one") from error


def check_members(archive: zipfile.ZipFile, length: int) -> dict[str, str]:
    """Check all names and sizes of an archive of so many bytes, and return the SHA-256 of the run folder's files."""
    members = archive.infolist()
    if len(members) > MAX_FILES:
        raise InvalidArchive(f"the archive has more than {MAX_FILES} files")
    names = {member.filename for member in members}
    if len(names) != len(members):
        raise InvalidArchive("the archive holds a name twice")
    known = {MANIFEST, *(f"rows/{name}.jsonl" for name in TABLES)}
    if missing := known - names - {f"rows/{name}.jsonl" for name in _NEW}:
        raise InvalidArchive(f"the archive lacks {', '.join(sorted(missing))}")
    for member in members:
        if member.filename not in known and not is_confined(member.filename):
            raise InvalidArchive(f"the archive holds {member.filename!r}, which is no part of a search")
        if member.compress_type not in _METHODS:
            raise InvalidArchive(f"{member.filename!r} is compressed in another way than mobilenas does")
        if member.file_size > MAX_FILE_BYTES:
            raise InvalidArchive(f"{member.filename!r} is larger than {MAX_FILE_BYTES} bytes")
    _check_sizes(members, length)
    manifest = _json(archive.read(MANIFEST))
    if manifest["format"] != FORMAT or manifest["schema"] not in SAME_TABLES:
        raise InvalidArchive(
            f"the archive has format {manifest['format']!r} and schema {manifest['schema']!r}, here they are {FORMAT} "
            f"and {REVISIONS[-1]!r}; upgrade the older mobilenas, then archive again"
        )
    files = {f"run/{inside}": str(about["sha256"]) for inside, about in manifest["files"].items()}
    if set(files) != names - known:
        raise InvalidArchive("the archive does not hold the files that it lists")
    return files


def _check_sizes(members: list[zipfile.ZipInfo], length: int) -> None:
    # zipfile gives no more bytes of a member than the directory says, so that these sums bound what is written.
    packed, unpacked = sum(each.compress_size for each in members), sum(each.file_size for each in members)
    if packed > length:
        raise InvalidArchive("parts of the archive overlap")
    if unpacked > MAX_RATIO * packed + CHUNK:
        raise InvalidArchive(f"the archive claims to hold {unpacked} bytes, which is not credible")
    rows = sum(each.file_size for each in members if not each.filename.startswith("run/"))
    for what, size, cap in (("rows", rows, MAX_ROW_BYTES), ("run folder", unpacked - rows, MAX_RUN_BYTES)):
        if size > cap:
            raise InvalidArchive(f"the {what} of the archive would be larger than {cap} bytes")


def is_confined(member: str) -> bool:
    """Whether a name is one of the run folder and means a plain path inside it, on every system."""
    first, *parts = member.split("/")
    return (
        first == "run"
        and 0 < len(parts) <= 16
        and all(0 < len(part) <= 200 and not set(part) <= {"."} and not _UNFIT.search(part) for part in parts)
    )


def extract(archive: zipfile.ZipFile, files: Mapping[str, str], draft: Path) -> None:
    """Write the files of the run folder, checked by their SHA-256, into a new folder."""
    draft.mkdir(parents=True)
    for member, sha256 in files.items():
        path = draft.joinpath(*member.split("/")[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with archive.open(member) as source, path.open("xb") as target:
            while chunk := source.read(CHUNK):
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


def _texts(content: object) -> Iterator[str]:
    """All strings of a JSON value, keys among them."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for pair in content.items():
            yield from _texts(list(pair))
    elif isinstance(content, list):
        for item in content:
            yield from _texts(item)


def _rows(archive: zipfile.ZipFile, table: Table) -> list[dict[str, Any]]:
    names = set(table.c.keys())
    rows: list[dict[str, Any]] = []
    if table.name in _NEW and f"rows/{table.name}.jsonl" not in archive.namelist():
        return rows
    for line in archive.read(f"rows/{table.name}.jsonl").splitlines():
        content = _json(line)
        if faults := [text for text in _texts(content) if _CONTROL.search(text)]:
            raise InvalidArchive(f"a row of {table.name} has control characters in {faults[0][:40]!r}")
        if isinstance(content, dict):
            content = {**_ADDED.get(table.name, {}), **content}
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
        if moment.tzinfo is not None and moment.year in _YEARS:
            return moment.astimezone(UTC)
    if value is None or not _fits(column, value):
        raise InvalidArchive(f"{column} cannot be {str(value)[:40]!r}")
    return float(value) if isinstance(kind, Double) else value


def _fits(column: Column[Any], value: Any) -> bool:  # noqa: ANN401 - a column's
    kind = column.type
    if isinstance(kind, Boolean):
        return isinstance(value, bool)
    if isinstance(kind, Text):
        return isinstance(value, str) and len(value) <= MAX_TEXT
    if isinstance(kind, Double):
        # Only the constants of a fit are negative, and those are JSON.
        lowest = math.ulp(0) if column.name.endswith("_ms") else 0
        return type(value) in (int, float) and lowest <= value <= _MAX_NUMBER
    if isinstance(kind, BigInteger):
        return type(value) is int and 0 <= value < (2**63 if column.name == "seed" else _MAX_COUNT)
    if isinstance(kind, Integer) or column.foreign_keys:
        return type(value) is int and (-(2**31) if column.name == "priority" else 0) <= value < 2**31
    return isinstance(kind, JSON)


# What the rows say of each other


def read_rows(archive: zipfile.ZipFile) -> Rows:
    """The rows of all tables, each of them what the product could have written; of `searches` it is one."""
    rows = {table: _rows(archive, table) for table in TABLES.values()}
    _check_search(rows)
    _check_tables(rows)
    for row in rows[trials]:
        _check_trial(row)
    return rows


def _check_search(rows: Rows) -> None:
    if len(rows[searches]) != 1:
        raise InvalidArchive(f"the archive holds {len(rows[searches])} searches, not one")
    (search,) = rows[searches]
    # Whole, as the product wrote it: other commands read single keys of it.
    search["config"] = parse_config(search["config"]).model_dump(mode="json")
    if search["data"] != search["config"]["data"]["source"]:
        raise InvalidArchive("the search's data is not the one of its configuration")
    stage, unknown = SearchStage(search["stage"]), [name for name in _START if search[name] is None]
    if unknown and (len(unknown) < len(_START) or stage is not SearchStage.QUEUED):
        raise InvalidArchive(f"the search is at stage {search['stage']!r} without {', '.join(unknown)}")
    if search["data_facts"] is not None:
        search["data_facts"] = DataFacts.from_plain(search["data_facts"]).to_plain()
    config = parse_config(search["config"])
    lacks = search["table_id"] is None or search["device_id"] is None
    if not unknown and (lacks != (config.latency is not None) or (lacks and search["device_id"] is not None)):
        raise InvalidArchive("the search's latency table is not the one of its configuration")
    if config.callables and stage is not SearchStage.DONE:
        # Whoever resumed it would run functions that somebody else named.
        raise InvalidArchive(f"the search is not done and calls {config.callables[0]}; ask for it when it is done")


def _check_tables(rows: Rows) -> None:
    for row in rows[devices]:
        if device_of(row).fingerprint != row["fingerprint"]:
            raise InvalidArchive(f"the fingerprint of device {row['name']!r} is not its own")
    for row in rows[latency_tables]:
        try:
            calibrations_from_plain(row["calibration"])
        except (InvalidTable, TypeError, AttributeError) as error:
            raise InvalidArchive(f"a latency table's conditions or calibration are none: {error}") from error
        if not isinstance(row["conditions"], dict):
            raise InvalidArchive("a latency table's conditions or calibration are none")


def _check_trial(row: dict[str, Any]) -> None:
    # Views take the text apart, so it must be one that we would write.
    row["architecture"] = Architecture.from_json(row["architecture"]).to_json()
    if row["weights"] is not None and not is_confined(f"run/{row['weights']}"):
        raise InvalidArchive(f"the weights of trial {row['number']} are no file of the run folder")
    if not isinstance(row["params"], dict | None) or not all(map(_is_plain, (row["params"] or {}).values())):
        raise InvalidArchive(f"the parameters of trial {row['number']} are no plain values")
    if not isinstance(row["sampler_attrs"], dict | None):
        raise InvalidArchive(f"what the sampler noted of trial {row['number']} is no dictionary")


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def device_of(row: Mapping[str, Any]) -> Device:
    """The device of a row."""
    return Device(**{name: value for name, value in row.items() if name not in ("id", "fingerprint")})
