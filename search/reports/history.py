"""A search as reports and comparisons see it: what was evaluated, when, what it cost, and how good it was by then.

Works for searches in every state; everything is read once, so that a page about a running search fits together.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from latency.calibration import Calibration
from latency.device import Device
from latency.table import calibrations_from_plain
from search.config.load import NO_DATA
from search.objective.pareto import losses, non_dominated
from search.record.rows import ExportRecord, SearchRecord, duration_s
from search.record.store import Store
from search.reports.race import furthest
from search.reports.recorded_search import found_trial, reference_trial
from search.trial import (
    Judge,
    NetAdaptStep,
    NetworkMeasurement,
    Origin,
    PresentMeasurement,
    PresentResult,
    SearchStage,
    State,
    Trial,
)
from space.arch import Architecture
from space.cost import cost_of
from space.errors import DataError, MobilenasError
from space.reference import REFERENCES
from trainer.training.judgement import Judgement

SEARCHED = (SearchStage.BLOCKS, SearchStage.NETADAPT)
"""The stages whose top-1 is on the reward split."""
_ENDED = (State.COMPLETE, State.STOPPED, State.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The best value so far, after each evaluation that ended.

    `core_minutes` is what was spent until then, failures included; `best` is None until there is one.
    """

    core_minutes: tuple[float, ...]
    best: tuple[float | None, ...]

    @property
    def evaluations(self) -> int:
        """How many evaluations there are."""
        return len(self.best)

    def after(self, evaluations: int) -> float | None:
        """The best of the first so many evaluations."""
        count = min(evaluations, len(self.best))
        return self.best[count - 1] if count else None

    def within(self, core_minutes: float) -> float | None:
        """The best of what so many minutes of one core paid for."""
        return self.after(bisect_right(self.core_minutes, core_minutes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A device that a search is for: its latency table, without the samples, and the target there in ms."""

    table_id: int
    device: Device
    blocks: int
    calibration: Calibration
    target_ms: float


@dataclass(frozen=True)
class History:
    """One search, read at one moment.

    `served` are its devices, first the one in whose ms all figures are: none while it is queued, or where a user's own
    function predicts. `costs` are seconds of one core by trial number.
    """

    record: SearchRecord
    served: tuple[Served, ...]
    trials: tuple[Trial, ...]
    rewards: Mapping[int, float]
    steps: tuple[NetAdaptStep, ...]
    measurements: tuple[NetworkMeasurement, ...]
    exports: tuple[ExportRecord, ...]
    costs: Mapping[int, float]
    present: PresentResult | None = None
    present_measurements: tuple[PresentMeasurement, ...] = ()

    @classmethod
    def read(cls, store: Store, name: str) -> "History":
        """The search of this name as it now stands.

        Raises:
            StoreError: there is none.
        """
        record = store.searches.get(name)
        # What refers to trials is read before them, so that a running search does not get ahead of us.
        steps, exports = store.trials.steps(record.id), store.trials.exports(record.id)
        measurements, rewards = store.trials.measurements(record.id), store.trials.rewards(record.id)
        trials = store.trials.of(record.id)
        return cls(
            record=record,
            served=tuple(_served(store, record)),
            trials=tuple(trials),
            rewards=rewards,
            steps=tuple(steps),
            measurements=tuple(measurements),
            exports=tuple(exports),
            costs={trial.number: _cost_s(store, trial) for trial in trials},
            present=store.trials.present(record.id),
            present_measurements=tuple(store.trials.present_measurements(record.id)),
        )

    @property
    def name(self) -> str:
        """The search's name."""
        return self.record.name

    @cached_property
    def by_number(self) -> dict[int, Trial]:
        """The trials by number."""
        return {trial.number: trial for trial in self.trials}

    def setting(self, dotted: str) -> Any:  # noqa: ANN401 - any value of a configuration
        """A value of the configuration by its dotted key, None where this record's has no such key."""
        value: Any = self.record.config
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    @property
    def latency_head(self) -> str:
        """The head of a column of trials' latencies."""
        return "latency, ms" if self.measures_candidates else "predicted latency, ms"

    @property
    def measures_candidates(self) -> bool:
        """Whether networks are measured before they are trained: in a race, where the device can be asked."""
        measured = {each.trial for each in self.measurements if self.setting("race.rungs")}
        return any(trial.number in measured for trial in self.trials if trial.stage is SearchStage.BLOCKS)

    @property
    def judge(self) -> Judge:
        """Who ranked its networks."""
        return Judge.of(self.record.config)

    @property
    def walks(self) -> bool:
        """Whether it is but a walk from a given network."""
        return self.setting("netadapt.start") is not None

    def complete(self, *stages: SearchStage) -> list[Trial]:
        """The trials of these stages that have a top-1, by number; not what all networks of a search begin with."""
        return [
            trial
            for trial in self.trials
            if trial.stage in stages
            and trial.state is State.COMPLETE
            and trial.scores.top1 is not None
            and (self.walks or trial.origin != Origin.START)
        ]

    def reference(self) -> Trial | None:
        """The reference network as the block-level search evaluated it."""
        return next((trial for trial in self.complete(SearchStage.BLOCKS) if trial.origin == Origin.REFERENCE), None)

    @property
    def found(self) -> Trial | None:
        """The trial whose network the search ended with, once there is one."""
        has_finals = self.setting("data.source") != NO_DATA
        return found_trial(self.trials, self.exports, has_finals=has_finals)

    @property
    def final_reference(self) -> Trial | None:
        """The reference as it was trained in the end, once it is."""
        return reference_trial(self.trials)

    def measured(self, trial: Trial, device: Served) -> NetworkMeasurement | None:
        """What a trial's network took on a device, measured whole; the newest measurement."""
        mine = [each for each in self.measurements if each.trial == trial.number]
        found = [each for each in mine if each.table_id == device.table_id]
        return found[-1] if found else None

    def present_measured(self, device: Served) -> PresentMeasurement | None:
        """What the user's present model took on a device; the newest measurement."""
        found = [each for each in self.present_measurements if each.table_id == device.table_id]
        return found[-1] if found else None

    def present_right(self) -> Any:  # noqa: ANN401 - numpy's array of bool, or None
        """Which test images the present model has right, shape (images,), bool; None where the file is not here."""
        if self.record.start is None or self.present is None:
            return None
        try:
            right = Judgement.from_bytes(self.record.start.files.present_tested.read_bytes()).right
        except (OSError, DataError):
            return None
        return right if right.shape == (self.present.total,) else None

    def right(self, trial: Trial) -> Any:  # noqa: ANN401 - numpy's array of bool, or None
        """Which test images a final trial classified right, shape (images,), bool; None where the file is not here."""
        if self.record.start is None:
            return None
        try:
            right = self.record.start.files.right_of(trial.number)
        except (OSError, ValueError, EOFError, DataError):
            return None  # it is on another machine, or was removed or damaged
        return right if right.dtype == bool and right.shape == (trial.total,) else None

    def judged(self, trial: Trial) -> Judgement | None:
        """What a trial's network said of the images that judged it; None where the file is not here."""
        if self.record.start is None:
            return None
        try:
            return Judgement.from_bytes(self.record.start.files.judged(trial.number).read_bytes())
        except (OSError, DataError):
            return None

    def core_minutes(self, *stages: SearchStage) -> float:
        """Minutes of one core that the trials of these stages (of none: all) took."""
        chosen = [trial for trial in self.trials if not stages or trial.stage in stages]
        return sum(self.costs[trial.number] for trial in chosen) / 60

    def counts(self, *stages: SearchStage) -> dict[str, int]:
        """How many trials of these stages (of none: all) are in each state."""
        states = [trial.state for trial in self.trials if not stages or trial.stage in stages]
        return {state.value: states.count(state) for state in State if state in states}

    def networks(self) -> list[Trial]:
        """What the block-level search and NetAdapt evaluated, by number; of a race each network as it was left."""
        return furthest(self.complete(*SEARCHED))

    def compared_alike(self) -> list[Trial]:
        """The networks that a front is drawn of: all, but of a race along a front those of its furthest rung.

        That is the last one that several networks have ended: who was trained for less is less accurate for that.
        """
        trained = self.complete(*SEARCHED)
        ended = Counter(trial.rung for trial in trained)
        last = max((rung for rung, count in ended.items() if count > 1), default=0)
        if not last or not self.setting("blocks.objectives"):
            return self.networks()
        return [trial for trial in trained if trial.rung == last]

    def within(self, target_ms: float) -> list[Trial]:
        """The networks of the block-level search and of NetAdapt that meet a target, the most accurate first."""
        trials = [trial for trial in self.networks() if trial.scores.latency_ms <= target_ms]
        return sorted(trials, key=lambda trial: (-(trial.scores.top1 or 0), trial.scores.latency_ms, trial.number))

    def best_so_far(self, value_of: Callable[[Trial], float | None], *stages: SearchStage) -> Curve:
        """How the best value grew over the evaluations of some stages, in the order in which they ended."""
        spent, best = 0.0, None
        minutes: list[float] = []
        values: list[float | None] = []
        for trial in self._ended(stages or SEARCHED):
            spent += self.costs[trial.number] / 60
            if trial.state is not State.COMPLETE or (trial.origin == Origin.START and not self.walks):
                continue
            value = value_of(trial)
            if value is not None and (best is None or value > best):
                best = value
            minutes.append(spent)
            values.append(best)
        return Curve(core_minutes=tuple(minutes), best=tuple(values))

    def evaluated(self, *stages: SearchStage) -> list[Trial]:
        """The trials of these stages that have a result, in the order in which they ended."""
        return [trial for trial in self._ended(stages) if trial.state is State.COMPLETE]

    def _ended(self, stages: tuple[SearchStage, ...]) -> list[Trial]:
        """Those that a worker was busy with, to whatever end, in the order of their ends."""
        ended = [trial for trial in self.trials if trial.stage in stages and trial.state in _ENDED]
        return sorted(ended, key=lambda trial: (trial.finished_at or self.record.created_at, trial.number))

    def reward_curve(self) -> Curve:
        """The best reward of the block-level search so far."""
        return self.best_so_far(lambda trial: self.rewards.get(trial.number), SearchStage.BLOCKS)

    def top1_curve(self, target_ms: float) -> Curve:
        """The best top-1 within a target so far; None until a network meets it."""

        def value(trial: Trial) -> float | None:
            return trial.scores.top1 if trial.scores.latency_ms <= target_ms else None

        return self.best_so_far(value)


def latency_of(trial: Trial) -> float:
    """The latency of a trial's network by which the search went on, ms: predicted, or measured in a race."""
    return trial.scores.latency_ms


def front_of(trials: Sequence[Trial], cost: Callable[[Trial], float] = latency_of) -> list[Trial]:
    """The trials that no other one beats in top-1 and cost, the cheapest first; of equal ones the first."""
    if not trials:
        return []
    costs = [cost(trial) for trial in trials]
    kept = non_dominated(losses(np.array([trial.scores.top1 or 0 for trial in trials]), np.array(costs)))
    chosen = zip(costs, trials, kept, strict=True)
    distinct = {(spent, trial.scores.top1 or 0): trial for spent, trial, is_kept in reversed(list(chosen)) if is_kept}
    return [distinct[key] for key in sorted(distinct)]


def published_name(history: History, arch: Architecture) -> str | None:
    """What the literature calls a network, if it is a published one at this search's width multiplier."""
    return name_at_width(history.setting("space.width"), arch)


def name_at_width(width: object, arch: Architecture) -> str | None:
    """What the literature calls a network, if it is a published one at a width multiplier."""
    if not isinstance(width, int | float):
        return None
    return _published(float(width)).get((arch.stem, arch.stages, arch.head))


@lru_cache(maxsize=512)  # a scaled reference is looked for among some hundred widths
def _published(width: float) -> dict[tuple[object, ...], str]:
    """The names of published networks by what they are made of, of two that are alike the first."""
    found: dict[tuple[object, ...], str] = {}
    for name, known in REFERENCES.items():
        with suppress(MobilenasError):  # not every one exists at every width
            arch = known(width=width)
            found.setdefault((arch.stem, arch.stages, arch.head), name)
    return found


def peak_bytes(trial: Trial) -> int:
    """The largest working set of activations of a trial's network, also where the record does not have it yet."""
    recorded = trial.scores.peak_bytes
    return cost_of(trial.architecture).peak_bytes if recorded is None else recorded


def _served(store: Store, record: SearchRecord) -> Iterator[Served]:
    """The devices; samples, of which there are many, are read only where there is no other way to know a device."""
    if record.start is None or record.start.table_id is None:
        return
    further = [(each.table_id, each.target_ms) for each in store.searches.further_targets(record.id)]
    rows = {row["id"]: row for row in store.tables.rows()}
    for table_id, target_ms in [(record.start.table_id, record.start.target_ms), *further]:
        row = rows[table_id]
        device = store.tables.newest_device(row["device"])
        if device is None or device.fingerprint != row["fingerprint"]:
            device = store.tables.load(table_id).device
        fit, _ = calibrations_from_plain(row["calibration"])
        blocks = row["blocks"]
        yield Served(table_id=table_id, device=device, blocks=blocks, calibration=fit, target_ms=target_ms)


def _cost_s(store: Store, trial: Trial) -> float:
    """Seconds of one core; where a result was taken over, what it took where it was trained."""
    if trial.reused_from is not None and trial.evaluation_key is not None:
        sources = [found.trial for found in store.trials.find_evaluations(trial.evaluation_key)]
        trial = next((source for source in sources if source.id == trial.reused_from), trial)
    return duration_s(trial) or 0.0
