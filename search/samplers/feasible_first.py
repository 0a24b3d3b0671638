"""Feasibility first, surrogate second: proposals that meet every limit, and of those what is promising.

Costs are exact and known before training, so no proposal is spent on a network that breaks a limit, and nothing has to
be learnt about limits. What must be learnt is top-1: a surrogate of it, and its uncertainty, on what is finished
(`search.samplers.surrogate`). The proposal maximises the reward of optimistic top-1 (Srinivas et al. 2010, GP-UCB) and
exact costs among candidates that evolve within the limits. For a Pareto front, limits at random levels are added for
each proposal (the epsilon-constraint method: Haimes et al. 1971).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from search.objective.objective import Objective
from search.samplers.surrogate import Surrogate
from space.encoding import Codes
from space.errors import RunError
from space.variation.moves import canonical, crossover, members, mutate


class Exhausted(RunError):
    """Every network within the limits was proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done for one proposal."""

    random_proposals: int = 10
    """So many proposals are random ones within the limits; a surrogate guides the others, once half of these ended."""
    deviations: float = 3.0
    """So many standard deviations above what is expected top-1 is hoped for."""
    draws: int = 192
    most_draws: int = 768
    wanted: int = 48
    """Random candidates are drawn by `draws` until so many meet the limits."""
    parents: int = 64
    children: int = 192
    generations: int = 8
    descents: int = 100
    """Where no random candidate meets the limits, so many generations are bred towards them."""
    by_prior: int = 128
    most_draws_by_prior: int = 3072
    generations_by_prior: int = 16
    """Where there is a prior, so many random candidates within the limits are bred for so long; more generations find
    nearly the same network each time."""
    over: float = 0.1
    penalty: float = 20.0
    """Networks whose violation (`Objective.violation`) is at most that may be parents, for which it counts as `penalty`
    times itself worse. Within a narrow band of latency hardly any child is within the limits, too."""


DEFAULT = Effort()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What is known of networks that were trained elsewhere: canonical rows, and their top-1 (0–1)."""

    codes: Codes
    top1: np.ndarray

    def beside(self, codes: Codes, top1: np.ndarray) -> tuple[Codes, np.ndarray]:
        """These after others, without those that are among them."""
        there = set(map(bytes, codes))
        new = np.array([bytes(row) not in there for row in self.codes], dtype=bool)
        return np.vstack([codes, self.codes[new]]), np.concatenate([top1, self.top1[new]])


# Spaces of so many combinations of choices are gone through when random candidates run out.
_LISTED = 20_000
# So many of the fittest guesses are asked for at once.
_ASKED = 8

Scores = Callable[[Codes], np.ndarray]
"""Of rows, shape (networks,): the larger, the better."""
Fitness = Callable[[Codes, np.ndarray], np.ndarray]
"""Of rows and their costs, shape (networks,); minus infinity for what is out of the question."""


