"""What the record holds besides trials, and the one place where rows become values and values rows."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import RowMapping

from search.record.claims import is_held
from search.run_folder import RunFolder
from search.trial import (
    MeasuredWhole,
    NetAdaptStep,
    NetworkMeasurement,
    PresentMeasurement,
    PresentResult,
    Scores,
    SearchStage,
    State,
    Trial,
)
from space.arch import Architecture
from space.errors import RunError
from trainer.data.facts import DataFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStart:
    """What is known once a search has begun. All latencies in ms, predicted by its latency table.

    `fastest_ms` and `slowest_ms` bound the search space, `reference_ms` is the reference network's latency (None where
    it has none), and `seed_target_ms` is what the block-level search aims at. `table_id` is None where a user's own
    function predicts, and `data_hash` names the user's own evaluator where that stands for the data, of which there are
    no `data_facts` then; nor are there any of searches that were recorded before schema 0008.
    """

    run_folder: Path
    data_hash: str
    table_id: int | None
    target_ms: float
    seed_target_ms: float
    fastest_ms: float
    slowest_ms: float
    reference_ms: float | None
    data_facts: DataFacts | None = None

    @property
    def files(self) -> RunFolder:
        """What lies in the run folder."""
        return RunFolder(self.run_folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherTarget:
    """A device of a search for one network that serves several: its latency table, and what must be met there, ms."""

    table_id: int
    target_ms: float
    reference_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRecord:
    """One search: what it was asked for, and where it stands.

    `start` is None while it is queued. `group` names searches that belong together. `error` is why it stopped, if it
    did. `is_held` says whether a process runs it, `holder` which one did last. `queued_at` is None where it runs in
    the foreground.
    """

    id: int
    name: str
    config: Mapping[str, Any]
    stage: SearchStage
    start: SearchStart | None
    finish_requested: bool
    stop_requested: bool
    error: str | None
    owner: str | None
    labels: tuple[str, ...]
    note: str | None
    budget: str | None
    queued_at: datetime | None
    holder: str | None
    is_held: bool
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    group: str | None = None
    priority: int = 0

    @property
    def state(self) -> str:
        """In one word: queued, running, stopped, failed, awaiting-certification or done."""
        if self.stage is SearchStage.DONE:
            return "done"
        if self.stage is SearchStage.AWAITING:
            return self.stage.value  # also while whoever ran it puts itself away
        if self.is_held:
            return "running"
        if self.error is not None:
            return "failed"
        return "stopped" if self.stop_requested or self.queued_at is None else "queued"

    def require_start(self) -> SearchStart:
        """What is known of a begun search.

        Raises:
            RunError: it has not begun.
        """
        if self.start is None:
            raise RunError(f"search '{self.name}' is still queued; see: mobilenas status {self.name}")
        return self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """What signals were looked into of: the content hash of the data, the space's scope, and a hash of the recipes.

    Behind that, and a space, stands the hash of the weights that trainings began with, where they did.
    """

    data_hash: str
    scope: str
    recipes: str

    @property
    def is_begun(self) -> bool:
        """Whether trainings began with given weights."""
        return " " in self.recipes


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalQuality:
    """How well a signal orders some networks by what they reach: Kendall's τ-b with its 95 % interval.

    `compared` says which networks: those over the space, or near the limit of latency. `images` is what a short
    training has seen, None where nothing is trained. `regrets` are in percentage points of top-1 below the best
    network, by how many of the signal's best are trained to the end; `seconds` of one core a network's signal costs, 0
    for what is known without training, None: not known. τ is not a number where the signal orders nothing.
    """

    signal: str
    images: int | None
    compared: Literal["space", "near the limit"]
    networks: int
    trainings: int
    tau: float
    low: float
    high: float
    regrets: Mapping[int, float]
    seconds: float | None

    def to_plain(self) -> dict[str, Any]:
        """As SQL and JSON have it: what is not a number is null."""
        ranks = {"tau": self.tau, "tau_low": self.low, "tau_high": self.high}
        return {
            "signal": self.signal,
            "images": self.images,
            "compared": self.compared,
            "networks": self.networks,
            "trainings": self.trainings,
            **{name: None if math.isnan(value) else value for name, value in ranks.items()},
            "regrets": {str(top): lost for top, lost in self.regrets.items()},
            "seconds": self.seconds,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "SignalQuality":
        """The inverse of `to_plain`; whatever else is there is passed over."""
        named = {name: plain[name] for name in ("signal", "images", "compared", "networks", "trainings", "seconds")}
        tau, low, high = (math.nan if plain[name] is None else plain[name] for name in ("tau", "tau_low", "tau_high"))
        regrets = {int(top): lost for top, lost in plain["regrets"].items()}
        return cls(**named, tau=tau, low=low, high=high, regrets=regrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of a search's log; `trial` is a number, `event` one word, and ids grow with time."""

    id: int
    trial: int | None
    at: datetime
    level: str
    event: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvaluation:
    """A finished evaluation that may be taken over, and the run folder that holds its weights."""

    trial: Trial
    run_folder: Path

    @property
    def weights_file(self) -> Path | None:
        """Where its weights were written."""
        return None if self.trial.weights is None else RunFolder(self.run_folder).weights(self.trial)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """One export of a trial (by number); `files` maps file names inside `folder` to their SHA-256."""

    trial: int
    folder: Path
    files: Mapping[str, str]
    created_at: datetime


