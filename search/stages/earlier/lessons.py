"""What earlier searches have trained teaches the sampler of a new one, where it would be trained in the same way here.

Nothing is taken over: a network from which the sampler has learnt may be proposed like any other, is measured and held
to the limits of this search, and then has its first result at no cost, since no network is trained twice.
"""

from collections.abc import Sequence
from itertools import islice

from search.objective.latency import scores_of
from search.objective.objective import Objective
from search.stages.race.rungs import as_learnt
from search.stages.session import Session
from search.trial import Trial
from space.arch import Architecture

# The newest: a surrogate keeps 256 rows, among which those of this search are to count.
_MOST = 128


def lessons(session: Session) -> list[Trial]:
    """Block-level trials of earlier searches with equal data, split, recipe, seed and evaluator, once per network.

    Those are meant that had ended when this search began, so that whoever resumes it learns from the same.
    """
    config = session.config
    wanted = config.blocks.warm_start and config.blocks.reuse and config.blocks.sampler == "feasible-first"
    if config.determinism == "strict" or not wanted:
        return []
    found: dict[str, Trial] = {}
    for trial in session.store.trials.of_others(
        session.record.id, session.start.data_hash, session.record.created_at, most=_MOST
    ):
        is_member = session.space.params_of(trial.architecture) is not None
        if is_member and session.evaluations.proxy(trial.architecture).key == trial.evaluation_key:
            found.setdefault(trial.architecture.arch_id, as_learnt(session, trial, 0.0)[0])
    return list(found.values())


def best_known(session: Session, known: Sequence[Trial], objective: Objective) -> list[Architecture]:
    """The best of these within the limits, in a race: as many as may go on, since their first rung costs nothing."""
    rungs = session.config.race.rungs
    if not rungs:
        return []
    within = (
        trial.architecture
        for trial in sorted(known, key=lambda trial: trial.scores.top1 or 0.0, reverse=True)
        if objective.refusal(scores_of(trial.architecture, objective.latency)) is None
    )
    return list(islice(within, rungs[1].networks if len(rungs) > 1 else session.config.final.top_k))
