"""One search while it runs: the values that all of its stages share, and its only writer."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from latency.collect import measure_missing
from search.config.load import RunConfig
from search.evaluation.data import Data
from search.evaluation.executor import Executor
from search.events import Listener
from search.objective.latency import Goal, Latency, scores_of
from search.objective.reward import Reward
from search.record.heartbeat import Heartbeat
from search.record.rows import FoundEvaluation, SearchRecord, SearchStart
from search.record.store import Store
from search.record.tables import Reason
from search.stages.earlier.reuse import taken
from search.stages.evaluations import Evaluations
from search.stages.trial_index import TrialIndex
from search.trial import Origin, Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.choices import Params, SearchSpace
from space.errors import MissingBlock, RunError, Stopped
from space.keys import BlockKey

# How often the record is asked whether somebody wants an early end.
ASK_SECONDS = 1.0


class Interrupted(Stopped):
    """The search was stopped on purpose; everything finished is recorded."""


class AwaitsKit(Interrupted):
    """A kit is to be carried to a device before the search can go on."""


@dataclass(kw_only=True)
class Session:
    """What a search is while it runs; nobody else writes to its record.

    `goals` are its devices, none where a user's own function predicts; `index` has its trials as they are recorded, and
    `evaluations` says how they are judged. `stop` is called from outside, by the first Ctrl-C.
    """

    store: Store
    record: SearchRecord
    config: RunConfig
    space: SearchSpace
    data: Data
    goals: tuple[Goal, ...]
    latency: Latency
    executor: Executor
    listener: Listener
    heartbeat: Heartbeat
    opened_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    index: TrialIndex = field(init=False)
    evaluations: Evaluations = field(init=False)
    _stopping: bool = False
    _left_running: list[Trial] = field(init=False)
    _finish: tuple[float, bool] = (-1e9, False)

    def __post_init__(self) -> None:
        self._left_running = self.store.trials.requeue_running(self.record.id)
        self.index = TrialIndex(self.store.trials.of(self.record.id))
        self.evaluations = Evaluations.of_run(self.config, self.data, self.space)
        self.listener.judged_by(self.config.judge)

    @property
    def start(self) -> SearchStart:
        """What is known since it began."""
        return self.record.require_start()

    def follow(self, config: RunConfig) -> None:
        """Go on by a configuration that was changed, which is recorded."""
        self.record = replace(self.record, config=config.model_dump(mode="json"))
        self.store.searches.set_config(self.record.id, self.record.config)
        self.config, self.evaluations = config, self.evaluations.following(config)

    def stop(self) -> None:
        """Let running trials end, and start no more."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether somebody here or elsewhere asked it to stop."""
        return self._stopping or self.heartbeat.stop_requested

    def end_if_stopping(self) -> None:
        """Go no further where somebody asked it to stop.

        Raises:
            Interrupted: somebody did.
        """
        if self.stopping:
            name = self.record.name
            raise Interrupted(
                f"search '{name}' stopped; go on with: mobilenas resume {name}, or end with the best so far: "
                f"mobilenas finish {name}"
            )

    @property
    def finish_requested(self) -> bool:
        """Whether somebody asked for an early end, as the record said at most a second ago."""
        asked_at, asked = self._finish
        if not asked and time.monotonic() - asked_at > ASK_SECONDS:
            asked = self.store.searches.finish_requested(self.record.id)
            self._finish = (time.monotonic(), asked)
        return asked

    @cached_property
    def reward(self) -> Reward:
        """The reward of the block-level search."""
        return self.config.blocks.reward.reward(self.space.preset.reward_exponent, self.config.plugins)

    def trials(self, stage: SearchStage) -> list[Trial]:
        """The recorded trials of a stage, by number, as of a `RecordedSearch`."""
        return self.index.of(stage)

    def trial(self, number: int) -> Trial:
        """A recorded trial, as of a `RecordedSearch`."""
        return self.index.trial(number)

    def reward_of(self, trial: Trial) -> float | None:
        """The reward of a completed block-level trial, against the seed target; what all begin with has none."""
        if trial.state is not State.COMPLETE or trial.stage is not SearchStage.BLOCKS:
            return None
        if trial.origin == Origin.START and self.config.netadapt.start is None:
            return None
        return self.reward.of(trial.scores, self.start.seed_target_ms)

    def measure(self, keys: Iterable[BlockKey], why: str, *, reason: Reason, on: Iterable[Goal] | None = None) -> None:
        """Measure, on each of the devices (by default all), the blocks that its table lacks, and record them.

        Raises:
            MissingBlock: a device is reached by kit alone.
            DeviceError: it cannot be reached or cannot measure.
        """
        wanted = sorted(keys, key=str)
        for goal in self.goals if on is None else on:
            missing = goal.table.missing(wanted)
            if not missing:
                continue
            if goal.meter is None:
                raise MissingBlock(
                    f"{why}: {len(missing)} blocks, such as '{missing[0]}', are not measured on '{goal.name}', which "
                    "is reached only by kit"
                )
            where = f" on '{goal.name}'" if len(self.goals) > 1 else ""
            self.listener.note(f"{why}: measuring {len(missing)} blocks{where} that the latency table lacks")
            measured = measure_missing(goal.table, missing, goal.meter, self.config.device.protocol)
            self.store.tables.add_entries(goal.table_id, measured, reason=reason)
            # From the record, which keeps the first measurement where another search on this table was quicker.
            goal.table = self.store.tables.load(goal.table_id)

    def new_trial(
        self,
        stage: SearchStage,
        arch: Architecture,
        *,
        origin: str,
        state: State = State.RUNNING,
        error: str | None = None,
        parent: Trial | None = None,
        iteration: int | None = None,
        params: Params | None = None,
        sampler_attrs: Mapping[str, Any] | None = None,
        scores: Scores | None = None,
    ) -> Trial:
        """Record a trial of the next number; `scores` where they are known already."""
        trial = Trial(
            number=self.index.next_number,
            stage=stage,
            state=state,
            origin=origin,
            architecture=arch,
            scores=scores or scores_of(arch, self.latency),
            seed=self.config.training.seed,
            error=error,
            parent=parent.number if parent else None,
            iteration=iteration,
            params=dict(params) if params else None,
            sampler_attrs=dict(sampler_attrs) if sampler_attrs else None,
        )
        trial = self.store.trials.start(self.record.id, trial, latencies=self._latencies(arch))
        self.index.put(trial)
        if state is not State.RUNNING:
            self.listener.trial(trial, None)
        return trial

    def _latencies(self, arch: Architecture) -> dict[int, float]:
        """By table, where a network has to serve several devices."""
        if len(self.goals) < 2:
            return {}
        return {goal.table_id: goal.table.estimate(arch) for goal in self.goals}

    def refuse(self, trial: Trial, reason: str) -> None:
        """End a running trial that is not to be evaluated."""
        now = datetime.now(UTC)  # waiting for it took nobody's time
        self.end(replace(trial, state=State.PRUNED, error=reason, started_at=now, finished_at=now))

    def take_left_running(self, stage: SearchStage, origin: str | None = None) -> list[Trial]:
        """What an earlier coordinator left running, perhaps only what one proposed; whoever takes it sees to it."""
        left = [trial for trial in self._left_running if trial.stage is stage and origin in (None, trial.origin)]
        self._left_running = [trial for trial in self._left_running if trial not in left]
        return left

    def take_over(self, trial: Trial, found: FoundEvaluation) -> None:
        """Record a running trial as completed by an evaluation that the record holds."""
        self.end(taken(replace(trial, evaluation_key=found.trial.evaluation_key), found, self.start.files))

    def fill_rewards(self) -> None:
        """Compute the rewards that completed block-level trials lack, where an earlier session's reward failed.

        Raises:
            RunError: it fails again.
        """
        known = self.store.trials.rewards(self.record.id)
        for trial in self.trials(SearchStage.BLOCKS):
            if trial.number not in known and (reward := self.reward_of(trial)) is not None:
                self.store.trials.set_reward(self.record.id, trial.number, reward)

    def end(self, trial: Trial) -> float | None:
        """Record what became of a trial, and return its reward, if it has one."""
        try:
            reward = self.reward_of(trial)
        except RunError:
            # A training is dear and a reward cheap: what was found is kept, and rewarded once the function is mended.
            self.store.trials.finish(self.record.id, trial)
            self.index.put(trial)
            raise
        self.store.trials.finish(self.record.id, trial, reward=reward)
        self.index.put(trial)
        if not (self.may_go_on(trial) and trial.state is State.COMPLETE):
            # Not before it is recorded: until then it may begin again.
            self.start.files.checkpoint(trial.number).unlink(missing_ok=True)
        self.listener.trial(trial, reward)
        return reward

    def may_go_on(self, trial: Trial) -> bool:
        """Whether a training may be gone on with by another trial, or its folds be begun with."""
        if self.config.folds > 1:
            return trial.origin == Origin.START
        return self.config.races and trial.stage is SearchStage.BLOCKS
