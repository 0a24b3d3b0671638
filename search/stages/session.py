"""One search while it runs: the values that all of its stages share, and the loop that keeps the workers busy."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from latency.collect import measure_missing
from search.config.load import RunConfig
from search.evaluation.data import Data, Images
from search.evaluation.executor import Executor, Finished
from search.evaluation.job import Evaluation, Interim, Job, Outcome, OwnEvaluation, Parent, Training, Watch
from search.events import Listener
from search.objective.latency import Goal, Latency, scores_of
from search.objective.reward import Reward
from search.plan import compute_device
from search.plugins import Plugin
from search.record.heartbeat import Heartbeat
from search.record.rows import FoundEvaluation, SearchRecord, SearchStart
from search.record.store import Store
from search.record.tables import Reason
from search.run_folder import weights_name
from search.stages.earlier.reuse import has_weights, taken
from search.stages.trial_index import TrialIndex
from search.trial import Origin, Scores, SearchStage, State, Trial, judged_on
from space.arch import Architecture
from space.choices import Params, SearchSpace
from space.errors import MissingBlock, RunError, Stopped
from space.keys import BlockKey
from trainer.training.judgement import Judgement
from trainer.training.networks import DeviceKind
from trainer.training.recipe import Recipe
from trainer.training.weight_files import write_whole

# How often the record is asked whether somebody wants an early end.
ASK_SECONDS = 1.0
# So many failures before the first success mean that it is not the networks' fault.
HOPELESS = 3
POLL_SECONDS = 0.5
# So often a training that may be stopped early is judged before its end.
INTERIM_LOOKS = 4


class Interrupted(Stopped):
    """The search was stopped on purpose; everything finished is recorded."""


@dataclass(kw_only=True)
class Session:
    """The one coordinator of a search: asks, dispatches and writes.

    `goals` are its devices, none where a user's own function predicts. `stop` is called from outside, by the first
    Ctrl-C.
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
    _stopping: bool = False
    _index: TrialIndex = field(init=False)
    _left_running: list[Trial] = field(init=False)
    _failed_once: set[int] = field(default_factory=set)
    _finish: tuple[float, bool] = (-1e9, False)

    def __post_init__(self) -> None:
        self._left_running = self.store.trials.requeue_running(self.record.id)
        self._index = TrialIndex(self.store.trials.of(self.record.id))
        self.listener.judged_by(self.config.judge)

    @property
    def start(self) -> SearchStart:
        """What is known since it began."""
        return self.record.require_start()

    def follow(self, config: RunConfig) -> None:
        """Go on by a configuration that was changed, which is recorded."""
        self.record = replace(self.record, config=config.model_dump(mode="json"))
        self.store.searches.set_config(self.record.id, self.record.config)
        self.config = config

    def stop(self) -> None:
        """Let running trials end, and start no more."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether somebody here or elsewhere asked it to stop."""
        return self._stopping or self.heartbeat.stop_requested

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
        """The recorded trials of a stage, by number."""
        return self._index.of(stage)

    def count(self, stage: SearchStage, *states: State) -> int:
        """How many trials of a stage are in one of these states."""
        return self._index.count(stage, *states)

    def trials_of_origin(self, stage: SearchStage, origin: str) -> list[Trial]:
        """The trials of a stage that one proposed, by number."""
        return self._index.of_origin(stage, origin)

    def count_of_origin(self, stage: SearchStage, origin: str) -> int:
        """How many trials of a stage one proposed."""
        return self._index.count_of_origin(stage, origin)

    def trial(self, number: int) -> Trial:
        """A recorded trial."""
        return self._index.trial(number)

    def last_of(self, stage: SearchStage, arch: Architecture) -> Trial | None:
        """The latest trial of a stage that trained, or trains, this network."""
        return self._index.last_of(stage, arch.arch_id)

    @property
    def next_number(self) -> int:
        """The number of the next trial."""
        return self._index.next_number

    def reward_of(self, trial: Trial) -> float | None:
        """The reward of a completed block-level trial, against the seed target."""
        if trial.state is not State.COMPLETE or trial.stage is not SearchStage.BLOCKS:
            return None
        return self.reward.of(trial.scores, self.start.seed_target_ms)

    def evaluation(
        self,
        arch: Architecture,
        recipe: Recipe | None,
        *,
        train_images: int | None,
        parent_key: str | None = None,
        is_final: bool = False,
        on_whole_split: bool = False,
    ) -> Evaluation:
        """The evaluation of an architecture in this search: by the user's own evaluator where there is one.

        Without a recipe the weights of the parent are judged as they are. The final networks are always trained, and
        judged on the whole reward split, as others are who get far.
        """
        if not is_final and self.config.evaluator is not None:
            evaluator = Plugin(name=self.config.evaluator, folder=self.config.plugins)
            return OwnEvaluation(architecture=arch, evaluator=evaluator, content=self._evaluator_content)
        settings = self.config.data
        return Training(
            architecture=arch,
            data=self.images.use(
                reward_fraction=settings.reward_fraction,
                split_seed=settings.split_seed,
                train_images=train_images,
                reward_images=len(self.images.splits.reward) if is_final or on_whole_split else settings.reward_images,
                balanced=settings.rank_by == "balanced",
            ),
            recipe=recipe,
            # One seed for all: networks start from like weights and see the same images in the same order, so that
            # their differences are the networks'.
            seed=self.config.training.seed,
            parent_key=parent_key,
            device=self._compute_device,
            processes=self.config.final_processes if is_final and recipe is not None else 1,
        )

    @cached_property
    def _compute_device(self) -> DeviceKind:
        return compute_device(self.config)

    @cached_property
    def _evaluator_content(self) -> str:
        """What the user's own evaluator is at the beginning of the session; later edits are not looked at."""
        assert self.config.evaluator is not None
        return Plugin(name=self.config.evaluator, folder=self.config.plugins).content

    @property
    def images(self) -> Images:
        """The images of a search that trains."""
        assert isinstance(self.data, Images), "where there are no images nothing is trained"
        return self.data

    def proxy_evaluation(self, arch: Architecture) -> Evaluation:
        """The short training of the block-level search."""
        return self.evaluation(arch, self.config.proxy_recipe, train_images=self.config.train_images)

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
            name = goal.table.device.name
            if goal.meter is None:
                raise MissingBlock(
                    f"{why}: {len(missing)} blocks, such as '{missing[0]}', are not measured on '{name}', which is "
                    "reached only by kit"
                )
            where = f" on '{name}'" if len(self.goals) > 1 else ""
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
            number=self.next_number,
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
        self._index.put(trial)
        if state is not State.RUNNING:
            self.listener.trial(trial, None)
        return trial

    def _latencies(self, arch: Architecture) -> dict[int, float]:
        """By table, where a network has to serve several devices."""
        if len(self.goals) < 2:
            return {}
        return {goal.table_id: goal.table.estimate(arch) for goal in self.goals}

    def put(self, trial: Trial) -> None:
        """Have a recorded trial as it is in the record now."""
        self._index.put(trial)

    def refuse(self, trial: Trial, reason: str) -> None:
        """End a running trial that is not to be evaluated."""
        now = datetime.now(UTC)  # waiting for it took nobody's time
        self._end(replace(trial, state=State.PRUNED, error=reason, started_at=now, finished_at=now))

    def take_left_running(self, stage: SearchStage, origin: str) -> list[Trial]:
        """What an earlier coordinator left running of the trials that one proposed; whoever takes it sees to it."""
        left = [trial for trial in self._left_running if (trial.stage, trial.origin) == (stage, origin)]
        self._left_running = [trial for trial in self._left_running if trial not in left]
        return left

    def take_over(self, trial: Trial, found: FoundEvaluation) -> None:
        """Record a running trial as completed by an evaluation that the record holds."""
        self._end(taken(replace(trial, evaluation_key=found.trial.evaluation_key), found, self.start.files))

    def fill_rewards(self) -> None:
        """Compute the rewards that completed block-level trials lack, where an earlier session's reward failed.

        Raises:
            RunError: it fails again.
        """
        known = self.store.trials.rewards(self.record.id)
        for trial in self.trials(SearchStage.BLOCKS):
            if trial.number not in known and (reward := self.reward_of(trial)) is not None:
                self.store.trials.set_reward(self.record.id, trial.number, reward)

    def _end(self, trial: Trial) -> float | None:
        try:
            reward = self.reward_of(trial)
        except RunError:
            # A training is dear and a reward cheap: what was found is kept, and rewarded once the function is mended.
            self.store.trials.finish(self.record.id, trial)
            self._index.put(trial)
            raise
        self.store.trials.finish(self.record.id, trial, reward=reward)
        self._index.put(trial)
        if not (self._may_go_on(trial) and trial.state is State.COMPLETE):
            # Not before it is recorded: until then it may begin again.
            self.start.files.checkpoint(trial.number).unlink(missing_ok=True)
        self.listener.trial(trial, reward)
        return reward

    def run(
        self,
        stage: SearchStage,
        ask: Callable[[], Trial | None],
        evaluation_of: Callable[[Trial], Evaluation],
        *,
        finished: Callable[[Trial, float | None], None] = lambda _trial, _reward: None,
        advanced: Callable[[float], None] = lambda _running: None,
    ) -> None:
        """Keep the workers busy with what `ask` gives, until it gives nothing more and all have ended.

        Trials that an earlier coordinator left running come first. `finished` hears of each trial and its reward,
        `advanced` of the sum of the running trials' shares done.

        Raises:
            Interrupted: it was asked to stop; running trials have ended and are recorded.
            ClaimLost: another process runs the search now.
            RunError: nothing but failures, or a disk is full.
        """
        running: set[int] = set()
        waiting = [trial for trial in self._left_running if trial.stage is stage]
        self._left_running = [trial for trial in self._left_running if trial.stage is not stage]

        def end(trial: Trial) -> None:
            finished(trial, self._end(trial))

        while True:
            self.heartbeat.check()
            while not self.stopping and len(running) < self.executor.slots:
                trial = waiting.pop(0) if waiting else ask()
                if trial is None:
                    break
                evaluation = evaluation_of(trial)
                # Since it was proposed it may have waited, for others or to be measured.
                trial = replace(trial, evaluation_key=evaluation.key, started_at=datetime.now(UTC))
                self._index.put(trial)
                taken_over = self._taken_over(trial, evaluation)
                if taken_over is not None:
                    end(taken_over)
                    continue
                self.executor.submit(self._job(trial, evaluation))
                running.add(trial.number)
            if not running:
                break
            full = None
            for result in self.executor.wait(POLL_SECONDS):
                running.discard(result.job.number)
                if result.is_disk_full:
                    full = result
                elif result.error is None or result.would_recur or result.job.number in self._failed_once:
                    end(self._ended(result))
                elif not self.stopping:
                    waiting.append(self._retried(result))
                # Else it stays recorded as running, and its second attempt is made on resume.
            if full is not None:
                # Not the network's fault: it stays recorded as running, and is trained once there is space.
                raise RunError(f"trial {full.job.number}: {full.error}; free some space and resume")
            self._give_up_if_hopeless(stage)
            advanced(sum(self.executor.progress().values()))
        if self.stopping:
            raise Interrupted(
                f"search '{self.record.name}' stopped; go on with: mobilenas resume {self.record.name}, "
                f"or end with the best so far: mobilenas finish {self.record.name}"
            )

    def _give_up_if_hopeless(self, stage: SearchStage) -> None:
        failures = self.count(stage, State.FAILED)
        if failures >= HOPELESS and not self.count(stage, State.COMPLETE):
            last = [trial for trial in self.trials(stage) if trial.state is State.FAILED][-1]
            raise RunError(f"all {failures} trials failed, the last one with: {last.error}; fix that, then resume")

    def _job(self, trial: Trial, evaluation: Evaluation) -> Job:
        if not evaluation.leaves_weights:
            return Job(number=trial.number, attempt=trial.attempt, evaluation=evaluation)
        parent = begun = None
        if trial.origin == Origin.START:
            parent = Parent(architecture=trial.architecture, weights=self.start.files.start_weights)
        elif trial.parent is not None and not evaluation.inherits:
            checkpoint = self.start.files.checkpoint(trial.parent)
            begun = checkpoint if checkpoint.exists() else None
        elif trial.parent is not None:
            source = self.trial(trial.parent)
            parent = Parent(architecture=source.architecture, weights=self.start.files.weights(source))
        return Job(
            number=trial.number,
            attempt=trial.attempt,
            evaluation=evaluation,
            data_folder=self.images.dataset.folder,
            weights=self.start.files.new_weights(trial.number),
            parent=parent,
            watch=self._watch(trial),
            checkpoint=self.start.files.checkpoint(trial.number),
            keeps_checkpoint=self._may_go_on(trial),
            begun=begun,
            limit_seconds=60 * self.config.trial_minutes,
            touch_test=trial.stage is SearchStage.FINAL and trial.origin != Origin.CANDIDATE,
        )

    def _may_go_on(self, trial: Trial) -> bool:
        """Whether a training may be gone on with by another trial."""
        return self.config.races and trial.stage is SearchStage.BLOCKS

    def _watch(self, trial: Trial) -> Watch | None:
        """How an executor that may stop trials early compares them: only those that a sampler proposed."""
        if not self.config.stops_early or trial.origin != self.config.blocks.sampler:
            return None
        target_ms = self.start.seed_target_ms
        return Watch(times=INTERIM_LOOKS, reward=self.reward, scores=trial.scores, target_ms=target_ms)

    def _taken_over(self, trial: Trial, evaluation: Evaluation) -> Trial | None:
        """The trial completed with an equal evaluation's result, if the record has one with its weights."""
        if trial.stage is SearchStage.FINAL:
            return None  # its result on the test split belongs to this search
        candidates = self.store.trials.find_evaluations(evaluation.key)
        if not self.config.blocks.reuse:
            candidates = [each for each in candidates if each.run_folder == self.start.run_folder]
        found = next((each for each in candidates if not evaluation.leaves_weights or has_weights(each)), None)
        return None if found is None else taken(trial, found, self.start.files)

    def _retried(self, result: Finished) -> Trial:
        trial = self.trial(result.job.number)
        self.listener.note(f"trial {trial.number} failed and is being retried: {result.error}")
        self._failed_once.add(trial.number)
        trial = replace(trial, attempt=trial.attempt + 1)
        self._index.put(trial)
        return trial

    def _ended(self, result: Finished) -> Trial:
        trial = self.trial(result.job.number)
        if result.stopped is not None:
            judged = judged_on(trial.stage, self.config.judge)
            return _stopped(trial, result.stopped, result.job.evaluation, judged)
        if result.outcome is None:
            return replace(trial, state=State.FAILED, error=result.error)
        return self._completed(trial, result.outcome, result.job.evaluation)

    def _completed(self, trial: Trial, outcome: Outcome, evaluation: Evaluation) -> Trial:
        images_seen = outcome.images_seen
        if evaluation.is_of_given_weights and trial.parent is not None:
            images_seen = self.trial(trial.parent).images_seen  # its weights are its parent's
        files, tested = self.start.files, outcome.tested
        for path, content in ((files.judged(trial.number), outcome.judged), (files.tested(trial.number), tested)):
            if content is not None:
                write_whole(path, content)
        return replace(
            trial,
            state=State.COMPLETE,
            scores=replace(
                trial.scores,
                top1=outcome.top1,
                log_likelihood=outcome.log_likelihood,
                probability=outcome.probability,
            ),
            images_seen=images_seen,
            weights=weights_name(trial.number) if evaluation.leaves_weights else None,
            correct=None if tested is None else int(Judgement.from_bytes(tested).right.sum()),
            total=None if tested is None else len(tested),
        )


def _stopped(trial: Trial, reached: Interim, evaluation: Evaluation, judged: str) -> Trial:
    """A trial that others had overtaken: what it had reached is told, but is no result."""
    return replace(
        trial,
        state=State.STOPPED,
        images_seen=evaluation.images_at(reached.share),
        error=f"at {reached.share:.0%} of its training, with top-1 {reached.top1:.2%} ({judged}), "
        "others had done better",
    )
