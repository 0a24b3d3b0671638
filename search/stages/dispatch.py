"""The loop that keeps a search's workers busy with its trials, and records what becomes of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from search.evaluation.executor import Finished
from search.evaluation.job import Evaluation, Interim, Job, Outcome, Parent, Training, Watch
from search.run_folder import weights_name
from search.stages.earlier.reuse import has_weights, taken
from search.stages.session import Session
from search.trial import Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import RunError
from trainer.training.judgement import Judgement
from trainer.training.weight_files import write_whole

# So many failures before the first success mean that it is not the networks' fault.
HOPELESS = 3
POLL_SECONDS = 0.5
# So often a training that may be stopped early is judged before its end.
INTERIM_LOOKS = 4


def run_trials(
    session: Session,
    stage: SearchStage,
    ask: Callable[[], Trial | None],
    evaluation_of: Callable[[Trial], Evaluation],
    *,
    finished: Callable[[Trial, float | None], None] = lambda _trial, _reward: None,
    advanced: Callable[[float], None] = lambda _running: None,
    origin: str | None = None,
) -> None:
    """Keep the workers busy with what `ask` gives, until it gives nothing more and all have ended.

    Trials that an earlier coordinator left running come first, perhaps only those of one `origin`. `finished` hears of
    each trial and its reward, `advanced` of the sum of the running trials' shares done.

    Raises:
        Interrupted: it was asked to stop; running trials have ended and are recorded.
        ClaimLost: another process runs the search now.
        RunError: nothing but failures, or a disk is full.
    """
    dispatch = _Dispatch(session, stage, evaluation_of, finished)
    dispatch.waiting = session.take_left_running(stage, origin)
    dispatch.run(ask, advanced)


@dataclass
class _Dispatch:
    """The trials of a stage that run, and those that wait to run once more."""

    session: Session
    stage: SearchStage
    evaluation_of: Callable[[Trial], Evaluation]
    finished: Callable[[Trial, float | None], None]
    running: set[int] = field(default_factory=set)
    waiting: list[Trial] = field(default_factory=list)
    failed_once: set[int] = field(default_factory=set)

    def run(self, ask: Callable[[], Trial | None], advanced: Callable[[float], None]) -> None:
        """See `run_trials`."""
        session, executor = self.session, self.session.executor
        while True:
            session.heartbeat.check()
            while not session.stopping and len(self.running) < executor.slots:
                trial = self.waiting.pop(0) if self.waiting else ask()
                if trial is None:
                    break
                self._begin(trial)
            if not self.running:
                break
            self._hear(executor.wait(POLL_SECONDS))
            self._give_up_if_hopeless()
            advanced(sum(executor.progress().values()))
        session.end_if_stopping()

    def _begin(self, trial: Trial) -> None:
        """Have a trial evaluated, or take over what the record holds of it."""
        evaluation = self.evaluation_of(trial)
        # Since it was proposed it may have waited, for others or to be measured.
        trial = replace(trial, evaluation_key=evaluation.key, started_at=datetime.now(UTC))
        self.session.index.put(trial)
        taken_over = self._taken_over(trial, evaluation)
        if taken_over is not None:
            self._end(taken_over)
            return
        self.session.executor.submit(_job(self.session, trial, evaluation))
        self.running.add(trial.number)

    def _end(self, trial: Trial) -> None:
        self.finished(trial, self.session.end(trial))

    def _hear(self, results: list[Finished]) -> None:
        full = None
        for result in results:
            number = result.job.number
            self.running.discard(number)
            if result.is_disk_full:
                full = result
            elif result.error is None or result.would_recur or number in self.failed_once:
                self._end(_ended(self.session, result))
            elif not self.session.stopping:
                self._retry(result)
            # Else it stays recorded as running, and its second attempt is made on resume.
        if full is not None:
            # Not the network's fault: it stays recorded as running, and is trained once there is space.
            raise RunError(f"trial {full.job.number}: {full.error}; free some space and resume")

    def _retry(self, result: Finished) -> None:
        trial = self.session.trial(result.job.number)
        self.session.listener.note(f"trial {trial.number} failed and is being retried: {result.error}")
        self.failed_once.add(trial.number)
        trial = replace(trial, attempt=trial.attempt + 1)
        self.session.index.put(trial)
        self.waiting.append(trial)

    def _give_up_if_hopeless(self) -> None:
        index = self.session.index
        failures = index.count(self.stage, State.FAILED)
        if failures >= HOPELESS and not index.count(self.stage, State.COMPLETE):
            last = [trial for trial in index.of(self.stage) if trial.state is State.FAILED][-1]
            raise RunError(f"all {failures} trials failed, the last one with: {last.error}; fix that, then resume")

    def _taken_over(self, trial: Trial, evaluation: Evaluation) -> Trial | None:
        """The trial completed with an equal evaluation's result, if the record has one with its weights."""
        session = self.session
        if trial.stage is SearchStage.FINAL:
            return None  # its result on the test split belongs to this search
        if trial.origin == Origin.START and session.config.folds > 1:
            return None  # what others begin with, fold by fold, was removed when that search ended
        candidates = session.store.trials.find_evaluations(evaluation.key)
        if not session.config.blocks.reuse:
            candidates = [each for each in candidates if each.run_folder == session.start.run_folder]
        found = next((each for each in candidates if not evaluation.leaves_weights or has_weights(each)), None)
        return None if found is None else taken(trial, found, session.start.files)


