"""Trials, NetAdapt steps, measured networks and exports in SQL.

Each change may be made again with the same values, when the answer to an earlier commit was lost, and then changes
nothing.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from search.record.database import insert_new
from search.record.rows import (
    ExportRecord,
    FoundEvaluation,
    export_from_row,
    found_from_row,
    measurement_from_row,
    measurement_to_row,
    outcome_to_row,
    present_from_row,
    present_measurement_from_row,
    step_from_row,
    trial_from_row,
    trial_to_row,
)
from search.record.schema import (
    exports,
    netadapt_steps,
    network_measurements,
    present_measurements,
    present_models,
    searches,
    trial_latencies,
    trials,
)
from search.record.transactions import Transactions
from search.record.views import trial_summary
from search.trial import (
    NetAdaptStep,
    NetworkMeasurement,
    PresentMeasurement,
    PresentResult,
    SearchStage,
    State,
    Trial,
)
from space.errors import StoreError

_BEST_FIRST = ("reward", "top1")
# With parameters for the values, so that SQLAlchemy compiles each statement once and not for every trial.
_INSERT = insert(trials).returning(trials.c.id)
_UPDATE = update(trials).where(trials.c.search_id == bindparam("of_search"), trials.c.number == bindparam("of_number"))


class Trials:
    """The trials of all searches, and what came of them; `trial` and `number` count within a search."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def start(self, search_id: int, trial: Trial, latencies: Mapping[int, float] | None = None) -> Trial:
        """Record a new trial and return it with its id and start time; one that needs no evaluation is finished too.

        `latencies` are predicted ms by latency table, where a network has to serve several devices.

        Raises:
            StoreError: the search has a trial of this number, or no trial of the parent's number.
        """
        now = datetime.now(UTC)
        trial = replace(trial, started_at=trial.started_at or now)
        if trial.state is not State.RUNNING:
            trial = replace(trial, finished_at=trial.finished_at or now)
        predicted = [
            {"search_id": search_id, "number": trial.number, "table_id": table_id, "latency_ms": latency_ms}
            for table_id, latency_ms in (latencies or {}).items()
        ]

        def start(connection: Connection) -> int:
            self._transactions.change(connection, search_id)
            trial_id = _insert_trial(connection, search_id, trial)
            if predicted:
                unique = ("search_id", "number", "table_id")
                connection.execute(insert_new(connection, trial_latencies, *unique), predicted)
            return trial_id

        return replace(trial, id=self._transactions.write(start))

    def latencies(self, search_id: int) -> dict[int, dict[int, float]]:
        """Predicted ms by trial number and latency table, of a search for one network that serves several devices."""
        query = select(trial_latencies).where(trial_latencies.c.search_id == search_id)
        query = query.order_by(trial_latencies.c.number, trial_latencies.c.table_id)

        def read(connection: Connection) -> dict[int, dict[int, float]]:
            found: dict[int, dict[int, float]] = {}
            for row in connection.execute(query):
                found.setdefault(row.number, {})[row.table_id] = row.latency_ms
            return found

        return self._transactions.read(read)

    def finish(self, search_id: int, trial: Trial, *, reward: float | None = None) -> None:
        """Record a trial's outcome; doing it twice, or after a completed or a newer attempt, changes nothing.

        Raises:
            StoreError: the trial was never started.
        """
        assert trial.state is not State.RUNNING, f"trial {trial.number} is still running"

        def finish(connection: Connection) -> None:
            # The search first, as everywhere: two who lock the same rows in another order wait for each other.
            connection.execute(select(searches.c.id).where(searches.c.id == search_id).with_for_update())
            if _finish_trial(connection, search_id, trial, reward):
                progress = {"claims": 0} if trial.state is State.COMPLETE else {}
                self._transactions.change(connection, search_id, **progress)

        self._transactions.write(finish)

    def of(self, search_id: int, stage: SearchStage | None = None) -> list[Trial]:
        """The trials of a search, or of one of its stages, by number."""
        query = select(trials).where(trials.c.search_id == search_id).order_by(trials.c.number)
        if stage is not None:
            query = query.where(trials.c.stage == stage.value)
        return self._transactions.rows(query, trial_from_row)

    def rewards(self, search_id: int) -> dict[int, float]:
        """The rewards of those trials that have one, by trial number."""
        query = select(trials.c.number, trials.c.reward).where(trials.c.search_id == search_id)
        query = query.where(trials.c.reward.is_not(None)).order_by(trials.c.number)
        return self._transactions.read(lambda connection: {row.number: row.reward for row in connection.execute(query)})

    def set_reward(self, search_id: int, number: int, reward: float, *, anew: bool = False) -> None:
        """Record the reward of a completed trial that has none yet, or `anew`, where its latency has changed."""
        these = [*_this(search_id, number), trials.c.state == State.COMPLETE.value]
        if not anew:
            these.append(trials.c.reward.is_(None))

        def set_reward(connection: Connection) -> None:
            self._transactions.change(connection, search_id)
            connection.execute(update(trials).where(*these).values(reward=reward))

        self._transactions.write(set_reward)

    def requeue_running(self, search_id: int) -> list[Trial]:
        """Start the next attempt of all trials that a dead coordinator left running, and return them, still running."""
        now = datetime.now(UTC)
        running = (trials.c.search_id == search_id) & (trials.c.state == State.RUNNING.value)
        following = {"attempt": trials.c.attempt + 1, "started_at": now}

        def requeue(connection: Connection) -> list[Trial]:
            self._transactions.change(connection, search_id)
            connection.execute(update(trials).where(running, trials.c.started_at != now).values(following))
            rows = connection.execute(select(trials).where(running).order_by(trials.c.number)).mappings()
            return [trial_from_row(row) for row in rows]

        return self._transactions.write(requeue)

    def find_evaluations(self, evaluation_key: str) -> list[FoundEvaluation]:
        """The complete trials of all searches with this key, those first that were themselves evaluated."""
        query = (
            select(trials, searches.c.run_folder)
            .join(searches, searches.c.id == trials.c.search_id)
            .where(trials.c.evaluation_key == evaluation_key, trials.c.state == State.COMPLETE.value)
            .order_by(trials.c.reused_from.is_not(None), trials.c.id)
        )
        return self._transactions.rows(query, found_from_row)

    def of_others(self, search_id: int, data_hash: str, before: datetime, *, most: int) -> list[Trial]:
        """Complete block-level trials of other searches on these data that had ended by then, the newest first."""
        query = (
            select(trials)
            .join(searches, searches.c.id == trials.c.search_id)
            .where(
                searches.c.data_hash == data_hash,
                trials.c.search_id != search_id,
                trials.c.stage == SearchStage.BLOCKS.value,
                trials.c.state == State.COMPLETE.value,
                trials.c.evaluation_key.is_not(None),
                trials.c.finished_at < before,
            )
            .order_by(trials.c.id.desc())
            .limit(most)
        )
        return self._transactions.rows(query, trial_from_row)

    def forget_weights(self, search_id: int, numbers: Iterable[int]) -> None:
        """Record that trials (by number) have no weights any more."""
        these = (trials.c.search_id == search_id) & trials.c.number.in_(list(numbers))
        self._transactions.write(
            lambda connection: connection.execute(update(trials).where(these).values(weights=None)).close()
        )

    def summary_rows(self, search: str | None = None, sort: str = "number") -> list[dict[str, Any]]:
        """Rows of the view `trial_summary`, of one search or all; reward and top1 descend, others ascend, NULLs last.

        Raises:
            StoreError: there is no such column.
        """
        columns = trial_summary.c
        if sort not in columns:
            raise StoreError(f"trials cannot be sorted by {sort!r}; choose one of {', '.join(columns.keys())}")
        first = columns[sort].desc() if sort in _BEST_FIRST else columns[sort].asc()
        query = select(trial_summary).order_by(first.nulls_last(), columns.search, columns.number)
        if search is not None:
            query = query.where(columns.search == search)
        return self._transactions.rows(query, dict)

    # NetAdapt, measured networks, exports

    def add_step(self, search_id: int, step: NetAdaptStep) -> None:
        """Record one accepted step of the NetAdapt walk; both of its trials must be recorded."""
        this = (netadapt_steps.c.search_id == search_id) & (netadapt_steps.c.iteration == step.iteration)

        def add(connection: Connection) -> None:
            self._transactions.change(connection, search_id)
            stored = connection.execute(select(netadapt_steps).where(this)).mappings().one_or_none()
            if stored is None or step_from_row(stored) != step:
                connection.execute(insert(netadapt_steps).values(search_id=search_id, **asdict(step)))

        self._transactions.write(add)

    def steps(self, search_id: int) -> list[NetAdaptStep]:
        """The NetAdapt walk in order."""
        query = select(netadapt_steps).where(netadapt_steps.c.search_id == search_id)
        query = query.order_by(netadapt_steps.c.iteration)
        return self._transactions.rows(query, step_from_row)

    def add_measurements(
        self,
        search_id: int,
        table_id: int,
        measured: Sequence[tuple[NetworkMeasurement, Sequence[float]]],
        *,
        latencies: Mapping[int, float] | None = None,
        present: tuple[PresentMeasurement, Sequence[float]] | None = None,
    ) -> None:
        """Record networks that were measured side by side, all or none, each with its raw samples in ms.

        `latencies` are those of trials, by number, from then on in place of their predictions; `present` is the user's
        own model, which was measured beside them.
        """
        now = datetime.now(UTC)
        common = {"search_id": search_id, "measured_at": now, "table_id": table_id}
        rows = [
            {**common, "samples": list(samples), **measurement_to_row(measurement)} for measurement, samples in measured
        ]
        these = (network_measurements.c.search_id == search_id) & (network_measurements.c.measured_at == now)

        def add(connection: Connection) -> None:
            self._transactions.change(connection, search_id)
            if connection.scalar(select(network_measurements.c.id).where(these).limit(1)) is None:
                connection.execute(insert(network_measurements), rows)
                if present is not None:
                    mine = {**common, "samples": list(present[1]), **measurement_to_row(present[0])}
                    connection.execute(insert(present_measurements).values(mine))
            for number, latency_ms in (latencies or {}).items():
                connection.execute(update(trials).where(*_this(search_id, number)).values(latency_ms=latency_ms))

        self._transactions.write(add)

    def measurements(self, search_id: int) -> list[NetworkMeasurement]:
        """The measured networks of a search, oldest first."""
        query = select(network_measurements).where(network_measurements.c.search_id == search_id)
        query = query.order_by(network_measurements.c.id)
        return self._transactions.rows(query, measurement_from_row)

    def put_present(self, search_id: int, result: PresentResult) -> None:
        """Record what the user's present model has right, once."""

        def put(connection: Connection) -> None:
            self._transactions.change(connection, search_id)
            row = {"search_id": search_id, **asdict(result)}
            connection.execute(insert_new(connection, present_models, "search_id").values(row))

        self._transactions.write(put)

    def present(self, search_id: int) -> PresentResult | None:
        """What the user's present model has right; None: there is none, or it has yet to be tested."""
        query = select(present_models).where(present_models.c.search_id == search_id)
        return next(iter(self._transactions.rows(query, present_from_row)), None)

    def present_measurements(self, search_id: int) -> list[PresentMeasurement]:
        """How long it took on the search's devices, oldest first."""
        query = select(present_measurements).where(present_measurements.c.search_id == search_id)
        return self._transactions.rows(query.order_by(present_measurements.c.id), present_measurement_from_row)

    def add_export(
        self, search_id: int, trial: int, *, folder: str | os.PathLike[str], files: Mapping[str, str]
    ) -> ExportRecord:
        """Record that a trial (by number) was exported; `files` maps file names to their SHA-256.

        Raises:
            StoreError: the search has no such trial.
        """
        export = ExportRecord(trial=trial, folder=Path(folder), files=dict(files), created_at=datetime.now(UTC))

        def add(connection: Connection) -> None:
            trial_id = connection.scalar(select(trials.c.id).where(*_this(search_id, trial)))
            if trial_id is None:
                raise StoreError(f"search {search_id} has no trial {trial} to export")
            known = (exports.c.trial_id == trial_id) & (exports.c.created_at == export.created_at)
            if connection.scalar(select(exports.c.id).where(known)) is None:
                row = {"folder": str(export.folder), "files": dict(export.files), "created_at": export.created_at}
                connection.execute(insert(exports).values(search_id=search_id, trial_id=trial_id, **row))

        self._transactions.write(add)
        return export

    def exports(self, search_id: int) -> list[ExportRecord]:
        """The exports of a search, oldest first."""
        query = select(exports, trials.c.number).join(trials).where(exports.c.search_id == search_id)
        query = query.order_by(exports.c.id)
        return self._transactions.rows(query, export_from_row)


