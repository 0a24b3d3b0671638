"""One search while it runs: the values that all of its stages share, and the loop that keeps the workers busy."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from latency.collect import measure_missing
from latency.meter import Meter
from latency.table import LatencyTable
from search.chronicle import right_file
from search.config import RunConfig
from search.evaluate import DataUse, Evaluation, Job, Outcome, Parent, evaluation_of_weights, scores_of
from search.events import Listener
from search.executor import Executor, Finished
from search.heartbeat import Heart
from search.record import Begun, FoundEvaluation, SearchRecord
from search.reward import Reward
from search.store import Store
from search.store_tables import Reason
from search.trial import Stage, State, Trial
from space.arch import Architecture
from space.choices import Params, SearchSpace
from space.errors import MissingBlock, RunError
from space.keys import BlockKey
from trainer.data import Dataset
from trainer.train import Recipe

MAX_ATTEMPTS = 2
# So many failures before the first success mean that it is not the networks' fault.
HOPELESS = 3
POLL_SECONDS = 0.5


class Interrupted(RunError):
    """The search was stopped on purpose; everything finished is recorded."""


@dataclass(kw_only=True)
class Session:
    """The one coordinator of a search: asks, dispatches and writes.

    `table` grows while NetAdapt measures blocks; `meter` measures on its device, and is None where people carry kits.
    `stop` is called from outside, by the first Ctrl-C.
    """

    store: Store
    record: SearchRecord
    config: RunConfig
    space: SearchSpace
    dataset: Dataset
    table_id: int
    table: LatencyTable
    meter: Meter | None
    executor: Executor
    listener: Listener
    heart: Heart
    _stopping: bool = False
    _trials: dict[int, Trial] = field(default_factory=dict)
    _left_running: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left_running = self.store.requeue_running(self.record.id)
        self._trials = {trial.number: trial for trial in self.store.trials(self.record.id)}

    @property
    def begun(self) -> Begun:
        """What is known since it began."""
        return self.record.has_begun()

    def stop(self) -> None:
        """Let running trials end, and start no more."""
        self._stopping = True

    @property
    def stopping(self) -> bool:
        """Whether somebody here or elsewhere asked it to stop."""
        return self._stopping or self.heart.stop_requested

    @property
    def reward(self) -> Reward:
        """The reward of the block-level search."""
        return self.config.blocks.reward.reward(self.space.preset.reward_exponent)

    def trials(self, stage: Stage) -> list[Trial]:
        """The recorded trials of a stage, by number."""
        return [trial for _, trial in sorted(self._trials.items()) if trial.stage is stage]

    def trial(self, number: int) -> Trial:
        """A recorded trial."""
        return self._trials[number]

    @property
    def next_number(self) -> int:
        """The number of the next trial."""
        return max(self._trials, default=-1) + 1

    def reward_of(self, trial: Trial) -> float | None:
        """The reward of a completed block-level trial, against the seed target."""
        if trial.state is not State.COMPLETE or trial.stage is not Stage.BLOCKS:
            return None
        return self.reward.of(trial.scores, self.begun.seed_target_ms)

    def evaluation(
        self, arch: Architecture, recipe: Recipe, *, train_images: int | None, parent: Trial | None = None
    ) -> Evaluation:
        """The evaluation of an architecture in this search."""
        data = self.config.data
        return Evaluation(
            architecture=arch,
            data=DataUse(
                content_hash=self.dataset.content_hash,
                reward_fraction=data.reward_fraction,
                split_seed=data.split_seed,
                train_images=train_images,
                reward_images=data.reward_images,
            ),
            recipe=recipe,
            # One seed for all: networks start from like weights and see the same images in the same order, so that
            # their differences are the networks'.
            seed=self.config.seed,
            parent_key=parent.evaluation_key if parent else None,
        )

    def measure(self, keys: Iterable[BlockKey], why: str, *, reason: Reason) -> None:
        """Measure, on the device, the blocks that the table lacks, and record them.

        Raises:
            MissingBlock: the device is reached by kit alone.
            DeviceError: it cannot be reached or cannot measure.
        """
        missing = self.table.missing(sorted(keys, key=str))
        if not missing:
            return
        if self.meter is None:
            raise MissingBlock(
                f"{why}: {len(missing)} blocks, such as '{missing[0]}', are not measured on "
                f"'{self.table.device.name}', which is reached by kit alone"
            )
        self.listener.note(f"{why}: measuring {len(missing)} blocks that the table lacks")
        measured = measure_missing(self.table, missing, self.meter, self.config.device.protocol)
        self.store.add_entries(self.table_id, measured, reason=reason)
        # From the record, which keeps the first measurement where another search on this table was quicker.
        self.table = self.store.load_table(self.table_id)

    def new_trial(
        self,
        stage: Stage,
        arch: Architecture,
        *,
        origin: str,
        state: State = State.RUNNING,
        error: str | None = None,
        parent: Trial | None = None,
        iteration: int | None = None,
        params: Params | None = None,
    ) -> Trial:
        """Record a trial of the next number."""
        trial = Trial(
            number=self.next_number,
            stage=stage,
            state=state,
            origin=origin,
            architecture=arch,
            scores=scores_of(arch, self.table),
            seed=self.config.seed,
            error=error,
            parent=parent.number if parent else None,
            iteration=iteration,
            params=dict(params) if params else None,
        )
        trial = self.store.start_trial(self.record.id, trial)
        self._trials[trial.number] = trial
        if state is not State.RUNNING:
            self.listener.trial(trial, None)
        return trial

    def run(
        self,
        stage: Stage,
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
            RunError: nothing but failures.
        """
        running: set[int] = set()
        waiting = [trial for trial in self._left_running if trial.stage is stage]
        self._left_running = [trial for trial in self._left_running if trial.stage is not stage]

        def end(trial: Trial) -> None:
            reward = self.reward_of(trial)
            self.store.finish_trial(self.record.id, trial, reward=reward)
            self._trials[trial.number] = trial
            self.listener.trial(trial, reward)
            finished(trial, reward)

        while True:
            self.heart.check()
            while not self.stopping and len(running) < self.executor.slots:
                trial = waiting.pop(0) if waiting else ask()
                if trial is None:
                    break
                evaluation = evaluation_of(trial)
                trial = self._trials[trial.number] = replace(trial, evaluation_key=evaluation.key)
                taken_over = self._taken_over(trial, evaluation)
                if taken_over is not None:
                    end(taken_over)
                    continue
                self.executor.submit(self._job(trial, evaluation))
                running.add(trial.number)
            if not running:
                break
            for result in self.executor.wait(POLL_SECONDS):
                running.discard(result.job.number)
                if result.outcome is not None or self.trial(result.job.number).attempt >= MAX_ATTEMPTS:
                    end(self._ended(result))
                elif not self.stopping:
                    waiting.append(self._retried(result))
                # Else it stays recorded as running, and its second attempt is made on resume.
            self._give_up_if_hopeless(stage)
            advanced(sum(self.executor.progress().values()))
        if self.stopping:
            raise Interrupted(
                f"search '{self.record.name}' stopped; go on with: mobilenas resume {self.record.name}, "
                f"or end with the best so far: mobilenas finish {self.record.name}"
            )

    def _give_up_if_hopeless(self, stage: Stage) -> None:
        ended = [trial for trial in self.trials(stage) if trial.state in (State.COMPLETE, State.FAILED)]
        if len(ended) >= HOPELESS and all(trial.state is State.FAILED for trial in ended):
            raise RunError(f"all {len(ended)} trials failed, the last one because {ended[-1].error}")

    def _weights_name(self, number: int) -> str:
        return f"trials/{number}.safetensors"

    def _job(self, trial: Trial, evaluation: Evaluation) -> Job:
        parent = None
        if trial.parent is not None:
            source = self.trial(trial.parent)
            assert source.weights is not None
            parent = Parent(architecture=source.architecture, weights=self.begun.run_folder / source.weights)
        return Job(
            number=trial.number,
            attempt=trial.attempt,
            evaluation=evaluation,
            data_folder=self.dataset.folder,
            weights=self.begun.run_folder / self._weights_name(trial.number),
            parent=parent,
            touch_test=trial.stage is Stage.FINAL,
        )

    def _taken_over(self, trial: Trial, evaluation: Evaluation) -> Trial | None:
        """The trial completed with an equal evaluation's result, if the record has one with its weights."""
        if trial.stage is Stage.FINAL:
            return None  # its result on the test split belongs to this search
        found = next(
            (each for each in self.store.find_evaluations(evaluation.key) if _has_weights(each, evaluation.key)), None
        )
        if found is None:
            return None
        name = self._weights_name(trial.number)
        source, target = found.weights_file, self.begun.run_folder / name
        assert source is not None
        if source != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_suffix(".tmp")
            shutil.copyfile(source, draft)
            draft.replace(target)
        return replace(
            trial,
            state=State.COMPLETE,
            scores=replace(trial.scores, top1=found.trial.scores.top1),
            images_seen=found.trial.images_seen,
            weights=name,
            reused_from=found.trial.id,
        )

    def _retried(self, result: Finished) -> Trial:
        trial = self.trial(result.job.number)
        self.listener.note(f"trial {trial.number} failed and is tried again: {result.error}")
        self._trials[trial.number] = replace(trial, attempt=trial.attempt + 1)
        return self._trials[trial.number]

    def _ended(self, result: Finished) -> Trial:
        trial = self.trial(result.job.number)
        if result.outcome is None:
            return replace(trial, state=State.FAILED, error=result.error)
        return self._completed(trial, result.outcome)

    def _completed(self, trial: Trial, outcome: Outcome) -> Trial:
        if outcome.right is not None:
            np.save(right_file(self.begun.run_folder, trial), np.array(outcome.right, dtype=bool))
        return replace(
            trial,
            state=State.COMPLETE,
            scores=replace(trial.scores, top1=outcome.top1),
            images_seen=outcome.images_seen,
            weights=self._weights_name(trial.number),
            correct=None if outcome.right is None else sum(outcome.right),
            total=None if outcome.right is None else len(outcome.right),
        )


def _has_weights(found: FoundEvaluation, key: str) -> bool:
    """Whether an evaluation's weights are still there, and are its own: a run folder may have been made anew."""
    return found.weights_file is not None and evaluation_of_weights(found.weights_file) == key
