"""Several searches beside each other: what differs, what each reached under one target, and how sure that is."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from search.objective.pareto import hypervolume, losses
from search.objective.reward import HARD
from search.reports.history import SEARCHED, History
from search.trial import SearchStage, Trial
from space.errors import RunError
from trainer.training.metrics import Difference, paired_difference, wilson_interval

MISSING = "(not set)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePoint:
    """What a front is measured from: top-1 of guessing, and a latency in ms that nobody would accept."""

    top1: float
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What one search reached and spent.

    `best` is the most accurate network of block-level search and NetAdapt within the target, by top-1 on the reward
    split. `reward` is the best hard reward (`search.objective.reward`) against that target, so that it compares between
    searches.
    `hypervolume` is the share of the rectangle between the reference point and a perfect network that takes no time.
    """

    name: str
    state: str
    evaluations: int
    best: Trial | None
    reward: float | None
    hypervolume: float
    counts: Mapping[str, int]
    images_seen: int
    core_minutes: Mapping[str, float]

    @property
    def all_core_minutes(self) -> float:
        """Of all stages."""
        return sum(self.core_minutes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalDifference:
    """Test top-1 of one found network minus another's; paired where it is known which images each had right."""

    difference: Difference
    kind: Literal["paired", "unpaired"]
    totals: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtEqual:
    """Best top-1 within the target after as much as every search has spent."""

    evaluations: int
    core_minutes: float
    by_evaluations: tuple[float | None, ...]
    by_core_minutes: tuple[float | None, ...]


def common_target(histories: Sequence[History]) -> float:
    """The largest of the searches' targets in ms: under it counts what each of them looked for.

    Raises:
        RunError: none of them has begun.
    """
    targets = [history.record.start.target_ms for history in histories if history.record.start]
    if not targets:
        names = ", ".join(f"'{history.name}'" for history in histories)
        raise RunError(f"{names} has not begun, so there is no target yet; see: mobilenas searches")
    return max(targets)


def reference_point(histories: Sequence[History], target_ms: float) -> ReferencePoint:
    """Guessing, and the slowest of the target and the searches' reference networks."""
    start = [history.record.start for history in histories if history.record.start]
    references = [each.reference_ms for each in start if each.reference_ms is not None]
    classes = [trial.architecture.num_classes for history in histories for trial in history.trials]
    return ReferencePoint(top1=1 / max(classes, default=2), latency_ms=max([target_ms, *references]))


def covered(history: History, reference: ReferencePoint) -> float:
    """The hypervolume of a search's networks as a share of the whole, 0-1."""
    trials = history.complete(*SEARCHED)
    if not trials:
        return 0.0
    points = losses(
        np.array([trial.scores.top1 for trial in trials]), np.array([trial.scores.latency_ms for trial in trials])
    )
    corner = np.array([1 - reference.top1, reference.latency_ms])
    return hypervolume(points, corner) / float(corner.prod())


def standing(history: History, target_ms: float, reference: ReferencePoint) -> Standing:
    """What a search reached and spent, by a common target and reference point."""
    rewards = [HARD.of(trial.scores, target_ms) for trial in history.complete(*SEARCHED)]
    return Standing(
        name=history.name,
        state=history.record.state,
        evaluations=len(history.complete(*SEARCHED)),
        best=next(iter(history.within(target_ms)), None),
        reward=max((reward for reward in rewards if reward is not None), default=None),
        hypervolume=covered(history, reference),
        counts=history.counts(),
        images_seen=sum(trial.images_seen for trial in history.trials),
        core_minutes={
            stage.value: history.core_minutes(stage)
            for stage in (SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL)
        },
    )


def at_equal(histories: Sequence[History], target_ms: float) -> AtEqual:
    """The searches after as many evaluations, and as many core-minutes, as the shortest of them has."""
    curves = [history.top1_curve(target_ms) for history in histories]
    evaluations = min(curve.evaluations for curve in curves)
    minutes = min(curve.core_minutes[-1] if curve.core_minutes else 0.0 for curve in curves)
    return AtEqual(
        evaluations=evaluations,
        core_minutes=minutes,
        by_evaluations=tuple(curve.after(evaluations) for curve in curves),
        by_core_minutes=tuple(curve.within(minutes) for curve in curves),
    )


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A configuration's values by their dotted keys."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def config_differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The dotted keys, but for the name, whose values are not the same in all configurations, with these values."""
    flat = [dict(flattened(config)) for config in configs]
    keys = sorted(set().union(*flat) - {"name"})
    values = {key: tuple(each.get(key, MISSING) for each in flat) for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def newcombe_difference(first: tuple[int, int], second: tuple[int, int]) -> Difference:
    """The difference of two proportions on separate images, each (right, total), with its 95 % interval.

    The hybrid score interval of Newcombe 1998 (method 10), made of both Wilson intervals.
    """
    (one, other), (low, high), (other_low, other_high) = (
        (first[0] / first[1], second[0] / second[1]),
        wilson_interval(*first),
        wilson_interval(*second),
    )
    difference = one - other
    return Difference(
        difference=difference,
        low=difference - math.hypot(one - low, other_high - other),
        high=difference + math.hypot(high - one, other - other_low),
    )


def final_difference(one: History, other: History) -> FinalDifference | None:
    """Test top-1 of the networks that two searches found; None where one has no final network, or data differ."""
    first, second = one.found, other.found
    if first is None or second is None or not _same_data(one, other):
        return None
    return trial_difference((one, first), (other, second))


def trial_difference(first: tuple[History, Trial], second: tuple[History, Trial]) -> FinalDifference | None:
    """Test top-1 of two final trials on the same data."""
    counts = [(trial.correct or 0, trial.total or 0) for _, trial in (first, second)]
    if not all(total for _, total in counts):
        return None
    totals = (counts[0][1], counts[1][1])
    one, other = first[0].right(first[1]), second[0].right(second[1])
    if one is not None and other is not None and len(one) == len(other):
        return FinalDifference(difference=paired_difference(one, other), kind="paired", totals=totals)
    return FinalDifference(difference=newcombe_difference(counts[0], counts[1]), kind="unpaired", totals=totals)


def _same_data(one: History, other: History) -> bool:
    start = (one.record.start, other.record.start)
    return start[0] is not None and start[1] is not None and start[0].data_hash == start[1].data_hash


_TOP1_RESTS_ON = {
    "data.reward_fraction": "networks are ranked on different images",
    "data.reward_images": "networks are ranked on different images",
    "data.split_seed": "networks are ranked on different images",
    "blocks.train_images": "networks are trained on different numbers of images",
    "blocks.epochs": "networks are trained for different times",
    "race.rungs": "networks race to different numbers of images",
    "netadapt.images": "NetAdapt's networks are fine-tuned for different times",
    "netadapt.most_images": "NetAdapt's networks are fine-tuned for different times",
    "netadapt.steps": "NetAdapt's networks are fine-tuned for different times",
}


def warnings(histories: Sequence[History]) -> list[str]:
    """What speaks against comparing the first search with the others, a sentence each."""
    first, *others = histories
    found: dict[str, list[str]] = {}
    for other in others:
        for reason in _reasons(first, other):
            found.setdefault(reason, []).append(f"'{other.name}'")
    return [f"'{first.name}' and {', '.join(names)}: {reason}." for reason, names in found.items()]


def _reasons(one: History, other: History) -> Iterator[str]:
    if one.record.start and other.record.start and not _same_data(one, other):
        yield "different data, so top-1 cannot be compared"
    devices, tables = _predicted_by(one, other)
    if devices:
        yield "different devices, so latencies cannot be compared"
    elif tables:
        yield "predicted by different latency tables of one device, so latencies may differ by a few percent"
    for reason in dict.fromkeys(_TOP1_RESTS_ON.values()):
        keys = [key for key, why in _TOP1_RESTS_ON.items() if why == reason]
        if any(one.setting(key) != other.setting(key) for key in keys):
            yield f"{reason}, so top-1 during the search can be compared only roughly"


def _predicted_by(one: History, other: History) -> tuple[bool, bool]:
    """Whether two searches that have begun differ in their devices, and in the tables of these."""
    if not (one.record.start and other.record.start):
        return False, False
    pair = (one, other)
    devices = [[each.device.fingerprint for each in history.served] or history.setting("latency") for history in pair]
    tables = [[each.table_id for each in history.served] for history in pair]
    return devices[0] != devices[1], tables[0] != tables[1]


def replicates(histories: Sequence[History]) -> list[list[History]]:
    """The searches in groups that differ in nothing but their seeds, in the order of their first members."""
    groups: dict[str, list[History]] = {}
    for history in histories:
        flat = dict(flattened(history.record.config))
        # Minutes are those that the machine had left, which a race may have been planned anew by.
        same = {key: value for key, value in flat.items() if key not in ("name", "seed", "workers", "race.minutes")}
        start = history.record.start
        content = json.dumps([same, start and [start.data_hash, start.target_ms]], sort_keys=True, default=str)
        groups.setdefault(content, []).append(history)
    return list(groups.values())
