"""A trial: one evaluated (or refused) architecture, as the record keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, Self

import numpy as np

from latency.measurement import Measurement
from space.arch import Architecture

FIGURES = ("latency_ms", "madds", "params", "peak_bytes")
"""What is known of a network before it is trained: the columns of an array of costs, all of them better if smaller."""


class SearchStage(StrEnum):
    """Where a search stands; `BLOCKS`, `NETADAPT` and `FINAL` are also the stages that trials belong to."""

    QUEUED = "queued"
    BLOCKS = "blocks"
    NETADAPT = "netadapt"
    FINAL = "final"
    AWAITING = "awaiting-certification"
    DONE = "done"


SUPERNET = "supernet"
"""The evaluator that judges members of a space by the weights that they share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Who ranks the networks of a search: by default top-1 on the reward split.

    A user's own `evaluator`; or images, by the mean of the classes' accuracies where `balanced`, in so many `folds`.
    """

    evaluator: str | None = None
    balanced: bool = False
    folds: int = 1

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """That of a recorded configuration, which may be of a version that knew less."""
        evaluator, data = config.get("evaluator"), config.get("data") or {}
        return cls(
            evaluator=None if evaluator == SUPERNET else evaluator,
            balanced=data.get("rank_by") == "balanced",
            folds=data.get("folds") or 1,
        )

    @property
    def images(self) -> str:
        """Which images judge, in words."""
        return "reward split" if self.folds == 1 else f"{self.folds} folds"

    def of_stage(self, stage: SearchStage) -> str:
        """What the top-1 of a stage's trials is on, in words; a user's own evaluator judges none of the final ones."""
        if self.evaluator is not None and stage is not SearchStage.FINAL:
            return f"by {self.evaluator}"
        return f"{self.images}, balanced accuracy" if self.balanced else self.images


class Origin(StrEnum):
    """Who proposed a trial's network, where that is neither a sampler, which gives its name, nor NetAdapt.

    `ADOPTED` is taken over from a search that this one started from, `START` the network that a mere walk starts from,
    `PROMOTED` one that a race trains further: its parent is the trial of the rung before, its iteration the rung.
    `UNCHANGED` is the network of NetAdapt's step before, fine-tuned to compare its narrower forms with.
    Of the final networks, `FOUND` is what the search ends with, chosen from `CANDIDATE` ones where there are several,
    and `BASELINE` what one would have without a search: the reference scaled until it meets the target.
    """

    REFERENCE = "reference"
    ENQUEUED = "enqueued"
    ADOPTED = "adopted"
    START = "start"
    PROMOTED = "promoted"
    UNCHANGED = "unchanged"
    CANDIDATE = "candidate"
    BASELINE = "baseline"
    FOUND = "found"


class State(StrEnum):
    """What became of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    PRUNED = "pruned"
    FAILED = "failed"


class JudgedAs(Protocol):
    """Whatever has the figures of a judgement; see `Scores`."""

    @property
    def top1(self) -> float | None:
        """The share of images that are classified right."""

    @property
    def log_likelihood(self) -> float | None:
        """Of the right class, the mean."""

    @property
    def probability(self) -> float | None:
        """Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What was found out about an architecture; rewards are computed from these and can be recomputed.

    `top1` (0-1) is on the reward split, never on the test split, and None where nothing was trained.
    `latency_ms` is the table's prediction: batch 1, low quantile of wall time; or what the whole network took, at the
    conditions of the table, where it was measured before it was trained (`search.stages.race.screening`). With
    several devices that one network must serve it is the slowest one's, as a share of its target, in ms of the first.
    `peak_bytes` is the largest working set of activations (`space.cost`); None: recorded before it was kept.
    `log_likelihood` (natural, at most 0) and `probability` (0-1) are means over the same images, of the right class;
    None: from an evaluator that gives none, or recorded before they were kept.
    """

    top1: float | None
    latency_ms: float
    madds: int
    params: int
    peak_bytes: int | None = None
    log_likelihood: float | None = None
    probability: float | None = None

    def judged_as(self, judged: "JudgedAs") -> "Scores":
        """The same network with what a judgement says of it."""
        return replace(self, top1=judged.top1, log_likelihood=judged.log_likelihood, probability=judged.probability)

    @property
    def unjudged(self) -> "Scores":
        """The same network before it is judged."""
        return replace(self, top1=None, log_likelihood=None, probability=None)

    def costs(self) -> np.ndarray:
        """The figures of `FIGURES`, shape (figures,), float64."""
        return np.array([self.latency_ms, self.madds, self.params, self.peak_bytes or 0], dtype=np.float64)

    @classmethod
    def from_costs(cls, top1: float, costs: np.ndarray) -> "Scores":
        """The inverse of `costs`."""
        latency_ms, madds, params, peak_bytes = costs[: len(FIGURES)].tolist()
        return cls(
            top1=float(top1), latency_ms=latency_ms, madds=int(madds), params=int(params), peak_bytes=int(peak_bytes)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One architecture in one stage of one search.

    `number` counts from 0 within the search. `parent` is the number of the trial whose weights were inherited.
    `origin` says who proposed it: a sampler's name, one of `Origin`, or what NetAdapt narrowed.
    `evaluation_key` identifies everything that the top-1 depends on; equal keys mean equal results.
    `weights` is a file name inside the run folder, `reused_from` the id of the trial whose evaluation was taken over.
    `sampler_attrs` is what the sampler noted of its proposal, and is given back on resume; of NetAdapt's proposals it
    is how many images they were to see.
    `correct` and `total` are images of the test split, set for final trials alone.
    """

    number: int
    stage: SearchStage
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
    sampler_attrs: dict[str, Any] | None = None
    evaluation_key: str | None = None
    images_seen: int = 0
    weights: str | None = None
    reused_from: int | None = None
    correct: int | None = None
    total: int | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def rung(self) -> int:
        """The rung of a race that its training reached, the first one being 0."""
        return (self.iteration or 0) if self.origin == Origin.PROMOTED else 0


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
class MeasuredWhole:
    """A whole network on the device: wall time in ms, batch 1.

    `table_id` is the latency table of that device; None: not recorded yet.
    """

    measured_ms: float
    low_ms: float
    high_ms: float
    median_ms: float
    samples: int
    table_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentMeasurement(MeasuredWhole):
    """That of the user's present model."""

    @classmethod
    def of(cls, measurement: Measurement) -> Self:
        """What was measured."""
        return cls(**_summary(measurement))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkMeasurement(MeasuredWhole):
    """That of a trial's network, with what the latency table predicted, side by side."""

    trial: int
    predicted_ms: float

    @classmethod
    def of(cls, trial: int, predicted_ms: float, measurement: Measurement) -> Self:
        """A trial's network beside its prediction."""
        return cls(trial=trial, predicted_ms=predicted_ms, **_summary(measurement))


def _summary(measurement: Measurement) -> dict[str, Any]:
    low, high = measurement.interval("warm", "wall")
    return {
        "measured_ms": measurement.estimate("warm", "wall"),
        "low_ms": low,
        "high_ms": high,
        "median_ms": float(np.median(measurement.warm_wall)),
        "samples": len(measurement.warm_wall),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentResult:
    """How many images of the test split the user's present model has right; `name` is its file's."""

    name: str
    sha256: str
    correct: int
    total: int