def _job(session: Session, trial: Trial, evaluation: Evaluation) -> Job:
    if not evaluation.leaves_weights:
        return Job(number=trial.number, attempt=trial.attempt, evaluation=evaluation)
    files = session.start.files
    parent = begun = None
    if isinstance(evaluation, Training) and evaluation.shares:
        parent = Parent(architecture=session.space.largest, weights=files.supernet)
    elif isinstance(evaluation, Training) and evaluation.adapts:
        is_given = evaluation.parent_key == session.config.init_hash
        given = Parent(architecture=session.space.reference, weights=files.start_weights)
        parent = given if is_given else _start_of(session)
    if trial.origin == Origin.START:
        parent = Parent(architecture=trial.architecture, weights=files.start_weights)
    elif trial.parent is not None and evaluation.begins_alike:
        checkpoint = files.checkpoint(trial.parent)
        begun = checkpoint if checkpoint.exists() else None
    elif trial.parent is not None:
        source = session.trial(trial.parent)
        parent = Parent(architecture=source.architecture, weights=files.weights(source))
    start, teacher = session.config.teacher, None
    if isinstance(evaluation, Training) and evaluation.teacher_key is not None:
        if start is not None:
            teacher = Parent(architecture=Architecture.from_json(start.network), weights=files.start_weights)
        else:
            teacher = _start_of(session)
    return Job(
        number=trial.number,
        attempt=trial.attempt,
        evaluation=evaluation,
        data_folder=session.evaluations.images.dataset.folder,
        weights=files.new_weights(trial.number),
        parent=parent,
        teacher=teacher,
        watch=_watch(session, trial),
        checkpoint=files.checkpoint(trial.number),
        keeps_checkpoint=session.may_go_on(trial),
        begun=begun,
        limit_seconds=60 * session.config.trial_minutes * _trainings(evaluation),
        touch_test=trial.stage is SearchStage.FINAL and trial.origin != Origin.CANDIDATE,
    )


def _trainings(evaluation: Evaluation) -> int:
    """How many there are in one evaluation; the limit holds for each of them."""
    if not isinstance(evaluation, Training) or evaluation.recipe is None or evaluation.data.folds == 1:
        return 1
    return evaluation.data.folds + evaluation.refits


def _start_of(session: Session) -> Parent:
    """The network that all others begin with, as it was fine-tuned."""
    started = session.index.of_origin(SearchStage.BLOCKS, Origin.START)
    trial, files = [each for each in started if each.state is State.COMPLETE][-1], session.start.files
    folds = files.checkpoint(trial.number) if session.config.folds > 1 else None
    return Parent(architecture=trial.architecture, weights=files.weights(trial), folds=folds)


def _watch(session: Session, trial: Trial) -> Watch | None:
    """How an executor that may stop trials early compares them: only those that a sampler proposed."""
    if not session.config.stops_early or trial.origin != session.config.blocks.sampler:
        return None
    target_ms = session.start.seed_target_ms
    return Watch(times=INTERIM_LOOKS, reward=session.reward, scores=trial.scores, target_ms=target_ms)


def _ended(session: Session, result: Finished) -> Trial:
    trial = session.trial(result.job.number)
    if result.stopped is not None:
        judged = session.config.judge.of_stage(trial.stage)
        return _stopped(trial, result.stopped, result.job.evaluation, judged)
    if result.outcome is None:
        return replace(trial, state=State.FAILED, error=result.error)
    return _completed(session, trial, result.outcome, result.job.evaluation)


def _stopped(trial: Trial, reached: Interim, evaluation: Evaluation, judged: str) -> Trial:
    """A trial that others had overtaken: what it had reached is told, but is no result."""
    return replace(
        trial,
        state=State.STOPPED,
        images_seen=evaluation.images_at(reached.share),
        error=f"at {reached.share:.0%} of its training, with top-1 {reached.top1:.2%} ({judged}), "
        "others had done better",
    )


def _completed(session: Session, trial: Trial, outcome: Outcome, evaluation: Evaluation) -> Trial:
    if outcome.note is not None:
        session.listener.note(f"trial {trial.number}: {outcome.note}")
    images_seen, files = outcome.images_seen, session.start.files
    if evaluation.is_of_given_weights and trial.parent is not None:  # its weights are its parent's
        source = session.trial(trial.parent)
        images_seen = source.images_seen
        if session.config.folds > 1:  # they know the images by now that judged those of its folds
            scores = source.scores
            outcome = replace(
                outcome,
                top1=scores.top1 or 0.0,
                log_likelihood=scores.log_likelihood,
                probability=scores.probability,
                judged=files.judged(source.number).read_bytes(),
            )
    tested = outcome.tested
    for path, content in ((files.judged(trial.number), outcome.judged), (files.tested(trial.number), tested)):
        if content is not None:
            write_whole(path, content)
    return replace(
        trial,
        state=State.COMPLETE,
        scores=trial.scores.judged_as(outcome),
        images_seen=images_seen,
        weights=weights_name(trial.number) if evaluation.leaves_weights else None,
        correct=None if tested is None else int(Judgement.from_bytes(tested).right.sum()),
        total=None if tested is None else len(tested),
    )