_START = [field.name for field in fields(SearchStart)]
_PLAIN_SEARCH = (
    *("id", "name", "config", "finish_requested", "stop_requested", "error", "owner", "note", "budget"),
    *("priority", "queued_at", "created_at", "updated_at", "finished_at"),
)


def start_to_row(start: SearchStart) -> dict[str, Any]:
    """Columns of `searches`."""
    facts = None if start.data_facts is None else start.data_facts.to_plain()
    return {**asdict(start), "run_folder": os.fspath(start.run_folder), "data_facts": facts}


def search_from_row(row: RowMapping, labels: Sequence[str], now: datetime) -> SearchRecord:
    """A row of `searches` with its labels, as it stands at a moment of the database's clock."""
    start = None
    if row["run_folder"] is not None:
        facts = None if row["data_facts"] is None else DataFacts.from_plain(row["data_facts"])
        known = {name: row[name] for name in _START}
        start = SearchStart(**known | {"run_folder": Path(row["run_folder"]), "data_facts": facts})
    return SearchRecord(
        **{name: row[name] for name in _PLAIN_SEARCH},
        stage=SearchStage(row["stage"]),
        start=start,
        group=row["group_name"],
        labels=tuple(labels),
        holder=row["claimed_by"],
        is_held=is_held(row["claimed_by"], row["heartbeat_at"], now),
    )


# Reading a spec validates it, which costs milliseconds; the same rows are read again and again.
_read_architecture = lru_cache(maxsize=8192)(Architecture.from_json)

# Fields of a trial that are columns of the same name and type: those that it begins with, and those of its outcome.
_BEGINNING = ("number", "origin", "seed", "parent", "iteration", "params", "sampler_attrs")
_OUTCOME = (
    *("attempt", "evaluation_key", "images_seen", "weights", "reused_from", "correct", "total", "error"),
    *("started_at", "finished_at"),
)


def trial_to_row(trial: Trial) -> dict[str, Any]:
    """All columns of `trials` that a trial itself determines, without its id."""
    return {name: getattr(trial, name) for name in _BEGINNING} | {
        "stage": trial.stage.value,
        "arch_id": trial.architecture.arch_id,
        "architecture": trial.architecture.to_json(),
        **outcome_to_row(trial),
    }


def outcome_to_row(trial: Trial) -> dict[str, Any]:
    """Those columns of `trials` that may change after a trial began."""
    return {name: getattr(trial, name) for name in _OUTCOME} | {
        "state": trial.state.value,
        "top1": trial.scores.top1,
        "latency_ms": trial.scores.latency_ms,
        "madds": trial.scores.madds,
        "params_count": trial.scores.params,
        "peak_bytes": trial.scores.peak_bytes,
        "log_likelihood": trial.scores.log_likelihood,
        "probability": trial.scores.probability,
        "duration_s": duration_s(trial),
    }


def trial_from_row(row: RowMapping) -> Trial:
    """The inverse of `trial_to_row`."""
    return Trial(
        **{name: row[name] for name in (*_BEGINNING, *_OUTCOME)},
        id=row["id"],
        stage=SearchStage(row["stage"]),
        state=State(row["state"]),
        architecture=_read_architecture(row["architecture"]),
        scores=Scores(
            top1=row["top1"],
            latency_ms=row["latency_ms"],
            madds=row["madds"],
            params=row["params_count"],
            peak_bytes=row["peak_bytes"],
            log_likelihood=row["log_likelihood"],
            probability=row["probability"],
        ),
    )


def found_from_row(row: RowMapping) -> FoundEvaluation:
    """A row of `trials` with the run folder of its search."""
    return FoundEvaluation(trial=trial_from_row(row), run_folder=Path(row["run_folder"]))


def duration_s(trial: Trial) -> float | None:
    """From start to finish in seconds, None where one of them is missing."""
    if trial.started_at is None or trial.finished_at is None:
        return None
    # A clock that was set back meanwhile must not leave a negative time in the record.
    return max(0.0, (trial.finished_at - trial.started_at).total_seconds())


def step_from_row(row: RowMapping) -> NetAdaptStep:
    """A row of `netadapt_steps`."""
    return NetAdaptStep(**{field.name: row[field.name] for field in fields(NetAdaptStep)})


def measurement_to_row(measurement: NetworkMeasurement | PresentMeasurement) -> dict[str, Any]:
    """Columns of the table of its kind; there `samples` are the raw ones, and their number has a name of its own."""
    row = asdict(measurement)
    row["sample_count"] = row.pop("samples")
    del row["table_id"]  # the writer's to say
    return row


def measurement_from_row(row: RowMapping) -> NetworkMeasurement:
    """The inverse of `measurement_to_row`, of a trial's network."""
    return NetworkMeasurement(**_measured(row, NetworkMeasurement))


def present_measurement_from_row(row: RowMapping) -> PresentMeasurement:
    """The same, of a user's present model."""
    return PresentMeasurement(**_measured(row, PresentMeasurement))


def _measured(row: RowMapping, kind: type[MeasuredWhole]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    return {name: row["sample_count" if name == "samples" else name] for name in names}


def present_from_row(row: RowMapping) -> PresentResult:
    """A row of `present_models`."""
    return PresentResult(**{field.name: row[field.name] for field in fields(PresentResult)})


def export_from_row(row: RowMapping) -> ExportRecord:
    """A row of `exports` with the number of its trial."""
    return ExportRecord(
        trial=row["number"], folder=Path(row["folder"]), files=row["files"], created_at=row["created_at"]
    )
