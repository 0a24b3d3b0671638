"""The race: trainings go on for as long as their network is among the best of those that got as far.

A rung of a network is a trial of its own, whose parent is the rung before: it is recorded, judged, run, resumed and
taken over like any other. It goes on from the checkpoint that its parent left, which costs the difference, and where
that is lost it begins anew, with the same result.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from search.evaluation.job import Evaluation
from search.objective.pareto import along_front, losses
from search.reports.race import NOT_IN_RACE, furthest
from search.reports.recorded_search import RecordedSearch
from search.run_folder import RunFolder
from search.stages.dispatch import run_trials
from search.stages.limits import end_latency_ms, end_limits_of, limits_of
from search.stages.race.replanning import replan
from search.stages.race.screening import can_screen, measure_adopted
from search.stages.session import Session
from search.trial import Origin, SearchStage, State, Trial
from space.errors import RunError
from trainer.training.judgement import Judgement
from trainer.training.metrics import paired_difference, wilson_interval

# Who is less than two points better than to name the largest class has learnt nothing of use.
_HARDLY = 0.02
# On fewer images chance itself spreads by more than that.
_FEW = 1000


def evaluation_of(session: Session, trial: Trial) -> Evaluation:
    """The training of a block-level trial, on whichever rung it is."""
    if trial.origin == Origin.START and (start := session.evaluations.start) is not None:
        return start
    if not trial.rung:
        return session.evaluations.proxy(trial.architecture)
    images = session.config.race.rungs[trial.rung].images
    # The further networks are trained, the less they differ, and the more images it takes to tell them apart.
    recipe = session.config.rung_recipe(images)
    return session.evaluations.of(trial.architecture, recipe, train_images=None, on_whole_split=True)


def run_race(session: Session) -> None:
    """Train the best of each rung on to the next one, from the block-level trials, which are the first rung.

    Raises:
        Interrupted: it was stopped.
        RunError: all trainings of a rung failed.
    """
    if not session.config.races or session.trials(SearchStage.FINAL):
        return  # there is none, or who is trained to the end was chosen already
    if can_screen(session) and not session.index.of_origin(SearchStage.BLOCKS, Origin.PROMOTED):
        measure_adopted(session)
    last = len(session.config.race.rungs)
    for number in range(1, last):
        before = _racing(session, number - 1)
        if session.finish_requested or not before:
            return
        replan(session, number)
        rung = session.config.race.rungs[number]
        order = _in_order(session, before)
        entrants = order[: rung.networks]
        # The next best may still be wanted in the end.
        _forget_checkpoints(session, number, but=order[: rung.networks + session.config.final.top_k])
        session.listener.note(
            f"race: {len(entrants)} of {len(before)} networks go on to {rung.images:,} images, first that of trial "
            f"{entrants[0].number}"
        )
        _run_rung(session, number, rung.images, entrants)
    _refuse_guesses(session)
    if not session.finish_requested:
        replan(session, last)


def _refuse_guesses(session: Session) -> None:
    """End before the final training where nothing was learnt, as from labels that are not those of the images.

    Where few images judge, who has learnt little and who has learnt nothing are not told apart: then it is said.

    Raises:
        RunError: the best network does no better than to name the largest class.
    """
    raced = [trial for trial in competing(session) if trial.origin not in NOT_IN_RACE]
    if not raced:
        return
    best = max(raced, key=lambda trial: trial.scores.top1 or 0.0)
    top1, images = best.scores.top1 or 0.0, session.start.files.judged(best.number).stat().st_size
    dataset, splits = session.evaluations.images.dataset, session.evaluations.images.splits
    labels, by_top1 = dataset.labels()[splits.reward], session.config.data.rank_by == "top1"
    share = float(np.bincount(labels).max()) / len(labels) if by_top1 else 1 / len(dataset.classes)
    if not is_above(top1, images, share):
        session.listener.note(
            f"the best network of the race has {top1:.2%} on {images:,} images, where always naming one class has "
            f"{share:.2%}: that may be chance; look at the labels (mobilenas data check), or give it more images"
        )
    if by_top1 and is_guessing(top1, images, share):
        raise RunError(
            f"after the race the best network has a top-1 of {top1:.2%} ({session.config.judge.images}), where "
            f"{share:.2%} are of the largest class: nothing was learnt that a final training could build on; look at "
            "the labels (mobilenas data check), or search with a higher resolution or more images"
        )


def is_above(top1: float, images: int, chance: float) -> bool:
    """Whether a top-1 on so many images is, with 95 % confidence, above what chance has."""
    low, _ = wilson_interval(round(top1 * images), images)
    return low > chance


def is_guessing(top1: float, images: int, largest: float) -> bool:
    """Whether a top-1 on so many images is, with 95 % confidence, hardly above the largest class's share of them."""
    if images < _FEW:
        return False
    _, high = wilson_interval(round(top1 * images), images)
    return high <= largest + _HARDLY