class _Candidates:
    """Networks with their costs, each asked for once, and their fitness by the measure that is in force.

    Where `costs` are given they stand for the objective's, which the fittest alone are then asked for.
    """

    def __init__(self, objective: Objective, taken: Codes, costs: Callable[[Codes], np.ndarray] | None = None) -> None:
        self._objective, self._costs = objective, costs or objective.costs
        self._guessed = costs is not None
        self._seen = set(map(bytes, taken))
        self.codes = taken[:0]
        self.costs = objective.costs(self.codes)
        self.is_sure = np.zeros(0, dtype=bool)
        # Whether a network may be proposed, and meets the limits.
        self.free = np.zeros(0, dtype=bool)
        self.fitness = np.zeros(0)
        self._judge: Fitness = lambda codes, costs: -objective.violation(costs)  # noqa: ARG005

    def judge(self, by: Fitness) -> None:
        """Judge all candidates anew, and those to come."""
        self._judge = by
        self.fitness = by(self.codes, self.costs)

    def add(self, codes: Codes) -> None:
        """Take in what is new among valid rows, and not taken."""
        codes = canonical(self._objective.encoding, codes)
        new = {row: at for at, row in enumerate(map(bytes, codes)) if row not in self._seen}
        codes = codes[list(new.values())]
        costs = self._costs(codes)
        self._seen.update(new)
        self._append(codes, costs, free=self._objective.violation(costs) <= 0, is_sure=not self._guessed)

    def add_parents(self, codes: Codes, costs: np.ndarray) -> None:
        """Take in networks that will not be proposed themselves."""
        self._append(codes, costs, free=np.zeros(len(codes), dtype=bool), is_sure=True)

    def _append(self, codes: Codes, costs: np.ndarray, free: np.ndarray, *, is_sure: bool) -> None:
        self.codes = np.vstack([self.codes, codes])
        self.costs = np.vstack([self.costs, costs])
        self.free = np.concatenate([self.free, free])
        self.is_sure = np.concatenate([self.is_sure, np.full(len(codes), is_sure)])
        self.fitness = np.concatenate([self.fitness, self._judge(codes, costs)])

    def breed(self, effort: Effort, rng: np.random.Generator) -> None:
        """Take in children of the fittest: mutated, crossed, or both."""
        encoding = self._objective.encoding
        order = np.argsort(-self.fitness, kind="stable")[: effort.parents]
        parents = self.codes[order[np.isfinite(self.fitness[order])]]
        one, other = parents[rng.integers(0, len(parents), (2, effort.children))]
        crossed = crossover(encoding, one, other, rng)
        third = effort.children // 3
        mutated = mutate(encoding, np.vstack([one[:third], crossed[third : 2 * third]]), rng)
        self.add(np.vstack([mutated, crossed[2 * third :]]))

    def draw(self, effort: Effort, rng: np.random.Generator, *, wanted: int, most: int) -> bool:
        """Take in random candidates until so many are free, or so many were drawn: whether they are."""
        for _ in range(0, most, effort.draws):
            self.add(self._objective.encoding.sample(effort.draws, rng))
            if np.count_nonzero(self.free) >= wanted:
                return True
        return False

    def gather(self, effort: Effort, rng: np.random.Generator) -> None:
        """Take in random candidates; where hardly any is free, all there are, or such as are bred towards the limits.

        Raises:
            Exhausted: none is free.
        """
        encoding = self._objective.encoding
        if self.draw(effort, rng, wanted=effort.wanted, most=effort.most_draws):
            return
        every = members(encoding, _LISTED)
        if every is not None:
            self.add(rng.permutation(every))
        for _ in range(0 if every is not None else effort.descents):
            if self.free.any():
                break
            self.breed(effort, rng)
        if not self.free.any():
            name = encoding.space.preset.name
            found = "is left" if every is not None else "was found"
            raise Exhausted(f"no further network of space '{name}' {found} within the limits; raise them, or stop here")

    def fittest(self) -> Codes | None:
        """The row of the fittest that is free, None where all of them are out of the question.

        Of guesses the best ones are asked for, until nothing that is guessed is better than what is known.
        """
        while True:
            fitness = np.where(self.free, self.fitness, -np.inf)
            order = np.argsort(-fitness, kind="stable")[:_ASKED]
            order = order[np.isfinite(fitness[order])]
            if not len(order) or self.is_sure[order[0]]:
                return self.codes[order[0]] if len(order) else None
            self._ask(order[~self.is_sure[order]])

    def _ask(self, at: np.ndarray) -> None:
        codes, self.is_sure[at] = self.codes[at], True
        self.costs[at] = self._objective.costs(codes)
        self.free[at] = self._objective.violation(self.costs[at]) <= 0
        self.fitness[at] = self._judge(codes, self.costs[at])


def propose(
    objective: Objective,
    *,
    known: Codes,
    top1: np.ndarray,
    pending: Codes,
    excluded: Codes,
    rng: np.random.Generator,
    objectives: tuple[int, ...] = (),
    effort: Effort = DEFAULT,
    lessons: Lessons | None = None,
    prior: Scores | None = None,
) -> Codes:
    """The row of a network that meets the limits and is none of those given, shape (parameters,), canonical.

    All rows given are canonical. `known` are finished, with their `top1` (0–1), within the limits or not; `pending`
    are running; `excluded` failed. `objectives` are the columns of the costs that are minimised besides: then top-1
    itself is maximised instead of the reward. The networks of `lessons` may be proposed. Where there is a `prior`, in
    standard deviations of what networks reach, it is followed instead of a surrogate: short trainings say less of
    networks near one latency than it does.

    Raises:
        Exhausted: there is none, or none was found.
    """
    told = _Told(known, top1, pending, excluded)
    if objective.latency.is_dear:
        # By guesses where they serve: they may be too wrong to find anything.
        with suppress(Exhausted):
            costs = objective.guessed_costs(np.vstack([known, pending]))
            candidates = _Candidates(objective, told.taken, costs)
            found = _proposed(objective, candidates, told, rng, objectives, effort, lessons, prior)
            if found is not None:
                return found
    found = _proposed(objective, _Candidates(objective, told.taken), told, rng, objectives, effort, lessons, prior)
    assert found is not None, "candidates were gathered until one was free"
    return found


