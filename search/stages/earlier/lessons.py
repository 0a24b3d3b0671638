"""What earlier searches have trained teaches the sampler of a new one, where it would be trained in the same way here.

Nothing is taken over: a network from which the sampler has learnt may be proposed like any other, is measured and held
to the limits of this search, and then has its first result at no cost, since no network is trained twice.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from search.objective.latency import scores_of
from search.objective.objective import Objective
from search.stages.race.rungs import as_learnt, by_front
from search.stages.session import Session
from search.trial import Trial
from space.arch import Architecture

# The newest: a surrogate keeps 256 rows, among which those of this search are to count.
_MOST = 128


@dataclass(frozen=True, slots=True)
class Lessons:
    """What earlier searches say of networks, as samplers are told of trials.

    `first` are their first rungs, and `furthest`, each with its rung here, how far they were trained.
    """

    first: list[Trial]
    furthest: list[tuple[int, Trial]]


def lessons(session: Session) -> Lessons:
    """Block-level trials of earlier searches with equal data, split, recipe, seed and evaluator, once per network.

    Those are meant that had ended when this search began, so that whoever resumes it learns from the same.
    """
    config = session.config
    wanted = config.blocks.warm_start and config.blocks.reuse and config.blocks.sampler == "feasible-first"
    if config.determinism == "strict" or not wanted:
        return Lessons([], [])
    first: dict[str, Trial] = {}
    furthest: dict[str, tuple[int, Trial]] = {}
    for trial in session.store.trials.of_others(
        session.record.id, session.start.data_hash, session.record.created_at, most=_MOST
    ):
        if session.space.params_of(trial.architecture) is None or (rung := _rung_of(session, trial)) is None:
            continue
        network, told = trial.architecture.arch_id, as_learnt(session, trial, 0.0)[0]
        if rung == 0:
            first.setdefault(network, told)
        if network not in furthest or rung > furthest[network][0]:
            furthest[network] = rung, told
    return Lessons([*first.values()], [*furthest.values()])


def _rung_of(session: Session, trial: Trial) -> int | None:
    """On which rung of this search the network would be trained as it was there."""
    evaluations, config, arch = session.evaluations, session.config, trial.architecture
    if evaluations.proxy(arch).key == trial.evaluation_key:
        return 0
    for number, rung in enumerate(config.race.rungs):
        recipe = config.rung_recipe(rung.images)
        # As `search.stages.race.rungs.evaluation_of` has it.
        if number and evaluations.of(arch, recipe, train_images=None, on_whole_split=True).key == trial.evaluation_key:
            return number
    return None


def best_known(session: Session, known: Lessons, objective: Objective) -> list[Architecture]:
    """The best of these within the limits, or along the front, in a race: as many as may go on.

    Whoever was trained further there was better. What is trained alike here costs nothing.
    """
    rungs = session.config.race.rungs
    if not rungs:
        return []
    most = rungs[1].networks if len(rungs) > 1 else session.config.final.top_k
    if session.config.blocks.objectives:
        within = by_front(session, _within(known.first, objective))
    else:
        best = sorted(known.furthest, key=lambda each: (each[0], each[1].scores.top1 or 0.0), reverse=True)
        within = _within((trial for _, trial in best), objective)
    return [trial.architecture for trial in within[:most]]


def _within(trials: Iterable[Trial], objective: Objective) -> list[Trial]:
    priced = (_priced(trial, objective) for trial in trials)
    return [trial for trial in priced if objective.refusal(trial.scores) is None]


def _priced(trial: Trial, objective: Objective) -> Trial:
    """The same with what its network costs here."""
    return replace(trial, scores=scores_of(trial.architecture, objective.latency).judged_as(trial.scores))
