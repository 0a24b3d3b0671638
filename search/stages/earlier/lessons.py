"""What earlier searches have trained teaches the sampler of a new one, where it would be trained in the same way here.

Nothing is taken over: a network from which the sampler has learnt may be proposed like any other, is measured and held
to the limits of this search, and then has its first result at no cost, since no network is trained twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from search.objective.latency import scores_of
from search.objective.objective import Objective
from search.stages.race.rungs import as_learnt, by_front
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
    """The best of these within the limits, or along the front, in a race: as many as may go on.

    Their first rung costs nothing.
    """
    rungs = session.config.race.rungs
    if not rungs:
        return []
    most = rungs[1].networks if len(rungs) > 1 else session.config.final.top_k
    best = sorted(known, key=lambda trial: trial.scores.top1 or 0.0, reverse=True)
    priced = (_priced(trial, objective) for trial in best)
    within: Iterable[Trial] = (trial for trial in priced if objective.refusal(trial.scores) is None)
    if session.config.blocks.objectives:
        within = by_front(session, list(within))
    return [trial.architecture for trial in islice(within, most)]


def _priced(trial: Trial, objective: Objective) -> Trial:
    """The same with what its network costs here."""
    return replace(trial, scores=scores_of(trial.architecture, objective.latency).judged_as(trial.scores))
