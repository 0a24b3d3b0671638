"""The record of all searches in SQL. The coordinator of a search is its only writer; anyone may read meanwhile."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, true

from search.record import schema, searches, trials
from search.record.claims import new_claim
from search.record.retry import patiently
from search.record.rows import (
    Begun,
    ExportRecord,
    FoundEvaluation,
    FurtherTarget,
    LogLine,
    SearchRecord,
    measurement_to_row,
)
from search.record.table_store import TableStore
from search.record.views import trial_summary
from search.trial import NetAdaptStep, NetworkMeasurement, Stage, State, Trial
from space.errors import StoreError

_BEST_FIRST = ("reward", "top1")

_log = logging.getLogger("mobilenas.store")


class Store(TableStore):
    """All that mobilenas remembers; every method is one transaction and may raise StoreError."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._claims: dict[int, str] = {}

    # Searches

    def create_search(
        self,
        *,
        name: str,
        config: Mapping[str, Any],
        begun: Begun | None = None,
        owner: str | None = None,
        labels: Iterable[str] = (),
        note: str | None = None,
        budget: str | None = None,
        group: str | None = None,
        priority: int = 0,
        further: Sequence[FurtherTarget] = (),
    ) -> SearchRecord:
        """Record a new search at its first stage, or in the queue where it has not begun; `config` must be JSON.

        `further` are the other devices of a search for one network that serves several.

        Raises:
            StoreError: the name is taken, or there is no such latency table.
        """
        now = datetime.now(UTC)
        row = {
            "name": name,
            "config": dict(config),
            "stage": (Stage.BLOCKS if begun else Stage.QUEUED).value,
            "data": config["data"]["source"],
            "finish_requested": False,
            "stop_requested": False,
            "claims": 0,
            "owner": owner,
            "note": note,
            "budget": budget,
            "group_name": group,
            "priority": priority,
            "queued_at": None if begun else now,
            "created_at": now,
            "updated_at": now,
        }
        self._create_search(row, begun, tuple(labels), further)
        return self.search(name)

    @patiently
    def _create_search(
        self, row: Mapping[str, Any], begun: Begun | None, labels: Sequence[str], further: Sequence[FurtherTarget]
    ) -> None:
        with self._database.write() as connection:
            search_id = searches.create(connection, row, begun, labels)
            searches.set_targets(connection, search_id, further)

    @patiently
    def begin_search(
        self, search_id: int, config: Mapping[str, Any], begun: Begun, further: Sequence[FurtherTarget] = ()
    ) -> None:
        """Take a queued search to its first stage, with the configuration that its budget led to."""
        with self._database.write() as connection:
            searches.begin(connection, search_id, self._claims.get(search_id), config, begun)
            searches.set_targets(connection, search_id, further)

    @patiently
    def further_targets(self, search_id: int) -> list[FurtherTarget]:
        """The other devices of a search for one network that serves several, in the order of their tables."""
        with self._database.read() as connection:
            return searches.read_targets(connection, search_id)

    @patiently
    def search(self, name: str) -> SearchRecord:
        """The search of this name.

        Raises:
            StoreError: there is none; the message names the nearest ones.
        """
        with self._database.read() as connection:
            return searches.find(connection, name, self._database.now(connection))

    @patiently
    def searches(self) -> list[SearchRecord]:
        """All searches, oldest first."""
        with self._database.read() as connection:
            return searches.select_records(connection, true(), self._database.now(connection))

    @patiently
    def set_stage(self, search_id: int, stage: Stage, *, error: str | None = None) -> None:
        """Move a search to a stage; `error` says why it stopped there, and without one an earlier error is cleared."""
        finished_at = datetime.now(UTC) if stage is Stage.DONE else None
        with self._database.write() as connection:
            self._change(connection, search_id, stage=stage.value, error=error, finished_at=finished_at)

    @patiently
    def annotate(
        self,
        search_id: int,
        *,
        owner: str | None = None,
        labels: Iterable[str] | None = None,
        note: str | None = None,
        priority: int | None = None,
    ) -> None:
        """Change what people say of a search; None leaves it as it is."""
        said = {"owner": owner, "note": note, "priority": priority}
        given = {name: value for name, value in said.items() if value is not None}
        with self._database.write() as connection:
            self._change(connection, search_id, **given)
            if labels is not None:
                searches.set_labels(connection, search_id, labels)

    @patiently
    def enqueue(self, search_id: int) -> None:
        """Put a search that stopped into the queue, behind all others; its error is forgotten.

        Raises:
            Held: a living process runs it.
        """
        with self._database.write() as connection:
            searches.enqueue(connection, search_id, datetime.now(UTC), self._database.now(connection))

    @patiently
    def request_finish(self, search_id: int) -> None:
        """Ask the coordinator to end with the best found so far."""
        with self._database.write() as connection:
            self._change(connection, search_id, finish_requested=True)

    @patiently
    def request_stop(self, search_id: int) -> None:
        """Ask the coordinator to stop when the running trials have ended; the queue passes it over from now on."""
        with self._database.write() as connection:
            self._change(connection, search_id, stop_requested=True)

    @patiently
    def finish_requested(self, search_id: int) -> bool:
        """Whether somebody asked for an early end."""
        with self._database.read() as connection:
            asked = connection.scalar(
                select(schema.searches.c.finish_requested).where(schema.searches.c.id == search_id)
            )
        if asked is None:
            raise StoreError(f"there is no search with id {search_id}; see `mobilenas searches`")
        return bool(asked)

    def _change(self, connection: Connection, search_id: int, **values: object) -> None:
        """Change a search, or note that one of its trials changed; fails where a claim of this store was lost."""
        token = self._claims.get(search_id)
        searches.change(connection, search_id, token, updated_at=datetime.now(UTC), **values)

    # Claims

    def claim(self, search_id: int) -> None:
        """Become the one process that runs a search: until `release`, or until another one finds this one dead.

        Raises:
            Held: a living process runs it.
        """
        token = str(new_claim())
        self._claim(search_id, token)
        self._claims[search_id] = token

    @patiently
    def _claim(self, search_id: int, token: str) -> None:
        with self._database.write() as connection:
            searches.claim(connection, search_id, token, self._database.now(connection))

    def claim_next(self, device: str | None = None) -> SearchRecord | None:
        """Claim the search that has waited longest in the queue, if any; `device` leaves those of others alone."""
        token = str(new_claim())
        record = self._claim_next(token, device)
        if record is not None:
            self._claims[record.id] = token
        return record

    @patiently
    def _claim_next(self, token: str, device: str | None) -> SearchRecord | None:
        with self._database.write() as connection:
            now = self._database.now(connection)
            search_id = searches.claim_next(connection, token, device, now)
            if search_id is None:
                return None
            return searches.select_records(connection, schema.searches.c.id == search_id, now)[0]

    def heartbeat(self, search_id: int) -> bool:
        """Renew the claim of a search, at once or not at all; returns whether somebody asked it to stop.

        Raises:
            ClaimLost: another process runs it now.
        """
        with self._database.write() as connection:
            now = self._database.now(connection)
            return searches.heartbeat(connection, search_id, self._claims[search_id], now)

    def release(self, search_id: int) -> None:
        """Give the claim of a search up; where the database is away, it ends by itself soon."""
        token = self._claims.pop(search_id, None)
        if token is None:
            return
        try:
            with self._database.write() as connection:
                searches.release(connection, search_id, token)
        except StoreError as error:
            _log.warning("%s; the claim of search %d ends by itself", error, search_id)

    # Logs

    def add_log_line(self, search_id: int, *, level: str, event: str, message: str, trial: int | None = None) -> None:
        """Add a line to the log of a search."""
        row = {"trial": trial, "at": datetime.now(UTC), "level": level, "event": event, "message": message}
        self._add_log_line(search_id, row)

    @patiently
    def _add_log_line(self, search_id: int, row: Mapping[str, Any]) -> None:
        with self._database.write() as connection:
            searches.add_log_line(connection, search_id, row)

    @patiently
    def log(self, search_id: int, after: int = 0) -> Sequence[LogLine]:
        """The log of a search behind the line with this id, oldest first."""
        with self._database.read() as connection:
            return searches.read_log(connection, search_id, after)

    # Trials

    def start_trial(self, search_id: int, trial: Trial, latencies: Mapping[int, float] | None = None) -> Trial:
        """Record a new trial and return it with its id and start time; one that needs no evaluation is finished too.

        `latencies` are predicted ms by latency table, where a network has to serve several devices.

        Raises:
            StoreError: the search has a trial of this number, or no trial of the parent's number.
        """
        now = datetime.now(UTC)
        trial = replace(trial, started_at=trial.started_at or now)
        if trial.state is not State.RUNNING:
            trial = replace(trial, finished_at=trial.finished_at or now)
        return replace(trial, id=self._insert_trial(search_id, trial, latencies or {}))

    @patiently
    def _insert_trial(self, search_id: int, trial: Trial, latencies: Mapping[int, float]) -> int:
        with self._database.write() as connection:
            self._change(connection, search_id)
            trial_id = trials.insert_trial(connection, search_id, trial)
            trials.set_latencies(connection, search_id, trial.number, latencies)
            return trial_id

    @patiently
    def trial_latencies(self, search_id: int) -> dict[int, dict[int, float]]:
        """Predicted ms by trial number and latency table, of a search for one network that serves several devices."""
        with self._database.read() as connection:
            return trials.read_latencies(connection, search_id)

    @patiently
    def finish_trial(self, search_id: int, trial: Trial, *, reward: float | None = None) -> None:
        """Record a trial's outcome; doing it twice, or after a completed or a newer attempt, changes nothing.

        Raises:
            StoreError: the trial was never started.
        """
        assert trial.state is not State.RUNNING, f"trial {trial.number} is still running"
        with self._database.write() as connection:
            # The search first, as everywhere: two who lock the same rows in another order wait for each other.
            searches.lock(connection, search_id)
            if trials.finish_trial(connection, search_id, trial, reward):
                progress = {"claims": 0} if trial.state is State.COMPLETE else {}
                self._change(connection, search_id, **progress)

    @patiently
    def trials(self, search_id: int, stage: Stage | None = None) -> list[Trial]:
        """The trials of a search, or of one of its stages, by number."""
        with self._database.read() as connection:
            return trials.read_trials(connection, search_id, stage)

    @patiently
    def rewards(self, search_id: int) -> dict[int, float]:
        """The rewards of those trials that have one, by trial number."""
        with self._database.read() as connection:
            return trials.read_rewards(connection, search_id)

    @patiently
    def set_reward(self, search_id: int, number: int, reward: float) -> None:
        """Record the reward of a completed trial that was recorded without."""
        with self._database.write() as connection:
            self._change(connection, search_id)
            trials.set_reward(connection, search_id, number, reward)

    def requeue_running(self, search_id: int) -> list[Trial]:
        """Start the next attempt of all trials that a dead coordinator left running, and return them, still running."""
        return self._requeue_running(search_id, datetime.now(UTC))

    @patiently
    def _requeue_running(self, search_id: int, now: datetime) -> list[Trial]:
        with self._database.write() as connection:
            self._change(connection, search_id)
            return trials.requeue_running(connection, search_id, now)

    @patiently
    def find_evaluations(self, evaluation_key: str) -> list[FoundEvaluation]:
        """The complete trials of all searches with this key, those first that were themselves evaluated."""
        with self._database.read() as connection:
            return trials.find_evaluations(connection, evaluation_key)

    @patiently
    def forget_weights(self, search_id: int, numbers: Iterable[int]) -> None:
        """Record that trials (by number) have no weights any more."""
        with self._database.write() as connection:
            trials.forget_weights(connection, search_id, list(numbers))

    # NetAdapt, measured networks, exports

    @patiently
    def add_step(self, search_id: int, step: NetAdaptStep) -> None:
        """Record one accepted step of the NetAdapt walk; both of its trials must be recorded."""
        with self._database.write() as connection:
            self._change(connection, search_id)
            trials.add_step(connection, search_id, step)

    @patiently
    def steps(self, search_id: int) -> list[NetAdaptStep]:
        """The NetAdapt walk in order."""
        with self._database.read() as connection:
            return trials.read_steps(connection, search_id)

    def add_network_measurements(
        self, search_id: int, table_id: int, measured: Sequence[tuple[NetworkMeasurement, Sequence[float]]]
    ) -> None:
        """Record networks that were measured side by side, all or none, each with its raw samples in ms."""
        rows = [
            {"table_id": table_id, "samples": list(samples), **measurement_to_row(measurement)}
            for measurement, samples in measured
        ]
        self._add_measurements(search_id, datetime.now(UTC), rows)

    @patiently
    def _add_measurements(self, search_id: int, now: datetime, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._database.write() as connection:
            self._change(connection, search_id)
            trials.add_measurements(connection, search_id, now, rows)

    @patiently
    def network_measurements(self, search_id: int) -> list[NetworkMeasurement]:
        """The measured networks of a search, oldest first."""
        with self._database.read() as connection:
            return trials.read_measurements(connection, search_id)

    def add_export(
        self, search_id: int, trial: int, *, folder: str | os.PathLike[str], files: Mapping[str, str]
    ) -> ExportRecord:
        """Record that a trial (by number) was exported; `files` maps file names to their SHA-256.

        Raises:
            StoreError: the search has no such trial.
        """
        export = ExportRecord(trial=trial, folder=Path(folder), files=dict(files), created_at=datetime.now(UTC))
        self._add_export(search_id, export)
        return export

    @patiently
    def _add_export(self, search_id: int, export: ExportRecord) -> None:
        with self._database.write() as connection:
            trials.add_export(connection, search_id, export)

    @patiently
    def exports(self, search_id: int) -> list[ExportRecord]:
        """The exports of a search, oldest first."""
        with self._database.read() as connection:
            return trials.read_exports(connection, search_id)

    @patiently
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
