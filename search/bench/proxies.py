"""How much cheap signals say of what networks reach, on learning curves: their rank correlation, and what they cost.

A signal orders networks before they are trained to the end. What it is held against is the top-1 on the test split
after the whole training: the mean over a network's other trainings where there are several, else that of the training
that the signal was seen in, and the two share their luck.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from latency.analysis.agreement import kendall_tau
from search.bench.curves import Curve, Point, read_rows
from search.record.rows import SignalQuality
from search.samplers.prior import fitted
from space.arch import Architecture
from space.cost import cost_of

NEAR = 0.1
"""Networks whose latency is within this share of the limit are near it."""
Compared = Literal["space", "near the limit"]
TOPS = (1, 4, 10)
"""So many of a signal's best are trained to the end, and the best of them by the reward split is taken."""
_RESAMPLED, _ORDERS = 400, 1000
# Fewer networks have no order worth telling.
_LEAST = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A signal that was measured elsewhere: what it says of networks by their ids; `seconds` as in `SignalQuality`."""

    signal: str
    values: dict[str, float]
    seconds: float | None


def read_signals(path: Path) -> list[Measured]:
    """Signals from a CSV file with the columns `signal`, `arch_id`, `value` and, where known, `seconds`.

    Raises:
        DataError: it cannot be read, or is none.
    """
    values: dict[str, dict[str, float]] = defaultdict(dict)
    costs: dict[str, list[float | None]] = defaultdict(list)
    for signal, arch_id, value, seconds in read_rows(path, _measured):
        values[signal][arch_id] = value
        costs[signal].append(seconds)
    return [Measured(signal=name, values=values[name], seconds=_mean(costs[name])) for name in values]


def _measured(row: dict[str, str]) -> tuple[str, str, float, float | None]:
    value, seconds = float(row["value"]), float(row["seconds"]) if row.get("seconds") else None
    if not math.isfinite(value) or not 0 <= (seconds or 0.0) < math.inf:
        raise ValueError("a value is not finite, or seconds are negative or not finite")
    return row["signal"], row["arch_id"], value, seconds


@dataclass(frozen=True)
class _Look:
    """One training of each of some networks, and what each is worth by the others that all have."""

    curves: Sequence[Curve]
    seed: int
    seeds: Sequence[int]

    def points(self, images: int) -> list[Point]:
        """After so many images."""
        return [curve.points[self.seed][images] for curve in self.curves]

    @property
    def truths(self) -> np.ndarray:
        """Top-1 on the test split at the end, shape (networks,)."""
        return np.array([self._truth(curve) for curve in self.curves])

    def _truth(self, curve: Curve) -> float:
        others = [seed for seed in self.seeds if seed != self.seed] or [self.seed]
        return float(np.mean([curve.points[seed][max(curve.points[seed])].test_top1 for seed in others]))

    @property
    def ends(self) -> np.ndarray:
        """What a search would see at the end: the log-likelihood on the reward split, shape (networks,)."""
        return np.array([point.reward_ll for point in self.points(max(self.curves[0].points[self.seed]))])


Signal = Callable[[_Look], np.ndarray]
"""Of each network, the larger the better, shape (networks,)."""


def trainings_of(curves: Sequence[Curve]) -> tuple[int, ...]:
    """The seeds that every one of these networks was trained with."""
    return tuple(sorted(set.intersection(*(set(curve.points) for curve in curves))))


def qualities(every: Sequence[Curve], limit_ms: float, measured: Sequence[Measured] = ()) -> list[SignalQuality]:
    """Every signal over all networks, and over what is near the limit, as far as there are networks enough.

    Where there are signals that were measured elsewhere, of the networks alone that all of them speak of.
    """
    low, high = (1 - NEAR) * limit_ms, (1 + NEAR) * limit_ms
    known = tuple(each for each in every if all(each.arch.arch_id in other.values for other in measured))
    near = tuple(curve for curve in known if low <= curve.ms <= high)
    found = []
    groups: tuple[tuple[Compared, tuple[Curve, ...]], ...] = (("space", known), ("near the limit", near))
    for compared, curves in groups[int(len(near) == len(known)) :]:
        if len(curves) >= _LEAST and trainings_of(curves):
            signals = _signals(curves, measured)
            found += [
                _quality(name, images, compared, curves, signal, seconds) for name, images, signal, seconds in signals
            ]
    return found


def _signals(
    curves: Sequence[Curve], measured: Sequence[Measured]
) -> Iterator[tuple[str, int | None, Signal, float | None]]:
    """By name, with the images that are trained on, and what each costs."""
    yield "random order", None, lambda look: np.zeros(len(look.curves)), 0.0
    yield "multiply-adds", None, lambda look: np.array([cost_of(each.arch).madds for each in look.curves]), 0.0
    yield "parameters", None, lambda look: np.array([cost_of(each.arch).params for each in look.curves]), 0.0
    yield "depth", None, lambda look: np.array([_depth(each.arch) for each in look.curves]), 0.0
    yield "latency", None, lambda look: np.array([each.ms for each in look.curves]), 0.0
    yield "linear model of the others' ends", None, _linear, 0.0
    for each in measured:
        yield each.signal, None, _said(each), each.seconds
    seed = trainings_of(curves)[0]
    every = sorted(set.intersection(*(set(curve.points[seed]) for curve in curves)))
    for images in every:
        points = [curve.points[seed][images] for curve in curves]
        seconds = _mean([point.seconds for point in points])
        trained = f"{images:,} images" if images else "the supernet's weights"
        trained = "the whole training" if images == every[-1] else trained
        yield f"{trained}, top-1", images, _at(images, lambda point: point.reward_top1), seconds
        yield f"{trained}, log-likelihood", images, _at(images, lambda point: point.reward_ll), seconds
        if all(point.reward_p is not None for point in points):
            yield f"{trained}, probability", images, _at(images, lambda point: point.reward_p or 0.0), seconds


def _said(measured: Measured) -> Signal:
    return lambda look: np.array([measured.values[curve.arch.arch_id] for curve in look.curves])


def _at(images: int, of: Callable[[Point], float]) -> Signal:
    return lambda look: np.array([of(point) for point in look.points(images)])


def _depth(arch: Architecture) -> int:
    return sum(len(stage.blocks) for stage in arch.stages)


def _linear(look: _Look) -> np.ndarray:
    """What the shipped prior is made like, fitted on what all others of these networks reach."""
    networks, truths = [curve.arch for curve in look.curves], look.truths
    said = []
    for left_out in range(len(networks)):
        others = [each for each in range(len(networks)) if each != left_out]
        prior = fitted([networks[each] for each in others], truths[others])
        said.append(float(prior.scores([networks[left_out]])[0]))
    return np.array(said)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _quality(
    name: str, images: int | None, compared: Compared, curves: Sequence[Curve], signal: Signal, seconds: float | None
) -> SignalQuality:
    seeds = trainings_of(curves)
    looks = [_Look(curves, seed, seeds) for seed in seeds]
    seen = [(signal(look), look.truths, look.ends) for look in looks]
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(curves), (_RESAMPLED, len(curves)))
    resampled = [np.mean([kendall_tau(said[rows], truths[rows]) for said, truths, _ in seen]) for rows in drawn]
    low, high = np.nanquantile(resampled, (0.025, 0.975)).tolist() if np.isfinite(resampled).any() else (math.nan,) * 2
    tops = [top for top in TOPS if top < len(curves)]
    return SignalQuality(
        signal=name,
        images=images,
        compared=compared,
        networks=len(curves),
        trainings=len(seeds),
        tau=float(np.mean([kendall_tau(said, truths) for said, truths, _ in seen])),
        low=low,
        high=high,
        regrets={top: float(np.mean([_regret(*each, top, rng) for each in seen])) for top in tops},
        seconds=seconds,
    )


def _regret(said: np.ndarray, truths: np.ndarray, ends: np.ndarray, top: int, rng: np.random.Generator) -> float:
    """What is lost, in points, where of a signal's best so many are trained to the end; equals come in random order."""
    orders = _ORDERS if len(np.unique(said)) < len(said) else 1
    lost = []
    for _ in range(orders):
        best = np.lexsort((rng.random(len(said)), -said))[:top]
        lost.append(truths.max() - truths[best[ends[best].argmax()]])
    return 100 * float(np.mean(lost))