def _this(search_id: int, number: int) -> tuple[ColumnElement[bool], ...]:
    return trials.c.search_id == search_id, trials.c.number == number


def _insert_trial(connection: Connection, search_id: int, trial: Trial) -> int:
    """Insert a new trial, and return its id."""
    stored = connection.execute(select(trials).where(*_this(search_id, trial.number))).mappings().one_or_none()
    if stored is not None:
        if trial_from_row(stored) == replace(trial, id=stored["id"]):
            return int(stored["id"])
        raise StoreError(
            f"search {search_id} has a trial {trial.number} already; is another process running this search?"
        )
    return int(connection.execute(_INSERT, {"search_id": search_id, **trial_to_row(trial)}).scalar_one())


def _finish_trial(connection: Connection, search_id: int, trial: Trial, reward: float | None) -> bool:
    """Write an outcome, unless a completed or a newer attempt is recorded; returns whether it was news."""
    known = select(trials.c.state, trials.c.attempt, trials.c.started_at).where(*_this(search_id, trial.number))
    stored = connection.execute(known.with_for_update()).mappings().one_or_none()
    if stored is None:
        raise StoreError(f"trial {trial.number} of search {search_id} was never started")
    if not _is_awaited(trial, state=State(stored["state"]), attempt=stored["attempt"]):
        return False
    trial = replace(
        trial,
        started_at=trial.started_at or stored["started_at"],
        finished_at=trial.finished_at or datetime.now(UTC),
    )
    which = {"of_search": search_id, "of_number": trial.number}
    connection.execute(_UPDATE, {**outcome_to_row(trial), "reward": reward, **which})
    return True


def _is_awaited(trial: Trial, *, state: State, attempt: int) -> bool:
    """Whether this outcome is news for a trial that is recorded with `state` and `attempt`."""
    if state is State.COMPLETE or trial.attempt < attempt:
        return False
    return state is State.RUNNING or trial.attempt > attempt