def _in_order(session: Session, trials: Sequence[Trial]) -> list[Trial]:
    """Trials of one rung in the order in which they go on.

    That is the best first. Of a Pareto race they are those that cover the front, behind the best within the target, one
    of which the search ends with.
    """
    order = ranked(session, trials)
    if not session.config.blocks.objectives:
        return order
    limits = end_limits_of(session)
    within = [trial for trial in order if limits.refusal(trial.scores) is None][: session.config.final.top_k]
    return [*within, *(trial for trial in by_front(session, order) if trial not in within)]


def by_front(session: Session, trials: Sequence[Trial]) -> list[Trial]:
    """Trials in the order in which they cover the front of the objectives, top-1 as samplers are told of it."""
    told = [as_learnt(session, trial, 0.0)[0].scores for trial in trials]
    costs = [[getattr(scores, name) for scores in told] for name in session.config.blocks.objectives[1:]]
    order = along_front(losses(np.array([scores.top1 for scores in told]), *map(np.array, costs)))
    return [trials[index] for index in order]


def _run_rung(session: Session, number: int, images: int, entrants: Sequence[Trial]) -> None:
    def of_rung() -> list[Trial]:
        return [each for each in session.index.of_origin(SearchStage.BLOCKS, Origin.PROMOTED) if each.rung == number]

    begun = {trial.parent for trial in of_rung() if trial.state is not State.FAILED}
    waiting = [trial for trial in entrants if trial.number not in begun]

    def ask() -> Trial | None:
        if not waiting or (done() and session.finish_requested):
            return None
        before = waiting.pop(0)
        return session.new_trial(
            SearchStage.BLOCKS,
            before.architecture,
            origin=Origin.PROMOTED,
            parent=before,
            iteration=number,
            scores=before.scores.unjudged,
        )

    def done() -> int:
        return sum(trial.state is State.COMPLETE for trial in of_rung())

    session.listener.begin(f"race to {images:,} images", len(entrants))
    run_trials(
        session,
        SearchStage.BLOCKS,
        ask,
        lambda trial: evaluation_of(session, trial),
        advanced=lambda running: session.listener.advance(done() + running),
    )
    session.listener.end()
    if not done():
        failed = [trial for trial in of_rung() if trial.state is State.FAILED]
        raise RunError(f"all {len(failed)} trainings of the race's rung {number} failed: {failed[-1].error}")


def competing(session: Session | RecordedSearch) -> list[Trial]:
    """Who competes; not what all begin with, unless the search is a mere walk from that."""
    walks = session.config.netadapt.start is not None
    trials = session.trials(SearchStage.BLOCKS)
    return [trial for trial in trials if trial.state is State.COMPLETE and (walks or trial.origin != Origin.START)]


def _racing(session: Session, rung: int) -> list[Trial]:
    """Who got as far as a rung within the limits: what was taken over from other searches need not be."""
    limits = limits_of(session)
    reached = [trial for trial in competing(session) if trial.rung == rung and trial.origin not in NOT_IN_RACE]
    return [trial for trial in reached if limits.refusal(trial.scores) is None] or reached


def _forget_checkpoints(session: Session, rung: int, *, but: Sequence[Trial]) -> None:
    """Remove what nothing goes on from any more, now that a rung begins or goes on."""
    kept = {trial.number for trial in but}
    for trial in competing(session):
        if trial.number not in kept and trial.rung < rung:
            session.start.files.checkpoint(trial.number).unlink(missing_ok=True)


