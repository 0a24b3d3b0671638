"""The record of all searches in SQL. The coordinator of a search is its only writer; anyone may read meanwhile."""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from latency.device import Device
from latency.measurement import Measurement
from latency.table import LatencyTable
from search import store_tables
from search.database import Database
from search.record import (
    ExportRecord,
    FoundEvaluation,
    SearchRecord,
    export_from_row,
    found_from_row,
    measurement_from_row,
    measurement_to_row,
    search_from_row,
    step_from_row,
    trial_from_row,
    trial_to_row,
)
from search.schema import (
    exports,
    netadapt_steps,
    network_measurements,
    searches,
    trial_summary,
    trials,
)
from search.store_tables import Reason
from search.trial import NetAdaptStep, NetworkMeasurement, Stage, State, Trial
from space.errors import StoreError
from space.keys import BlockKey

_BEST_FIRST = ("reward", "top1")


class Store:
    """All that mobilenas remembers; every method is one transaction and may raise StoreError.

    Threads may share a store; processes open one each.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    @classmethod
    def open(cls, url: str) -> "Store":
        """A store on a database of the current schema.

        Raises:
            StoreError: the database cannot be opened, is none, or was written by a newer mobilenas.
        """
        store = cls(url)
        try:
            store.upgrade()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def shown_url(self) -> str:
        """The database's URL with its password hidden."""
        return self._database.shown_url

    def upgrade(self) -> None:
        """Bring the database to the current schema.

        Raises:
            StoreError: the database cannot be opened, is none, or was written by a newer mobilenas.
        """
        self._database.upgrade()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    # Devices and latency tables

    def record_table(
        self,
        table: LatencyTable,
        *,
        conditions: Mapping[str, str | float],
        protocol: str,
        reasons: Mapping[BlockKey, Reason] | None = None,
    ) -> int:
        """Record a finished table with its device, and return its id; blocks without a reason belong to the space."""
        with self._database.write() as connection:
            return store_tables.record_table(
                connection, table, conditions=conditions, protocol=protocol, reasons=reasons or {}
            )

    def add_entries(self, table_id: int, entries: Mapping[BlockKey, Measurement], *, reason: Reason) -> None:
        """Add measured blocks to a table; blocks that it holds already keep their first measurement."""
        with self._database.write() as connection:
            store_tables.add_entries(connection, table_id, entries, reason=reason)

    def find_table(self, device: Device, scope: str) -> tuple[int, LatencyTable] | None:
        """The newest finished table of exactly this device (name and fingerprint) and scope, with its id."""
        with self._database.read() as connection:
            return store_tables.find_table(connection, device, scope)

    def load_table(self, table_id: int) -> LatencyTable:
        """A table with all its entries.

        Raises:
            StoreError: there is no such table.
        """
        with self._database.read() as connection:
            return store_tables.load_table(connection, table_id)

    def devices(self) -> list[dict[str, Any]]:
        """Per device: name, processor, threads, provider, runtime_version, tables, blocks, newest_table (a date)."""
        with self._database.read() as connection:
            return store_tables.list_devices(connection)

    # Searches

    def create_search(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        run_folder: str | os.PathLike[str],
        data_hash: str,
        table_id: int | None,
        target_ms: float,
        seed_target_ms: float,
        fastest_ms: float,
        slowest_ms: float,
        reference_ms: float,
    ) -> SearchRecord:
        """Record a new search at its first stage; `config` must be JSON.

        Raises:
            StoreError: the name is taken, or there is no such latency table.
        """
        now = datetime.now(UTC)
        with self._database.write() as connection:
            if connection.scalar(select(searches.c.id).where(searches.c.name == name)) is not None:
                raise StoreError(f"a search named {name!r} exists already; resume it, or choose another name")
            row = {
                "name": name,
                "config": dict(config),
                "stage": Stage.BLOCKS.value,
                "finish_requested": False,
                "run_folder": os.fspath(run_folder),
                "data_hash": data_hash,
                "device_id": None if table_id is None else store_tables.device_of(connection, table_id),
                "table_id": table_id,
                "target_ms": target_ms,
                "seed_target_ms": seed_target_ms,
                "fastest_ms": fastest_ms,
                "slowest_ms": slowest_ms,
                "reference_ms": reference_ms,
                "created_at": now,
                "updated_at": now,
            }
            connection.execute(insert(searches).values(row))
            return _search(connection, searches.c.name == name)

    def search(self, name: str) -> SearchRecord:
        """The search of this name.

        Raises:
            StoreError: there is none; the message names the nearest ones.
        """
        with self._database.read() as connection:
            row = connection.execute(select(searches).where(searches.c.name == name)).mappings().one_or_none()
            if row is not None:
                return search_from_row(row)
            names = list(connection.scalars(select(searches.c.name)))
        nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.0)
        hint = f"the nearest names are {', '.join(map(repr, nearest))}" if nearest else "there are none yet"
        raise StoreError(f"there is no search named {name!r}; {hint}; see `mobilenas searches`")

    def searches(self) -> list[SearchRecord]:
        """All searches, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(searches).order_by(searches.c.id)).mappings()
            return [search_from_row(row) for row in rows]

    def set_stage(self, search_id: int, stage: Stage, *, error: str | None = None) -> None:
        """Move a search to a stage; `error` says why it stopped there, and without one an earlier error is cleared."""
        finished_at = datetime.now(UTC) if stage is Stage.DONE else None
        with self._database.write() as connection:
            _change_search(connection, search_id, stage=stage.value, error=error, finished_at=finished_at)

    def request_finish(self, search_id: int) -> None:
        """Ask the coordinator to end with the best found so far."""
        with self._database.write() as connection:
            _change_search(connection, search_id, finish_requested=True)

    def finish_requested(self, search_id: int) -> bool:
        """Whether somebody asked for an early end."""
        with self._database.read() as connection:
            return _search(connection, searches.c.id == search_id).finish_requested

    # Trials

    def start_trial(self, search_id: int, trial: Trial) -> Trial:
        """Record a new trial and return it with its id and start time; one that needs no evaluation is finished too.

        Raises:
            StoreError: the search has a trial of this number, or no trial of the parent's number.
        """
        now = datetime.now(UTC)
        trial = replace(trial, started_at=trial.started_at or now)
        if trial.state is not State.RUNNING:
            trial = replace(trial, finished_at=trial.finished_at or now)
        with self._database.write() as connection:
            _change_search(connection, search_id)
            if _trial_id(connection, search_id, trial.number) is not None:
                raise StoreError(
                    f"search {search_id} has a trial {trial.number} already; is another process running this search?"
                )
            row = {"search_id": search_id, **trial_to_row(trial)}
            return replace(trial, id=connection.scalar(insert(trials).values(row).returning(trials.c.id)))

    def finish_trial(self, search_id: int, trial: Trial, *, reward: float | None = None) -> None:
        """Record a trial's outcome; doing it twice, or after a completed or a newer attempt, changes nothing.

        Raises:
            StoreError: the trial was never started.
        """
        assert trial.state is not State.RUNNING, f"trial {trial.number} is still running"
        this = (trials.c.search_id == search_id) & (trials.c.number == trial.number)
        with self._database.write() as connection:
            stored = connection.execute(select(trials).where(this).with_for_update()).mappings().one_or_none()
            if stored is None:
                raise StoreError(f"trial {trial.number} of search {search_id} was never started")
            if not _is_awaited(trial, state=State(stored["state"]), attempt=stored["attempt"]):
                return
            trial = replace(
                trial,
                started_at=trial.started_at or stored["started_at"],
                finished_at=trial.finished_at or datetime.now(UTC),
            )
            connection.execute(update(trials).where(this).values(**trial_to_row(trial), reward=reward))
            _change_search(connection, search_id)

    def trials(self, search_id: int, stage: Stage | None = None) -> list[Trial]:
        """The trials of a search, or of one of its stages, by number."""
        query = select(trials).where(trials.c.search_id == search_id).order_by(trials.c.number)
        if stage is not None:
            query = query.where(trials.c.stage == stage.value)
        with self._database.read() as connection:
            return [trial_from_row(row) for row in connection.execute(query).mappings()]

    def rewards(self, search_id: int) -> dict[int, float]:
        """The rewards of those trials that have one, by trial number."""
        query = (
            select(trials.c.number, trials.c.reward)
            .where(trials.c.search_id == search_id, trials.c.reward.is_not(None))
            .order_by(trials.c.number)
        )
        with self._database.read() as connection:
            return {row.number: row.reward for row in connection.execute(query)}

    def requeue_running(self, search_id: int) -> list[Trial]:
        """Start the next attempt of all trials that a dead coordinator left running, and return them, still running."""
        running = (trials.c.search_id == search_id) & (trials.c.state == State.RUNNING.value)
        with self._database.write() as connection:
            connection.execute(
                update(trials).where(running).values(attempt=trials.c.attempt + 1, started_at=datetime.now(UTC))
            )
            rows = connection.execute(select(trials).where(running).order_by(trials.c.number)).mappings()
            return [trial_from_row(row) for row in rows]

    def find_evaluations(self, evaluation_key: str) -> list[FoundEvaluation]:
        """The complete trials of all searches with this key, those first that were themselves evaluated."""
        query = (
            select(trials, searches.c.run_folder)
            .join(searches, searches.c.id == trials.c.search_id)
            .where(trials.c.evaluation_key == evaluation_key, trials.c.state == State.COMPLETE.value)
            .order_by(trials.c.reused_from.is_not(None), trials.c.id)
        )
        with self._database.read() as connection:
            return [found_from_row(row) for row in connection.execute(query).mappings()]

    # NetAdapt, measured networks, exports

    def add_step(self, search_id: int, step: NetAdaptStep) -> None:
        """Record one accepted step of the NetAdapt walk; both of its trials must be recorded."""
        with self._database.write() as connection:
            connection.execute(insert(netadapt_steps).values(search_id=search_id, **asdict(step)))

    def steps(self, search_id: int) -> list[NetAdaptStep]:
        """The NetAdapt walk in order."""
        query = select(netadapt_steps).where(netadapt_steps.c.search_id == search_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(netadapt_steps.c.iteration)).mappings()
            return [step_from_row(row) for row in rows]

    def add_network_measurements(
        self, search_id: int, table_id: int, measured: Sequence[tuple[NetworkMeasurement, Sequence[float]]]
    ) -> None:
        """Record networks that were measured side by side, all or none, each with its raw samples in ms."""
        now = datetime.now(UTC)
        rows = [
            {
                "search_id": search_id,
                "table_id": table_id,
                "samples": list(samples),
                "measured_at": now,
                **measurement_to_row(measurement),
            }
            for measurement, samples in measured
        ]
        with self._database.write() as connection:
            connection.execute(insert(network_measurements), rows)

    def network_measurements(self, search_id: int) -> list[NetworkMeasurement]:
        """The measured networks of a search, oldest first."""
        query = select(network_measurements).where(network_measurements.c.search_id == search_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(network_measurements.c.id)).mappings()
            return [measurement_from_row(row) for row in rows]

    def add_export(
        self, search_id: int, trial: int, *, folder: str | os.PathLike[str], files: Mapping[str, str]
    ) -> ExportRecord:
        """Record that a trial (by number) was exported; `files` maps file names to their SHA-256.

        Raises:
            StoreError: the search has no such trial.
        """
        export = ExportRecord(trial=trial, folder=Path(folder), files=dict(files), created_at=datetime.now(UTC))
        with self._database.write() as connection:
            trial_id = _trial_id(connection, search_id, trial)
            if trial_id is None:
                raise StoreError(f"search {search_id} has no trial {trial} to export")
            row = {"folder": str(export.folder), "files": export.files, "created_at": export.created_at}
            connection.execute(insert(exports).values(search_id=search_id, trial_id=trial_id, **row))
        return export

    def exports(self, search_id: int) -> list[ExportRecord]:
        """The exports of a search, oldest first."""
        query = select(exports, trials.c.number).join(trials).where(exports.c.search_id == search_id)
        with self._database.read() as connection:
            return [export_from_row(row) for row in connection.execute(query.order_by(exports.c.id)).mappings()]

    def summary_rows(self, search: str | None = None, sort: str = "number") -> list[dict[str, Any]]:
        """Rows of the view `trial_summary`, of one search or all; reward and top1 descend, others ascend, NULLs last.

        Raises:
            StoreError: there is no such search, or no such column.
        """
        columns = trial_summary.c
        if sort not in columns:
            raise StoreError(f"trials cannot be sorted by {sort!r}; choose one of {', '.join(columns.keys())}")
        first = columns[sort].desc() if sort in _BEST_FIRST else columns[sort].asc()
        query = select(trial_summary).order_by(first.nulls_last(), columns.search, columns.number)
        if search is not None:
            query = query.where(columns.search == self.search(search).name)
        with self._database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _is_awaited(trial: Trial, *, state: State, attempt: int) -> bool:
    """Whether this outcome is news for a trial that is recorded with `state` and `attempt`."""
    if state is State.COMPLETE or trial.attempt < attempt:
        return False
    return state is State.RUNNING or trial.attempt > attempt


def _search(connection: Connection, condition: ColumnElement[bool]) -> SearchRecord:
    row = connection.execute(select(searches).where(condition)).mappings().one_or_none()
    if row is None:
        raise StoreError("there is no such search; see `mobilenas searches`")
    return search_from_row(row)


def _change_search(connection: Connection, search_id: int, **values: str | bool | datetime | None) -> None:
    change = update(searches).where(searches.c.id == search_id).values(updated_at=datetime.now(UTC), **values)
    if connection.execute(change).rowcount == 0:
        raise StoreError(f"there is no search with id {search_id}; see `mobilenas searches`")


def _trial_id(connection: Connection, search_id: int, number: int) -> int | None:
    query = select(trials.c.id).where(trials.c.search_id == search_id, trials.c.number == number)
    trial_id: int | None = connection.scalar(query)
    return trial_id
