"""The rest of a race fitted to the time that is left: between rungs, where what was planned proves too long or short.

A plan is made from a calibration of seconds, and machines are shared. What was decided is recorded as the search's
configuration, which whoever resumes it follows; nothing changes where a search is to be the same with any workers.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from search.config.load import RunConfig
from search.evaluation.pace import EVALUATION_SHARE, Pace, pace_of_trainings
from search.reports.race import NOT_IN_RACE
from search.stages.session import Session
from search.trial import Origin, SearchStage, State, Trial

# What is left of a race is changed where it would take more or less than these shares of the time that is left.
_TOO_SHORT, _TOO_LONG = 0.85, 1.1
# Of how many networks go on at least this share of those that were planned, before trainings are made shorter.
_LEAST_NETWORKS = 0.5
_SHORTER = (1.0, 1 / 2, 1 / 4, 1 / 8)
# A calibration in a bad moment makes trainings too short for all that comes; so many times as long is the most at once.
_LONGEST = 4.0
# Shorter final trainings than these, which the shortest plans have, say little of a network: then it takes longer. Who
# begins with given weights needs a quarter.
_FEWEST_FINAL_IMAGES, _FEWEST_BEGUN = 15_000, 3_750
_NETWORKS = (4.0, 3.0, 2.0, 1.5, 1.25, 1.0, 7 / 8, 3 / 4, 5 / 8, 1 / 2, 3 / 8, 1 / 4, 1 / 8)


def replan(session: Session, rung: int) -> None:
    """Before the first network is trained on this rung, or finally: have the rest of the race end in time."""
    config, minutes = session.config, session.config.race.minutes
    if minutes is None or config.determinism == "strict" or config.executor != "local" or _has_begun(session, rung):
        return
    if not config.race.steps[rung - 1][0]:
        return  # nothing was trained yet, and a look says little of how long trainings take
    trained = _trained(session)
    planned = Pace.of(config, session.data, workers=session.executor.slots, images_per_second=1.0)
    took = _took(session, planned, [trial for trial in trained if trial.rung == rung - 1])
    images_per_second = pace_of_trainings(took)
    if images_per_second is None:
        return
    pace = replace(planned, images_per_second=images_per_second)
    left = 60 * minutes - _spent(session, trained)
    expected = _seconds(config, pace, rung)
    if _TOO_SHORT * left <= expected <= _TOO_LONG * left:
        return
    chosen = fitted(config, pace, rung, left)
    if chosen == config:
        return
    session.follow(chosen)
    session.listener.note(
        f"planned anew: {expected / 60:.1f} minutes were to come, where {max(0.0, left) / 60:.1f} are left; now "
        f"{_seconds(chosen, pace, rung) / 60:.1f}: {_in_words(chosen, rung)}"
    )


def fitted(config: RunConfig, pace: Pace, rung: int, seconds: float) -> RunConfig:
    """The configuration whose race takes these seconds from a rung on, or less.

    Half of the time that there is more (in logarithm) goes into longer trainings, by powers of two, so that they remain
    those of other searches, and the rest into more networks. Where there is less, there are fewer networks first, but
    not too few, and then trainings are shorter. The shortest race takes as long as it takes.
    """
    chosen, fewest = config, _FEWEST_FINAL_IMAGES if config.init is None else _FEWEST_BEGUN
    for images in (*_longer(seconds / _seconds(config, pace, rung)), *_SHORTER):
        changed = config.going_on(rung, images=images)
        if images > 1 and changed is None:
            continue
        if changed is None or (images < 1 and changed.final.images < fewest):
            break
        least = 1.0 if images > 1 else _LEAST_NETWORKS
        for networks in _NETWORKS:
            chosen = changed.going_on(rung, networks=networks) or changed
            if _seconds(chosen, pace, rung) <= seconds:
                if networks >= least:
                    return chosen
                break
    return chosen


def _longer(share: float) -> list[float]:
    """By how much trainings may be longer where there is so many times the time, the most first."""
    most = min(_LONGEST, 2.0 ** round(math.log2(share) / 2)) if share > 1 else 1.0
    return [2.0**power for power in range(round(math.log2(most)), 0, -1)]


def _seconds(config: RunConfig, pace: Pace, rung: int) -> float:
    return pace.rungs(config.race, rung) + pace.finals(config)


def _has_begun(session: Session, rung: int) -> bool:
    promoted = session.index.of_origin(SearchStage.BLOCKS, Origin.PROMOTED)
    return any(trial.rung >= rung for trial in promoted) or bool(session.trials(SearchStage.FINAL))


def _trained(session: Session) -> list[Trial]:
    """What was trained in this search, but for the reference, with its times; what others had trained took none."""
    return [
        trial
        for trial in session.store.trials.of(session.record.id, SearchStage.BLOCKS)
        if trial.state is State.COMPLETE and trial.reused_from is None and trial.origin not in NOT_IN_RACE
    ]


def _took(session: Session, pace: Pace, trials: Iterable[Trial]) -> Iterator[tuple[float, float]]:
    """The images of trainings, judging included, and their seconds."""
    for trial in trials:
        # What was taken over from another search may have had to be trained from the beginning.
        if trial.parent is not None and session.trial(trial.parent).reused_from is not None:
            continue
        judged = pace.judged_whole if trial.rung else pace.judged
        yield pace.trained(session.config.race, trial.rung) + EVALUATION_SHARE * judged, _lasted(trial)


def _lasted(trial: Trial) -> float:
    if trial.started_at is None or trial.finished_at is None:
        return 0.0
    return (trial.finished_at - trial.started_at).total_seconds()


def _spent(session: Session, trained: Iterable[Trial]) -> float:
    """Seconds since the search began: those of this session, and what the workers of earlier ones did."""
    before = [trial for trial in trained if trial.finished_at is not None and trial.finished_at < session.opened_at]
    earlier = sum(map(_lasted, before)) / session.executor.slots
    # What all begin with was trained with nothing beside it.
    started = [
        trial
        for trial in session.store.trials.of(session.record.id, SearchStage.BLOCKS)
        if trial.origin == Origin.START
    ]
    earlier += sum(_lasted(trial) for trial in started if trial.finished_at and trial.finished_at < session.opened_at)
    return earlier + (datetime.now(UTC) - session.opened_at).total_seconds()


def _in_words(config: RunConfig, rung: int) -> str:
    rungs = [f"{each.networks} networks up to {each.images:,} images" for each in config.race.rungs[rung:]]
    return ", ".join([*rungs, f"{config.final.top_k} finalists of {config.final.images:,} images"])
