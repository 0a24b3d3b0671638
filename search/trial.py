"""A trial: one evaluated (or refused) architecture, as the record keeps it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from space.arch import Architecture


class Stage(StrEnum):
    """Where a search stands; `BLOCKS`, `NETADAPT` and `FINAL` are also the stages that trials belong to."""

    QUEUED = "queued"
    BLOCKS = "blocks"
    NETADAPT = "netadapt"
    FINAL = "final"
    AWAITING = "awaiting-certification"
    DONE = "done"


class State(StrEnum):
    """What became of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was found out about an architecture; rewards are computed from these and can be recomputed.

    `top1` (0-1) is on the reward split, never on the test split, and None where nothing was trained.
    `latency_ms` is the table's prediction: batch 1, low quantile of wall time.
    """

    top1: float | None
    latency_ms: float
    madds: int
    params: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One architecture in one stage of one search.

    `number` counts from 0 within the search. `parent` is the number of the trial whose weights were inherited.
    `origin` says who proposed it: a sampler's name, "reference", "enqueued", or what NetAdapt narrowed.
    `evaluation_key` identifies everything that the top-1 depends on; equal keys mean equal results.
    `weights` is a file name inside the run folder, `reused_from` the id of the trial whose evaluation was taken over.
    `correct` and `total` are images of the test split, set for final trials alone.
    """

    number: int
    stage: Stage
    state: State
    origin: str
    architecture: Architecture
    scores: Scores
    seed: int
    attempt: int = 1
    id: int | None = None
    parent: int | None = None
    iteration: int | None = None
    params: dict[str, float | int | str | bool | None] | None = None
    evaluation_key: str | None = None
    images_seen: int = 0
    weights: str | None = None
    reused_from: int | None = None
    correct: int | None = None
    total: int | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptStep:
    """One accepted proposal of the NetAdapt walk; `trial` and `parent` are trial numbers."""

    iteration: int
    trial: int
    parent: int
    narrowed: str
    latency_before_ms: float
    latency_after_ms: float
    top1_before: float
    top1_after: float
    proposals: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMeasurement:
    """A whole network on the device: prediction and measurement side by side, wall time in ms, batch 1."""

    trial: int
    predicted_ms: float
    measured_ms: float
    low_ms: float
    high_ms: float
    median_ms: float
    samples: int
