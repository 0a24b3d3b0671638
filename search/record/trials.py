"""Trials, NetAdapt steps, measured networks and exports in SQL; each function works inside the given transaction.

Each may be called again with the same values, when the answer to an earlier commit was lost, and then changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from search.record.database import insert_new
from search.record.rows import (
    ExportRecord,
    FoundEvaluation,
    export_from_row,
    found_from_row,
    measurement_from_row,
    outcome_to_row,
    step_from_row,
    trial_from_row,
    trial_to_row,
)
from search.record.schema import exports, netadapt_steps, network_measurements, searches, trial_latencies, trials
from search.trial import NetAdaptStep, NetworkMeasurement, Stage, State, Trial
from space.errors import StoreError


def insert_trial(connection: Connection, search_id: int, trial: Trial) -> int:
    """Insert a new trial, and return its id."""
    this = (trials.c.search_id == search_id) & (trials.c.number == trial.number)
    stored = connection.execute(select(trials).where(this)).mappings().one_or_none()
    if stored is not None:
        if trial_from_row(stored) == replace(trial, id=stored["id"]):
            return int(stored["id"])
        raise StoreError(
            f"search {search_id} has a trial {trial.number} already; is another process running this search?"
        )
    # As parameters of one statement, which SQLAlchemy then compiles once and not for every trial.
    row = {"search_id": search_id, **trial_to_row(trial)}
    return int(connection.execute(_INSERT, row).scalar_one())


def set_latencies(connection: Connection, search_id: int, number: int, latencies: Mapping[int, float]) -> None:
    """Record a trial's predicted ms by latency table; the same again change nothing."""
    rows = [
        {"search_id": search_id, "number": number, "table_id": table_id, "latency_ms": latency_ms}
        for table_id, latency_ms in latencies.items()
    ]
    if rows:
        connection.execute(insert_new(connection, trial_latencies, "search_id", "number", "table_id"), rows)


def read_latencies(connection: Connection, search_id: int) -> dict[int, dict[int, float]]:
    """Predicted ms by trial number and latency table."""
    found: dict[int, dict[int, float]] = {}
    query = select(trial_latencies).where(trial_latencies.c.search_id == search_id)
    for row in connection.execute(query.order_by(trial_latencies.c.number, trial_latencies.c.table_id)):
        found.setdefault(row.number, {})[row.table_id] = row.latency_ms
    return found


def finish_trial(connection: Connection, search_id: int, trial: Trial, reward: float | None) -> bool:
    """Write an outcome, unless a completed or a newer attempt is recorded; returns whether it was news."""
    this = (trials.c.search_id == search_id) & (trials.c.number == trial.number)
    known = select(trials.c.state, trials.c.attempt, trials.c.started_at).where(this).with_for_update()
    stored = connection.execute(known).mappings().one_or_none()
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


_INSERT = insert(trials).returning(trials.c.id)
_UPDATE = update(trials).where(trials.c.search_id == bindparam("of_search"), trials.c.number == bindparam("of_number"))


def _is_awaited(trial: Trial, *, state: State, attempt: int) -> bool:
    """Whether this outcome is news for a trial that is recorded with `state` and `attempt`."""
    if state is State.COMPLETE or trial.attempt < attempt:
        return False
    return state is State.RUNNING or trial.attempt > attempt


def requeue_running(connection: Connection, search_id: int, now: datetime) -> list[Trial]:
    """Start the next attempt of all running trials at this moment."""
    running = (trials.c.search_id == search_id) & (trials.c.state == State.RUNNING.value)
    following = {"attempt": trials.c.attempt + 1, "started_at": now}
    connection.execute(update(trials).where(running, trials.c.started_at != now).values(following))
    rows = connection.execute(select(trials).where(running).order_by(trials.c.number)).mappings()
    return [trial_from_row(row) for row in rows]


def read_trials(connection: Connection, search_id: int, stage: Stage | None) -> list[Trial]:
    """The trials of a search, or of one of its stages, by number."""
    query = select(trials).where(trials.c.search_id == search_id).order_by(trials.c.number)
    if stage is not None:
        query = query.where(trials.c.stage == stage.value)
    return [trial_from_row(row) for row in connection.execute(query).mappings()]