def forget_all_checkpoints(session: Session) -> None:
    """Remove what the race has left, once the final networks are trained."""
    for trial in session.trials(SearchStage.BLOCKS):
        session.start.files.checkpoint(trial.number).unlink(missing_ok=True)


def standings(session: Session | RecordedSearch) -> list[Trial]:
    """The last training of each network, the best first: who was trained further is ahead."""
    last = furthest(competing(session))
    found: list[Trial] = []
    for rung in sorted({trial.rung for trial in last}, reverse=True):
        found += ranked(session, [trial for trial in last if trial.rung == rung])
    return found


def winners(session: Session | RecordedSearch) -> list[Trial]:
    """The last training of each network that keeps the limits, the best first.

    Raises:
        RunError: there is none.
    """
    limits = end_limits_of(session)
    found = [trial for trial in standings(session) if limits.refusal(trial.scores) is None]
    if not found:
        raise RunError(
            f"no network that was trained is within {end_latency_ms(session):.3f} ms and the other limits; search "
            "again with a higher target, other limits or a smaller width"
        )
    return found


def ranked(
    session: Session | RecordedSearch, trials: Sequence[Trial], rewards: Mapping[int, float] | None = None
) -> list[Trial]:
    """Trials of one rung, the best first; `rewards` where the record has none of them.

    Under a hard reward, which is top-1 within the limits, the log-likelihood orders them: it says the same with less
    noise. Under any other one the reward does, and the log-likelihood orders what is equal within two standard errors.
    """
    if _by_likelihood_alone(session):
        return by_likelihood(trials)
    if rewards is None:
        rewards = session.store.trials.rewards(session.record.id)
    return by_reward(trials, rewards, session.start.files)


def _by_likelihood_alone(session: Session | RecordedSearch) -> bool:
    config = session.config
    return config.races and config.blocks.reward.kind == "hard" and config.data.rank_by == "top1"


def as_learnt(session: Session, trial: Trial, reward: float | None) -> tuple[Trial, float | None]:
    """A trial and its reward as a sampler is told of them.

    Where the log-likelihood alone orders networks, its exponential stands for top-1: short trainings say more by it.
    """
    likelihood = trial.scores.log_likelihood
    if reward is None or likelihood is None or not _by_likelihood_alone(session):
        return trial, reward
    told = replace(trial, scores=replace(trial.scores, top1=math.exp(likelihood)))
    return told, session.reward.of(told.scores, session.start.seed_target_ms)


def by_likelihood(trials: Sequence[Trial]) -> list[Trial]:
    """The largest log-likelihood first, of equals the earlier trial."""
    return sorted(trials, key=lambda trial: (-_likelihood(trial), trial.number))


def by_reward(trials: Sequence[Trial], rewards: Mapping[int, float], files: RunFolder) -> list[Trial]:
    """The largest reward first, and of what is equal to it within two standard errors the largest log-likelihood."""
    left = sorted(trials, key=lambda trial: (-rewards[trial.number], trial.number))
    order: list[Trial] = []
    while left:
        alike = [trial for trial in left if _are_alike(files, left[0], trial, rewards)]
        order.append(by_likelihood(alike)[0])
        left.remove(order[-1])
    return order


def _likelihood(trial: Trial) -> float:
    # Only a user's own evaluator gives none, and there is no race of these.
    assert trial.scores.log_likelihood is not None
    return trial.scores.log_likelihood


def _are_alike(files: RunFolder, best: Trial, other: Trial, rewards: Mapping[int, float]) -> bool:
    """Whether a reward is within two standard errors of the best one's, which are as those of top-1 in proportion."""
    if other is best:
        return True
    assert best.scores.top1 is not None
    right = [Judgement.from_bytes(files.judged(each.number).read_bytes()).right for each in (best, other)]
    difference = paired_difference(*right)
    margin = (difference.high - difference.low) / 2
    reward = rewards[best.number]
    return rewards[other.number] >= reward - margin * abs(reward) / max(best.scores.top1, 1e-9)
