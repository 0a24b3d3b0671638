"""The block-level search: the reference first, then what was enqueued, then what the sampler proposes."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from search.config.sections import StartConfig
from search.evaluation.job import Evaluation
from search.objective.latency import Corrected
from search.objective.limits import Cause, Refusal
from search.objective.objective import Objective
from search.protocols import AT_FIRST
from search.reports.recorded_search import RecordedSearch
from search.samplers.feasible_first import Exhausted
from search.samplers.prior import Prior, prior_of
from search.stages.dispatch import HOPELESS, run_trials
from search.stages.earlier.lessons import best_known, lessons
from search.stages.earlier.transfer import networks_to_enqueue, transfer_trials
from search.stages.limits import latency_limit_ms, limits_of
from search.stages.race.rungs import as_learnt, competing, evaluation_of
from search.stages.race.screening import Candidates, can_screen
from search.stages.session import Session
from search.trial import Origin, Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.encoding import Encoding
from space.errors import RunError
from space.keys import keys_of
from trainer.training.weight_files import evaluation_of_weights

if TYPE_CHECKING:
    from search.samplers.ask import Asking
    from search.samplers.proposer import Proposed


# Trials that were trained for longer than those among which a sampler proposes.
_OF_OTHER_LENGTHS = (Origin.PROMOTED, Origin.START)


def search_blocks(session: Session) -> None:
    """Run the block-level search to its end.

    Raises:
        Interrupted: it was stopped.
        RunError: nothing but failures, or no proposal within the limits.
    """
    if (start := session.config.netadapt.start) is not None:
        _judge_start(session, start)
        return
    session.fill_rewards()
    finals = session.trials(SearchStage.FINAL)
    if not any(trial.origin == Origin.FOUND and trial.state is State.COMPLETE for trial in finals):
        _train_start(session)
    if session.config.races and finals:
        return  # who is trained to the end was chosen already
    asked = [trial for trial in session.trials(SearchStage.BLOCKS) if _counts(trial)]
    ended = sum(trial.state in (State.COMPLETE, State.STOPPED) for trial in asked)
    # Once all have been trained there is no room for another one, and nobody needs its blocks.
    enqueued = networks_to_enqueue(session) if ended < session.config.trials else ()
    session.measure({key for arch in enqueued for key in keys_of(arch)}, "enqueued networks", reason="enqueued")
    # Who goes on in a race was chosen from what was known by then.
    goes_on = bool(session.index.of_origin(SearchStage.BLOCKS, Origin.PROMOTED))
    if not goes_on:
        transfer_trials(session)
    search = _Search(session, enqueued)
    session.listener.begin("block-level search", session.config.trials)
    run_trials(
        session,
        SearchStage.BLOCKS,
        search.ask,
        lambda trial: evaluation_of(session, trial),  # one of a later rung may have been left running
        finished=search.finished,
        advanced=lambda running: session.listener.advance(search.trained + running),
    )
    search.close()
    session.listener.end()
    if session.record.group is not None and not goes_on:
        transfer_trials(session)  # what the others of the group have found meanwhile


def _judge_start(session: Session, start: StartConfig) -> None:
    """The only network of a search that is but a walk: judged with the weights that it came with."""
    arch = Architecture.from_json(start.network)
    session.measure(keys_of(arch), "start network", reason="enqueued")

    def ask() -> Trial | None:
        if session.finish_requested or not _is_due(session, Origin.START, arch):
            return None
        return session.new_trial(SearchStage.BLOCKS, arch, origin=Origin.START)

    def evaluation_of(trial: Trial) -> Evaluation:
        return session.evaluations.of(trial.architecture, None, train_images=None, parent_key=start.weights)

    run_trials(session, SearchStage.BLOCKS, ask, evaluation_of)


def _train_start(session: Session) -> None:
    """Fine-tune the reference, where all other networks begin with it.

    Raises:
        RunError: that failed.
    """
    if (evaluation := session.evaluations.start) is None:
        return
    arch, begun = evaluation.architecture, 0

    def ask() -> Trial | None:
        nonlocal begun
        started = session.index.of_origin(SearchStage.BLOCKS, Origin.START)
        if begun or any(trial.state is State.RUNNING for trial in started):
            return None
        begun += 1
        return session.new_trial(SearchStage.BLOCKS, arch, origin=Origin.START)

    if not _has_start(session, evaluation):
        session.listener.begin("fine-tuning the reference", 1)
        run_trials(
            session,
            SearchStage.BLOCKS,
            ask,
            lambda _: evaluation,
            advanced=session.listener.advance,
            origin=Origin.START,
        )
        session.listener.end()
    if not _has_start(session, evaluation):
        started = session.index.of_origin(SearchStage.BLOCKS, Origin.START)
        raise RunError(f"the fine-tuning of the reference failed: {started[-1].error}; mend that, then resume")


def _has_start(session: Session, evaluation: Evaluation) -> bool:
    """Whether it was fine-tuned as it would be now, by the same version, and what it left for folds is there."""
    started = session.index.of_origin(SearchStage.BLOCKS, Origin.START)
    done = [trial for trial in started if trial.state is State.COMPLETE]
    if not done or done[-1].evaluation_key != evaluation.key:
        return False
    folds = session.start.files.checkpoint(done[-1].number)
    return session.config.folds == 1 or evaluation_of_weights(folds) == evaluation.key


class _Search:
    """Whose turn it is: the reference, then what was enqueued, then what the sampler proposes."""

    def __init__(self, session: Session, enqueued: tuple[Architecture, ...]) -> None:
        self.session, self.blocks = session, session.config.blocks
        self._enqueued = list(enqueued)
        # What goes on was chosen from what had been proposed by then.
        self._is_over = bool(session.index.of_origin(SearchStage.BLOCKS, Origin.PROMOTED))
        self._encoding = Encoding(session.space)
        # In a race networks are measured before they are trained, where the devices can be asked.
        self._candidates = Candidates(session) if session.config.races and can_screen(session) else None
        aims_at_target = session.config.races and not self.blocks.objectives
        self._latency_from = session.config.race.latency_from if aims_at_target else 0.0
        # In strict batches nobody learns of a trial before its batch has ended: proposals then do not depend on who is
        # first. The record knows no batches; they follow from the order in which trials were begun. Where networks are
        # measured, all that were measured together are such a batch.
        is_strict = session.config.determinism == "strict" and self._candidates is None
        self._batch = session.config.batch if is_strict else None
        asked_for = [trial for trial in session.trials(SearchStage.BLOCKS) if _counts(trial)]
        last = 0 if self._batch is None else len(asked_for) % self._batch
        current = asked_for[len(asked_for) - last :]
        self._untold = [trial for trial in current if trial.state is not State.RUNNING]
        self._lessons = lessons(session)
        self._prior = self._prior_of_space()
        if not session.index.of_origin(SearchStage.BLOCKS, self.blocks.sampler):
            self._tell_what_is_known()
        self._asking = self._learn(unknown=[trial.number for trial in current])
        self._familiar = best_known(session, self._lessons, self._asking.objective)

    def _prior_of_space(self) -> Prior | None:
        config = self.session.config
        follows = config.races and config.race.prior and not self.blocks.objectives
        return prior_of(self.session.space) if follows and self.blocks.sampler == "feasible-first" else None

    def _tell_what_is_known(self) -> None:
        """What the sampler knows before anything is trained."""
        if self._prior is not None:
            self.session.listener.note(
                f"proposed is what {self._prior.networks} published trainings of this space speak for (race.prior)"
            )
        learns, known = self._prior is None and len(self._lessons.first), len(self._lessons.furthest)
        if learns or known:
            who = "the sampler learns from" if learns else "the race begins with the best of"
            self.session.listener.note(f"{who} {learns or known} networks that earlier searches have trained alike")

    def _next_known(self) -> Trial | None:
        """A trial of the best of them that this search has not tried yet."""
        from search.samplers.proposer import Proposed

        while self._familiar:
            arch = self._familiar.pop(0)
            params = self.session.space.params_of(arch)
            if params is None or self._asking.last_of(arch) is not None:
                continue
            trial, refusal = self._asking.admit(arch, proposed=Proposed(params=params, attrs={}))
            if refusal is None:
                self._asking.proposer.running(trial)
                return trial
            self._asking.proposer.tell(trial, None, refusal=refusal)
        return None

    def _learn(self, unknown: Collection[int] = ()) -> "Asking":
        """A sampler that knows what is recorded, but for trials whose outcome is to come, and so proposes."""
        from search.samplers.ask import Asking
        from search.samplers.proposer import Proposer

        session, latency = self.session, self.session.latency
        trials = [trial for trial in session.trials(SearchStage.BLOCKS) if trial.origin not in _OF_OTHER_LENGTHS]
        refused: dict[Architecture, Trial] = {}
        if self._candidates is not None:
            # What was measured tells how much predictions are off, and who is not to be measured again.
            latency = Corrected(latency, self._candidates.bias())
            refused = {trial.architecture: trial for trial in self._candidates.refused()}
            numbers = {trial.number for trial in refused.values()}
            trials = [replace(each, state=State.FAILED) if each.number in numbers else each for each in trials]
        objective = Objective(
            encoding=self._encoding,
            latency=latency,
            limits=limits_of(session),
            reward_of=session.reward,
            target_ms=session.start.seed_target_ms,
            least_ms=self._least_ms,
            rungs=session.config.race.shares_of(session.config.final.images),
        )
        proposer = Proposer(
            objective,
            self.blocks.sampler,
            seed=session.config.seed,
            objectives=self.blocks.objectives,
            folder=session.config.plugins,
            lessons=self._lessons.first,
            prior=self._prior,
        )
        rewards = session.store.trials.rewards(session.record.id)
        told = [as_learnt(session, trial, rewards.get(trial.number)) for trial in trials]
        learnt = {trial.number: reward for trial, reward in told if reward is not None}
        proposer.restore([trial for trial, _ in told], learnt, unknown)
        return Asking(
            proposer=proposer,
            objective=objective,
            new_trial=self._new_trial,
            next_number=lambda: session.index.next_number,
            last_of=lambda arch: session.index.last_of(SearchStage.BLOCKS, arch) or refused.get(arch),
            stopping=lambda: session.stopping,
        )

    @property
    def _least_ms(self) -> float:
        limit_ms = limits_of(self.session).latency_ms
        return 0.0 if limit_ms is None else self._latency_from * limit_ms

    @property
    def trained(self) -> int:
        """Trials that count towards the asked-for number: stopped early ones do, adopted and promoted ones do not."""
        return self.session.index.count(SearchStage.BLOCKS, State.COMPLETE, State.STOPPED) - self._not_asked_for

    @property
    def _not_asked_for(self) -> int:
        others = [
            trial for origin in _OF_OTHER_LENGTHS for trial in self.session.index.of_origin(SearchStage.BLOCKS, origin)
        ]
        return self.session.index.count_of_origin(SearchStage.BLOCKS, Origin.ADOPTED) + sum(
            trial.state is State.COMPLETE for trial in others
        )

    def finished(self, trial: Trial, reward: float | None) -> None:
        """A trial ended."""
        if trial.origin in _OF_OTHER_LENGTHS or self._candidates is not None:
            return  # whoever asks next learns from the record
        if self._batch is None or not _counts(trial):
            self._asking.proposer.tell(*as_learnt(self.session, trial, reward))
        else:
            self._untold.append(trial)

    def ask(self) -> Trial | None:
        """The next trial to train; None where there is none, or none before others have ended."""
        session, trials = self.session, self.session.config.trials
        if self._candidates is None:
            running = session.index.count(SearchStage.BLOCKS, State.RUNNING)
        else:
            running = self._candidates.in_training
        failed = session.index.count(SearchStage.BLOCKS, State.FAILED)
        if self._is_over or self.trained + running >= trials or failed >= max(trials, HOPELESS):
            return None
        if self.trained and session.finish_requested:
            return None
        if self._batch is not None and (self.trained + running + failed) % self._batch == 0:
            if running:
                return None
            self._tell_batch()
        # A race is against others; the reference is trained once, to the end.
        if (
            self.blocks.reference
            and not session.config.races
            and (session.config.supernet is None or session.space.reference in session.space)
            and _is_due(session, Origin.REFERENCE, session.space.reference)
        ):
            # Trained whatever its latency: everything else is compared with it.
            return session.new_trial(SearchStage.BLOCKS, session.space.reference, origin=Origin.REFERENCE)
        while (arch := self._next_enqueued()) is not None:
            trial, refusal = self._asking.admit(arch, again=True)
            if refusal is None:
                self._asking.proposer.running(trial)
                return trial
            session.listener.note(f"trial {trial.number} [enqueued] is not trained: {refusal.reason}")
            self._asking.proposer.tell(trial, None, refusal=refusal)
        return self._propose() if self._candidates is None else self._next_candidate(self._candidates)

    def _next_candidate(self, candidates: Candidates) -> Trial | None:
        """The next of those that were measured; None where there is none, or none before others have ended."""
        session = self.session
        while not candidates.ready:
            if candidates.in_training or self._is_over:
                return None
            wanted = session.config.trials - self.trained
            if not candidates.waiting:
                # The number of workers must not decide what is learnt from where a search is to be the same.
                least = session.config.batch if session.config.determinism == "strict" else 2 * session.executor.slots
                part = max(least, -(-session.config.trials // 3))
                self._look(candidates, min(wanted, part))
            if session.stopping:
                return None
            if candidates.waiting:
                candidates.measure(self._asking.objective.refusal)
            elif candidates.ready:
                break
            elif self._widened():
                candidates.ready += [self._again(trial) for trial in candidates.faster()[:wanted]]
            else:
                self._end_early("no other network is within the limits, predicted or measured")
        return candidates.ready.pop(0)

    def _look(self, candidates: Candidates, wanted: int) -> None:
        """Have as many networks proposed, and wait to be measured, as so many are expected to pass of.

        The first few are measured at once: how far predictions are off is what the others are proposed by.
        """
        self._asking = self._learn()
        if not candidates.measured():
            self._ask_for(candidates, min(AT_FIRST, wanted))
            if self.session.stopping or not candidates.waiting:
                return
            candidates.measure(self._asking.objective.refusal)
            self._asking = self._learn()
        if len(candidates.ready) < wanted:
            self._ask_for(candidates, candidates.how_many(wanted - len(candidates.ready)))

    def _ask_for(self, candidates: Candidates, count: int) -> None:
        """Have so many networks proposed, fewer where there are no more."""
        from search.samplers.ask import Stuck

        with suppress(Exhausted):
            while len(candidates.waiting) < count:
                try:
                    trial = self._next_known() or self._asking.ask()
                except Stuck as error:
                    if error.cause in (Cause.DUPLICATE, Cause.FAST) or candidates.waiting:
                        return
                    raise self._nothing_within() from error
                if trial is None:
                    return
                candidates.waiting.append(trial)

    def _widened(self) -> bool:
        """Let networks be proposed that are much faster than the target, where there are too few near it."""
        if not self._latency_from:
            return False
        self._latency_from = 0.0
        self.session.listener.note("too few networks lie near the target: faster ones are trained, too")
        self._asking = self._learn(unknown=[trial.number for trial in self._untold])
        return True

    def close(self) -> None:
        """End what was measured and is not needed any more."""
        if self._candidates is not None:
            for trial in (*self._candidates.ready, *self._candidates.waiting):
                self.session.refuse(trial, "enough other networks were trained")

    def _again(self, trial: Trial) -> Trial:
        """A network that was refused for being fast, to be trained after all."""
        return self.session.new_trial(
            SearchStage.BLOCKS,
            trial.architecture,
            origin=trial.origin,
            params=trial.params,
            sampler_attrs=trial.sampler_attrs,
            scores=trial.scores,
        )

    def _tell_batch(self) -> None:
        for trial in sorted(self._untold, key=lambda trial: trial.number):
            self._asking.proposer.tell(*as_learnt(self.session, trial, self.session.reward_of(trial)))
        self._untold = []

    def _next_enqueued(self) -> Architecture | None:
        """The first that was not tried yet; one that failed is tried once more."""
        while self._enqueued:
            if _is_due(self.session, Origin.ENQUEUED, self._enqueued[0]):
                return self._enqueued[0]
            del self._enqueued[0]
        return None

    def _new_trial(
        self, arch: Architecture, *, scores: Scores, proposed: "Proposed | None", refusal: Refusal | None
    ) -> Trial:
        return self.session.new_trial(
            SearchStage.BLOCKS,
            arch,
            origin=Origin.ENQUEUED if proposed is None else self.blocks.sampler,
            state=State.RUNNING if refusal is None else State.PRUNED,
            params=proposed.params if proposed else None,
            sampler_attrs=proposed.attrs if proposed else None,
            error=refusal.reason if refusal else None,
            scores=scores,
        )

    def _propose(self) -> Trial | None:
        """The next trial to train, None where the search is stopping or the space is exhausted."""
        from search.samplers.ask import MAX_REFUSED, Stuck

        try:
            return self._next_known() or self._asking.ask()
        except Exhausted as error:
            if self._widened():
                return self._propose()
            self._end_early(str(error))
        except Stuck as error:
            if error.cause is Cause.FAST and self._widened():
                return self._propose()
            if error.cause is not Cause.DUPLICATE:
                raise self._nothing_within() from error
            self._end_early(f"{MAX_REFUSED:,} proposals in a row had been tried before")
        return None

    def _nothing_within(self) -> RunError:
        from search.samplers.ask import MAX_REFUSED

        return RunError(
            f"{MAX_REFUSED:,} proposals in a row were over a limit (latency: {latency_limit_ms(self.session):.3f} ms); "
            "raise the target or the limits, widen the space, or choose sampler feasible-first"
        )

    def _end_early(self, reason: str) -> None:
        # What still runs may fail and be due again, but there is nothing new to propose.
        self._is_over = True
        self.session.listener.note(f"the block-level search ends early, with {self.trained} trained networks: {reason}")


def _counts(trial: Trial) -> bool:
    """Whether a block-level trial is one of those that were asked for."""
    return trial.state is not State.PRUNED and trial.origin not in (Origin.ADOPTED, *_OF_OTHER_LENGTHS)


def _is_due(session: Session, origin: str, arch: Architecture) -> bool:
    """Whether a network is to be tried that has a right to it: not yet, or once more where it failed."""
    states = [
        trial.state for trial in session.index.of_origin(SearchStage.BLOCKS, origin) if trial.architecture == arch
    ]
    return not states or states == [State.FAILED]


def choose_seed(session: Session | RecordedSearch) -> Trial:
    """The trial that NetAdapt starts from: highest reward among those that leave it a way to walk.

    That is, at least `netadapt.walk` above the final target and within the latency limit; where there is none, the
    highest reward of all. None is over a limit that was set: what is narrowed from it then keeps them all, too. Ties go
    to the earlier trial.

    Raises:
        RunError: no trial was completed, or none within the limits.
    """
    complete = competing(session)
    if not complete:
        raise RunError(
            f"search '{session.record.name}' has no completed trial for NetAdapt to start from; resume it: "
            f"mobilenas resume {session.record.name}"
        )
    # The reference is trained whatever it costs, but that is all.
    refusals = {trial.number: session.config.limits.limits(None).refusal(trial.scores) for trial in complete}
    complete = [trial for trial in complete if refusals[trial.number] is None]
    if not complete:
        raise RunError(
            f"no trained network is within the limits ({next(filter(None, refusals.values())).reason}); raise them "
            "under `limits`, or choose a smaller width"
        )
    if session.config.netadapt.max_steps == 0:
        within = [trial for trial in complete if trial.scores.latency_ms <= session.start.target_ms]
        complete = within or complete
    limits = limits_of(session)
    least = session.start.target_ms * (1 + session.config.netadapt.walk)
    # Of a Pareto front, too, what is not far above the target: the walk is for the last few steps.
    most = session.start.seed_target_ms * (1 + session.config.blocks.tolerance)
    with_a_way = [
        trial for trial in complete if least <= trial.scores.latency_ms <= most and limits.refusal(trial.scores) is None
    ]

    rewards = session.store.trials.rewards(session.record.id)
    return max(with_a_way or complete, key=lambda trial: rewards[trial.number])