def read_rewards(connection: Connection, search_id: int) -> dict[int, float]:
    """The rewards of those trials that have one, by trial number."""
    query = select(trials.c.number, trials.c.reward).where(trials.c.search_id == search_id)
    rows = connection.execute(query.where(trials.c.reward.is_not(None)).order_by(trials.c.number))
    return {row.number: row.reward for row in rows}


def set_reward(connection: Connection, search_id: int, number: int, reward: float) -> None:
    """Reward a completed trial that has no reward yet."""
    this = (trials.c.search_id == search_id) & (trials.c.number == number) & (trials.c.state == State.COMPLETE.value)
    connection.execute(update(trials).where(this, trials.c.reward.is_(None)).values(reward=reward))


def find_evaluations(connection: Connection, evaluation_key: str) -> list[FoundEvaluation]:
    """The complete trials of all searches with this key, those first that were themselves evaluated."""
    query = (
        select(trials, searches.c.run_folder)
        .join(searches, searches.c.id == trials.c.search_id)
        .where(trials.c.evaluation_key == evaluation_key, trials.c.state == State.COMPLETE.value)
        .order_by(trials.c.reused_from.is_not(None), trials.c.id)
    )
    return [found_from_row(row) for row in connection.execute(query).mappings()]


def forget_weights(connection: Connection, search_id: int, numbers: Sequence[int]) -> None:
    """Record that trials (by number) have no weights any more."""
    these = (trials.c.search_id == search_id) & trials.c.number.in_(numbers)
    connection.execute(update(trials).where(these).values(weights=None))


def add_step(connection: Connection, search_id: int, step: NetAdaptStep) -> None:
    """Insert one step of the walk."""
    this = (netadapt_steps.c.search_id == search_id) & (netadapt_steps.c.iteration == step.iteration)
    stored = connection.execute(select(netadapt_steps).where(this)).mappings().one_or_none()
    if stored is None or step_from_row(stored) != step:
        connection.execute(insert(netadapt_steps).values(search_id=search_id, **asdict(step)))


def read_steps(connection: Connection, search_id: int) -> list[NetAdaptStep]:
    """The walk in order."""
    query = select(netadapt_steps).where(netadapt_steps.c.search_id == search_id)
    rows = connection.execute(query.order_by(netadapt_steps.c.iteration)).mappings()
    return [step_from_row(row) for row in rows]


def add_measurements(
    connection: Connection, search_id: int, measured_at: datetime, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert networks that were measured side by side at one moment."""
    these = (network_measurements.c.search_id == search_id) & (network_measurements.c.measured_at == measured_at)
    if connection.scalar(select(network_measurements.c.id).where(these).limit(1)) is None:
        common = {"search_id": search_id, "measured_at": measured_at}
        connection.execute(insert(network_measurements), [{**row, **common} for row in rows])


def read_measurements(connection: Connection, search_id: int) -> list[NetworkMeasurement]:
    """The measured networks of a search, oldest first."""
    query = select(network_measurements).where(network_measurements.c.search_id == search_id)
    rows = connection.execute(query.order_by(network_measurements.c.id)).mappings()
    return [measurement_from_row(row) for row in rows]


def add_export(connection: Connection, search_id: int, export: ExportRecord) -> None:
    """Insert an export of one of the search's trials."""
    this = (trials.c.search_id == search_id) & (trials.c.number == export.trial)
    trial_id = connection.scalar(select(trials.c.id).where(this))
    if trial_id is None:
        raise StoreError(f"search {search_id} has no trial {export.trial} to export")
    known = (exports.c.trial_id == trial_id) & (exports.c.created_at == export.created_at)
    if connection.scalar(select(exports.c.id).where(known)) is None:
        row = {"folder": str(export.folder), "files": dict(export.files), "created_at": export.created_at}
        connection.execute(insert(exports).values(search_id=search_id, trial_id=trial_id, **row))


def read_exports(connection: Connection, search_id: int) -> list[ExportRecord]:
    """The exports of a search, oldest first."""
    query = select(exports, trials.c.number).join(trials).where(exports.c.search_id == search_id)
    return [export_from_row(row) for row in connection.execute(query.order_by(exports.c.id)).mappings()]
