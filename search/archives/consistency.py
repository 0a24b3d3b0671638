"""Whether a record is whole: the file itself, and what its rows say of each other."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, func, select, true

from latency.table import read_measurement
from search.config.load import parse_config
from search.record.database import Database
from search.record.rows import (
    measurement_from_row,
    present_from_row,
    present_measurement_from_row,
    search_from_row,
    step_from_row,
    trial_from_row,
)
from search.record.schema import (
    REVISIONS,
    exports,
    latency_entries,
    metadata,
    netadapt_steps,
    network_measurements,
    present_measurements,
    present_models,
    searches,
    trials,
)
from search.trial import SearchStage, State
from space.arch import Architecture
from space.errors import MobilenasError
from space.keys import parse_key


def check(database: Database) -> Iterator[str]:
    """One line for each fault that is found; nothing is changed.

    Raises:
        StoreError: the database cannot be read at all.
    """
    revision = database.revision()
    if revision != REVISIONS[-1]:
        yield f"schema {revision or 'none'} is not the current {REVISIONS[-1]}; run: mobilenas db upgrade"
        return
    with database.read() as connection:
        if database.is_sqlite:
            yield from _check_file(connection)
        yield from search_faults(connection)
        yield from _check_keys(connection)


def search_faults(connection: Connection, search_id: int | None = None) -> Iterator[str]:
    """The faults of one search, or of all searches and of the tables beside them."""
    yield from _check_values(connection, search_id)
    which = true() if search_id is None else searches.c.id == search_id
    yield from _check_searches(connection, which)
    yield from _check_walks(connection, which)
    yield from _check_architectures(connection, which)


def missing_weights(database: Database) -> list[Path]:
    """Weights files that the record names and this machine does not have; the run folders may be elsewhere."""
    query = (
        select(searches.c.run_folder, trials.c.weights)
        .join(searches, searches.c.id == trials.c.search_id)
        .where(trials.c.weights.is_not(None), searches.c.run_folder.is_not(None))
        .order_by(trials.c.id)
    )
    with database.read() as connection:
        files = [Path(folder) / name for folder, name in connection.execute(query)]
    return [file for file in files if not file.is_file()]


def _check_file(connection: Connection) -> Iterator[str]:
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield f"the file is damaged: {line}; restore it from a backup"
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to a row of {parent} that is missing"


# Sections that earlier versions did not record, since they knew nothing of them.
_SINCE_0_2 = {"race", "supernet", "supernet_hash", "init", "init_hash", "init_images", "present"}


def _read_search(row: RowMapping) -> None:
    record = search_from_row(row, (), datetime.now(UTC))
    whole = parse_config(row["config"]).model_dump(mode="json")
    if missing := sorted(set(whole) - set(row["config"]) - _SINCE_0_2):
        raise ValueError(f"the configuration of search {record.name!r} lacks {', '.join(missing)}")


def _read_trial(row: RowMapping) -> None:
    if trial_from_row(row).stage in (SearchStage.QUEUED, SearchStage.AWAITING, SearchStage.DONE):
        raise ValueError(f"trial {row['number']} belongs to no stage, got {row['stage']!r}")


def _read_measurement(row: RowMapping) -> None:
    measurement_from_row(row)
    _check_samples(row)


def _read_present_measurement(row: RowMapping) -> None:
    present_measurement_from_row(row)
    _check_samples(row)


def _read_present(row: RowMapping) -> None:
    found = present_from_row(row)
    if not 0 <= found.correct <= found.total or found.total == 0:
        raise ValueError(f"the present model has {found.correct} of {found.total} images right")
    if not found.name.isprintable() or len(found.name) > 255 or not re.fullmatch("[0-9a-f]{64}", found.sha256):
        raise ValueError(f"the present model's name or hash is none: {found.name[:60]!r}, {found.sha256[:70]!r}")


def _check_samples(row: RowMapping) -> None:
    if not row["samples"] or not all(type(sample) in (int, float) and sample > 0 for sample in row["samples"]):
        raise ValueError(f"a measured network's samples must be positive numbers, got {str(row['samples'])[:60]}")


def _read_export(row: RowMapping) -> None:
    if not all(isinstance(item, str) for pair in row["files"].items() for item in pair):
        raise ValueError(f"an export's files must be names with their SHA-256, got {str(row['files'])[:60]}")


# How other commands read a row; what is not named is read column by column.
_READERS: dict[Table, Callable[[RowMapping], Any]] = {
    latency_entries: lambda row: read_measurement(row["samples"]),
    searches: _read_search,
    trials: _read_trial,
    netadapt_steps: step_from_row,
    network_measurements: _read_measurement,
    present_models: _read_present,
    present_measurements: _read_present_measurement,
    exports: _read_export,
}


def _check_values(connection: Connection, search_id: int | None) -> Iterator[str]:
    for table in metadata.sorted_tables:
        read = _READERS.get(table, dict)
        query = select(table).order_by(*table.primary_key).execution_options(yield_per=1000)
        if search_id is not None:
            owner = searches.c.id if table is searches else table.c.get("search_id")
            if owner is None:
                continue
            query = query.where(owner == search_id)
        try:
            with connection.execute(query) as found:
                for row in found.mappings():
                    read(row)
        except (MobilenasError, ValueError, TypeError, LookupError, AttributeError) as error:
            yield f"table {table.name} has a row that cannot be read: {' '.join(str(error).split())}"


def _check_searches(connection: Connection, which: ColumnElement[bool]) -> Iterator[str]:
    complete = trials.c.state == State.COMPLETE.value
    numbers = (
        select(searches.c.name, func.count(trials.c.id), func.max(trials.c.number))
        .join(trials)
        .where(which)
        .group_by(searches.c.id, searches.c.name)
    )
    for name, count, largest in connection.execute(numbers.order_by(searches.c.id)):
        if count != largest + 1:
            yield f"search {name!r} has {count} trials, but the last one's number is {largest}"
    faults = {
        "is complete without a result": complete & (trials.c.top1.is_(None) | trials.c.finished_at.is_(None)),
        "is running in a search that is done": (trials.c.state == State.RUNNING.value)
        & (searches.c.stage == SearchStage.DONE.value),
        "has a top-1 outside 0-1": (trials.c.top1 < 0) | (trials.c.top1 > 1),
        "has a latency that is not positive": trials.c.latency_ms <= 0,
        "has more images classified correctly than there are": trials.c.correct > trials.c.total,
    }
    for words, condition in faults.items():
        query = select(searches.c.name, trials.c.number).join(trials).where(which, condition).order_by(trials.c.id)
        for name, number in connection.execute(query):
            yield f"trial {number} of search {name!r} {words}"
    source = trials.alias()
    query = (
        select(searches.c.name, trials.c.number)
        .join(trials, trials.c.search_id == searches.c.id)
        .join(source, source.c.id == trials.c.reused_from)
        .where(which, (source.c.state != State.COMPLETE.value) | (source.c.arch_id != trials.c.arch_id))
    )
    for name, number in connection.execute(query.order_by(trials.c.id)):
        yield f"trial {number} of search {name!r} takes its result from a trial that has none for its network"


def _check_walks(connection: Connection, which: ColumnElement[bool]) -> Iterator[str]:
    steps = netadapt_steps
    query = select(searches.c.name, steps.c.iteration, steps.c.parent, steps.c.trial).join(steps)
    before: tuple[str, int, int] | None = None
    for name, iteration, parent, trial in connection.execute(
        query.where(which).order_by(searches.c.id, steps.c.iteration)
    ):
        expected = (1, parent) if before is None or before[0] != name else (before[1] + 1, before[2])
        if (iteration, parent) != expected:
            yield f"NetAdapt step {iteration} of search {name!r} does not go on from the one before"
        before = (name, iteration, trial)


def _check_architectures(connection: Connection, which: ColumnElement[bool]) -> Iterator[str]:
    known: dict[str, str] = {}
    query = select(searches.c.name, trials.c.number, trials.c.arch_id, trials.c.architecture)
    for name, number, arch_id, spec in connection.execute(query.join(trials).where(which).order_by(trials.c.id)):
        if spec not in known:
            try:
                known[spec] = Architecture.from_json(spec).arch_id
            except MobilenasError as error:
                known[spec] = f"unreadable: {error}"
        if known[spec] != arch_id:
            yield f"the architecture of trial {number} of search {name!r} is not the one of its id {arch_id}"


def _check_keys(connection: Connection) -> Iterator[str]:
    for table_id, key in connection.execute(select(latency_entries.c.table_id, latency_entries.c.key)):
        try:
            parse_key(key)
        except (MobilenasError, ValueError):
            yield f"latency table {table_id} has an entry {key!r}, which is no block"