@dataclass(frozen=True, slots=True)
class _Told:
    """What `propose` was told, by the same names."""

    known: Codes
    top1: np.ndarray
    pending: Codes
    excluded: Codes

    @property
    def taken(self) -> Codes:
        """What is not proposed again."""
        return np.vstack([self.known, self.pending, self.excluded])


def _proposed(
    objective: Objective,
    candidates: _Candidates,
    told: _Told,
    rng: np.random.Generator,
    objectives: tuple[int, ...],
    effort: Effort,
    lessons: Lessons | None,
    prior: Scores | None,
) -> Codes | None:
    """See `propose`; None where no candidate that was guessed to meet the limits does."""
    if prior is not None:
        return _best_by(prior, candidates, objective, rng, effort)
    known, top1, pending = told.known, told.top1, told.pending
    known_costs = objective.costs(known)
    rewards = np.where(objective.violation(known_costs) <= 0, objective.reward(top1, known_costs), -np.inf)
    # Within any bounds others are the best, so that all known ones may become parents.
    best = np.argsort(-rewards, kind="stable")[: None if objectives else effort.parents]
    candidates.add_parents(known[best], known_costs[best])
    if lessons is not None:
        candidates.add(lessons.codes)
        known, top1 = lessons.beside(known, top1)
        known_costs = objective.costs(known)
    candidates.gather(effort, rng)
    if len(known) + len(pending) < effort.random_proposals or 2 * len(known) < effort.random_proposals:
        candidates.judge(lambda codes, costs: np.zeros(len(codes)))  # noqa: ARG005 - the first of them
        return candidates.fittest()
    surrogate = Surrogate.fit(objective.encoding, known, top1, known_costs, rng)
    if len(pending):
        surrogate = surrogate.believing(pending, objective.costs(pending))

    def promise(codes: Codes, costs: np.ndarray) -> np.ndarray:
        promises = np.full(len(codes), -np.inf)
        fit = np.flatnonzero((objective.violation(costs) <= 0) & (costs <= bounds).all(axis=1))
        hoped = surrogate.optimistic(codes[fit], costs[fit], effort.deviations)
        promises[fit] = hoped if objectives else objective.reward(hoped, costs[fit])
        return promises

    bounds = _bounds(candidates.costs[objective.violation(candidates.costs) <= 0], objectives, rng)
    candidates.judge(promise)
    for _ in range(effort.generations):
        candidates.breed(effort, rng)
    found = candidates.fittest()
    if found is None:  # all within the bounds are taken
        bounds = np.full(candidates.costs.shape[1], np.inf)
        candidates.judge(promise)
        found = candidates.fittest()
    return found


def _best_by(
    prior: Scores, candidates: _Candidates, objective: Objective, rng: np.random.Generator, effort: Effort
) -> Codes | None:
    """One that is free, bred for what the prior says of it from random candidates."""
    candidates.draw(effort, rng, wanted=effort.by_prior, most=effort.most_draws_by_prior)
    if not candidates.free.any():
        candidates.gather(effort, rng)

    def promise(codes: Codes, costs: np.ndarray) -> np.ndarray:
        violation = objective.violation(costs)
        fit = violation <= effort.over
        promises = np.full(len(codes), -np.inf)
        promises[fit] = prior(codes[fit]) - effort.penalty * violation[fit]
        return promises

    candidates.judge(promise)
    for _ in range(effort.generations_by_prior):
        candidates.breed(effort, rng)
    return candidates.fittest()


def _bounds(feasible: np.ndarray, objectives: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Bounds on all costs, shape (figures,): infinite, but for objectives those of one of these networks.

    It is the one closest to a random level of a random objective, so that cheap networks come up as often as others.
    """
    bounds = np.full(feasible.shape[1], np.inf)
    if objectives:
        levels = np.log(np.maximum(feasible[:, rng.choice(objectives)], 1e-9))
        chosen = np.abs(levels - rng.uniform(levels.min(), levels.max())).argmin()
        bounds[list(objectives)] = feasible[chosen, objectives]
    return bounds
