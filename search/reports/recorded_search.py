"""A search as the record tells it: what reports and certificates are made from."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from search.config.load import NO_DATA, RunConfig, parse_config
from search.objective.latency import Goal
from search.record.rows import ExportRecord, LookedAt, SearchRecord, SearchStart
from search.record.store import Store
from search.run_folder import RunFolder
from search.trial import NetworkMeasurement, Origin, SearchStage, State, Trial
from space.errors import RunError
from trainer.training.metrics import Difference, paired_difference, wilson_interval
from trainer.training.recipe import Recipe


def found_trial(trials: Iterable[Trial], exports: Iterable[ExportRecord], *, has_finals: bool) -> Trial | None:
    """The trial whose network a search ended with, None while it has none.

    That is a completed final trial of origin `FOUND`: of several the one that was exported, else the best on the reward
    split, never on the test split: a winner chosen there would look better than it is. Where nothing is trained in the
    end, it is the trial whose spec was exported.
    """
    exported = {export.trial for export in exports}
    if has_finals:
        candidates = [trial for trial in trials if _is_complete_final(trial, Origin.FOUND)]
    else:
        candidates = [trial for trial in trials if trial.number in exported]
    return max(
        candidates, key=lambda trial: (trial.number in exported, trial.scores.top1 or 0.0, trial.number), default=None
    )


def reference_trial(trials: Iterable[Trial]) -> Trial | None:
    """The reference as it was trained in the end, None while it was not."""
    return next((trial for trial in trials if _is_complete_final(trial, Origin.REFERENCE)), None)


# How far predictions may be off, so that nobody knows whether the reference itself meets a target in ms.
_UNSURE = 0.04


def doubt(config: RunConfig, target_ms: float) -> float:
    """By what share the reference's prediction may be off: a share of its own latency is beyond doubt, and functions.

    A lower limit in ms is not.
    """
    is_relative = all(target.relative is not None for target in config.devices.values())
    is_limited = config.limits.latency_ms is not None and config.limits.latency_ms < target_ms
    return 0.0 if config.latency is not None or (is_relative and not is_limited) else _UNSURE


def may_be_chosen(trial: Trial, config: RunConfig, target_ms: float) -> bool:
    """Whether a final network is one of those that the search chooses its end from.

    In a race so is the reference, which is trained anyway, where it keeps all limits: of a target that is a share of
    its own latency for certain, of one in ms where its prediction leaves room for an error.
    """
    if trial.origin != Origin.REFERENCE:
        return trial.origin in (Origin.CANDIDATE, Origin.BASELINE)
    limit_ms = min(target_ms, config.limits.latency_ms or math.inf) / (1 + doubt(config, target_ms))
    limits = replace(config.limits.limits(None), latency_ms=limit_ms)
    return config.races and limits.refusal(trial.scores) is None


def recipes_hash(race: Recipe, final: Recipe) -> str:
    """16 hexadecimal digits that tell how networks are trained, however long."""
    content = [replace(each, images=1).to_plain() for each in (race, final)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _is_complete_final(trial: Trial, origin: Origin) -> bool:
    return trial.stage is SearchStage.FINAL and trial.origin == origin and trial.state is State.COMPLETE


@dataclass(frozen=True)
class RecordedSearch:
    """One search that has begun, read from the record when it is asked."""

    store: Store
    record: SearchRecord

    @classmethod
    def read(cls, store: Store, name: str) -> "RecordedSearch":
        """The search of this name as it now stands."""
        return cls(store, store.searches.get(name))

    @property
    def start(self) -> SearchStart:
        """What is known since it began."""
        return self.record.require_start()

    @cached_property
    def config(self) -> RunConfig:
        """Its configuration."""
        return parse_config(dict(self.record.config))

    @cached_property
    def devices(self) -> tuple[Goal, ...]:
        """The devices of its predictions, first the one in whose ms all figures are; none where a function predicts."""
        start = self.start
        if start.table_id is None:
            return ()
        further = self.store.searches.further_targets(self.record.id)
        targets = [(start.table_id, start.target_ms), *((each.table_id, each.target_ms) for each in further)]
        return tuple(
            Goal(table_id=table_id, table=self.store.tables.load(table_id), target_ms=target_ms)
            for table_id, target_ms in targets
        )

    @property
    def fingerprint(self) -> str:
        """What identifies the devices of its predictions, or the user's own function."""
        return " ".join(each.table.device.fingerprint for each in self.devices) or str(self.config.latency)

    @property
    def looked_at(self) -> LookedAt:
        """What its race's looks at networks are comparable by."""
        space = self.config.space
        scope = self.devices[0].table.scope if self.devices else f"{space.preset} {space.width:g}"
        recipes = recipes_hash(self.config.rung_recipe(1), self.config.final_recipe)
        # Trainings that begin with given weights are others.
        begun = self.config.supernet_hash or self.config.init_hash
        if begun is not None:
            recipes = f"{recipes} {begun}"
        return LookedAt(data_hash=self.start.data_hash, scope=scope, recipes=recipes)

    def predicted_ms(self, trial: Trial, device: Goal) -> float:
        """A trial's predicted latency on one of the devices."""
        if len(self.devices) == 1:
            return trial.scores.latency_ms
        return self._latencies[trial.number][device.table_id]

    @cached_property
    def _latencies(self) -> dict[int, dict[int, float]]:
        return self.store.trials.latencies(self.record.id)

    @cached_property
    def _trials(self) -> list[Trial]:
        return self.store.trials.of(self.record.id)

    @property
    def all_trials(self) -> list[Trial]:
        """The trials of all stages, by number."""
        return self._trials

    def trials(self, stage: SearchStage) -> list[Trial]:
        """The trials of a stage, by number."""
        return [trial for trial in self._trials if trial.stage is stage]

    def trial(self, number: int) -> Trial:
        """A trial by its number."""
        return next(trial for trial in self._trials if trial.number == number)

    def complete_trial(self, number: int) -> Trial:
        """A trial that has a result.

        Raises:
            RunError: there is none of this number.
        """
        name = self.record.name
        found = next((trial for trial in self._trials if trial.number == number), None)
        if found is None or found.state is not State.COMPLETE:
            raise RunError(f"search '{name}' has no completed trial {number}; see: mobilenas trials --search {name}")
        return found

    @property
    def found(self) -> Trial:
        """The trial whose network the search ended with.

        Raises:
            RunError: it has not ended with one yet.
        """
        exports = self.store.trials.exports(self.record.id)
        found = found_trial(self._trials, exports, has_finals=self.has_finals)
        if found is None:
            raise self._no_finals()
        return found

    def both(self) -> tuple[Trial, Trial]:
        """The completed final trials: found, reference.

        Raises:
            RunError: the search has not trained them yet.
        """
        found, reference = self.found, reference_trial(self._trials)
        if reference is None:
            raise self._no_finals()
        return found, reference

    @property
    def baseline(self) -> Trial | None:
        """The scaled reference as it was trained in the end, where there is one that the search did not end with."""
        trained = [trial for trial in self._trials if _is_complete_final(trial, Origin.BASELINE)]
        return next((trial for trial in trained if trial.architecture != self.found.architecture), None)

    @property
    def found_is_known(self) -> bool:
        """Whether the search ended with the reference, scaled or not, which one could have had without it."""
        parent = self.found.parent
        if parent is None or self.trial(parent).stage is not SearchStage.FINAL:
            return False
        return self.trial(parent).origin in (Origin.BASELINE, Origin.REFERENCE)

    @property
    def finalists(self) -> tuple[Trial, ...]:
        """The completed final trials that the search chose its end from; none where there was no choice."""
        target_ms = self.start.target_ms
        return tuple(
            trial
            for trial in self.trials(SearchStage.FINAL)
            if trial.state is State.COMPLETE and may_be_chosen(trial, self.config, target_ms)
        )

    def latency_before(self, trial: Trial) -> float:
        """A final network's latency, ms, as it was measured before it was trained where it was, else predicted."""
        return (trial if trial.parent is None else self.trial(trial.parent)).scores.latency_ms

    def reward_interval(self, trial: Trial) -> tuple[float, float] | None:
        """The 95 % interval of a top-1 by which networks are chosen; None where no images judged."""
        path, top1 = self.files.judged(trial.number), trial.scores.top1
        if top1 is None or self.config.judge.balanced or not path.exists():
            return None
        images = path.stat().st_size  # a byte each
        return wilson_interval(round(top1 * images), images)

    def certified(self) -> tuple[Trial, ...]:
        """The completed final trials that are measured side by side: found, reference and, if there is one, baseline.

        Raises:
            RunError: the search has not trained them yet.
        """
        return (*self.both(), *([] if self.baseline is None else [self.baseline]))

    def _no_finals(self) -> RunError:
        name = self.record.name
        return RunError(f"search '{name}' has found no network yet; see: mobilenas status {name}")

    def measurements(self, device: Goal) -> dict[int, NetworkMeasurement]:
        """What was measured whole on a device, by final trial; empty until the search is certified there."""
        found = self.store.trials.measurements(self.record.id)
        final = {trial.number for trial in self.trials(SearchStage.FINAL)}
        return {each.trial: each for each in found if each.table_id == device.table_id and each.trial in final}

    @property
    def has_finals(self) -> bool:
        """Whether networks were trained in the end: not where a user's own evaluator had no data."""
        return self.config.data.source != NO_DATA

    @property
    def has_ended(self) -> bool:
        """Whether it has its network, certified or not."""
        return self.record.stage in (SearchStage.AWAITING, SearchStage.DONE)

    @property
    def is_certified(self) -> bool:
        """Whether the final networks were measured on every device."""
        return all(self.measurements(device) for device in self.devices)

    def warnings(self) -> list[str]:
        """What speaks against the final measurement, such as a throttled device; a sentence each."""
        lines = self.store.searches.log(self.record.id)
        return [f"Warning: {line.message}." for line in lines if line.level == "warning" and line.event == "note"]

    @property
    def files(self) -> RunFolder:
        """What lies in its run folder."""
        return self.start.files

    def right(self, trial: Trial) -> np.ndarray:
        """Which images of the test split a final trial classified right, bool N."""
        return self.files.right_of(trial.number)

    def difference(self, other: Trial | None = None) -> Difference:
        """Top-1 on the test split, found minus reference or another final trial, on the same images."""
        found, reference = self.both()
        return paired_difference(self.right(found), self.right(other or reference))
