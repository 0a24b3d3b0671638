"""What one sampler does on a problem: what it proposes, how long that is trained, what it would choose."""

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from search.bench.problem import Problem, Seen
from search.config.sections import SAMPLERS, named_or_callable
from search.objective.latency import scores_of
from search.objective.limits import Limits, Refusal
from search.objective.objective import Objective
from search.objective.reward import HARD, Reward, soft
from search.samplers.ask import Asking, Stuck
from search.samplers.feasible_first import Exhausted
from search.samplers.proposer import Proposed, Proposer
from search.trial import Scores, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import InvalidConfig, RunError

# A sampler with this behind its name sees no limit: it trains what is too slow, and maximises MnasNet's soft reward.
SOFT = "/soft"
# One with this trains what it proposes up to the problem's first rung, and the best of each rung on to the next one.
ASHA = "/asha"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerRun:
    """What one sampler did with one seed.

    `chosen` is, at the cost of each number of whole trainings, the worth of the network with the best score of those
    that were trained furthest (0 before there is one within the limits): with one rung and no noise the best so far.
    """

    sampler: str
    seed: int
    chosen: tuple[float, ...]
    own_choice: float
    """In the end, the worth of the network that the sampler itself takes for the best."""
    networks: int
    """So many were trained."""
    propose_ms: float
    """The median time of a proposal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What a sampler's name asks for."""

    name: str
    is_soft: bool
    is_asha: bool

    @classmethod
    def of(cls, sampler: str, problem: Problem) -> "_Way":
        name = sampler.removesuffix(ASHA)
        if name != sampler and len(problem.costs) == 1:
            raise InvalidConfig(
                f"sampler {sampler!r} stops trainings early, but problem {problem.name!r} knows their ends alone; "
                f"leave {ASHA} out"
            )
        return cls(
            name=named_or_callable(name.removesuffix(SOFT), SAMPLERS),
            is_soft=name.endswith(SOFT),
            is_asha=name != sampler,
        )


def run_sampler(problem: Problem, sampler: str, seed: int, evaluations: int) -> SamplerRun:
    """Let a sampler search at the cost of so many whole trainings.

    What is over the limit or was tried already costs nothing, as in a search.

    Raises:
        InvalidConfig: the sampler is unknown, or the problem has no rungs for it.
        RunError: it found no network within the limits, or something of the user's failed.
    """
    way = _Way.of(sampler, problem)
    course = _Course(problem, way, seed)
    chosen: list[float] = []
    spent = 0.0
    while spent + course.least_cost <= evaluations + 1e-9 and (step := course.next_step()) is not None:
        # What is chosen after so many whole trainings is what was known when they would have been exceeded.
        while len(chosen) < evaluations and spent + step.cost > len(chosen) + 1 + 1e-9:
            chosen.append(course.chosen_worth())
        if len(chosen) == evaluations:
            break
        course.take(step)
        spent += step.cost
    if not course.looks:
        raise RunError(
            f"sampler {sampler} found no network within {problem.limit_ms:g} {problem.unit} and the other limits; "
            "raise them"
        )
    chosen += [course.chosen_worth()] * (evaluations - len(chosen))
    return SamplerRun(
        sampler=sampler,
        seed=seed,
        chosen=tuple(chosen),
        own_choice=course.own_choice_worth(),
        networks=len(course.looks),
        propose_ms=1000 * float(np.median(course.proposer.seconds)),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """A training up to a rung: of a network that is known, or of one that is yet to be proposed."""

    rung: int
    cost: float
    known: str | None = None


class _Course:
    """The trainings of one run. `looks` are what each network showed at each of its rungs, by id."""

    def __init__(self, problem: Problem, way: _Way, seed: int) -> None:
        self._problem, self._seed = problem, seed
        self._costs = problem.costs if way.is_asha else problem.costs[-1:]
        self._reward: Reward = soft() if way.is_soft else HARD
        limits = Limits() if way.is_soft else problem.limits
        objective = Objective(
            encoding=problem.encoding,
            latency=problem.latency,
            limits=limits,
            reward_of=self._reward,
            target_ms=problem.limit_ms,
            rungs=self._costs,
        )
        self._trials = _Trials()
        self.proposer = _TimedProposer(objective, way.name, seed=seed, folder=problem.plugins)
        self._asking = Asking(
            proposer=self.proposer,
            objective=objective,
            new_trial=self._trials.add,
            next_number=lambda: self._trials.count,
            last_of=lambda arch: self._trials.evaluated.get(arch.arch_id),
            stands_for=problem.stands_for,
        )
        listed = (arch for arch in problem.listed or () if limits.refusal(scores_of(arch, problem.latency)) is None)
        self._all = {arch.arch_id for arch in listed}
        self._next: Trial | None = None
        self._nothing_left = False
        self.looks: dict[str, list[Seen]] = {}

    @property
    def least_cost(self) -> float:
        """Of any step: where not even that is left, no more is proposed."""
        return min(after - before for before, after in pairwise((0.0, *self._costs)))

    def next_step(self) -> _Step | None:
        """Training on what deserves it, else a new network, else what is left; None: all is trained to the end."""
        deserving = self._to_promote()
        if deserving is not None:
            return deserving
        if self._next is None and not self._nothing_left:
            self._next = self._proposed()
            self._nothing_left = self._next is None
        if self._next is not None:
            return _Step(0, self._costs[0])
        return self._to_promote(all_go_on=True)

    def _proposed(self) -> Trial | None:
        if self._all and self._all <= self.looks.keys():
            return None
        with suppress(Exhausted, Stuck):  # it has nothing left to propose
            return self._asking.ask()
        return None

    def _to_promote(self, *, all_go_on: bool = False) -> _Step | None:
        """By ASHA (Li et al. 2020): of the highest rung possible the best that is of the share that goes on.

        A rung's share is that of its cost in the next one's, so that all rungs cost the same.
        """
        for rung in reversed(range(len(self._costs) - 1)):
            reached = [name for name, looks in self.looks.items() if len(looks) > rung]
            reached.sort(key=lambda name: -self.looks[name][rung].score)
            share = 1.0 if all_go_on else self._costs[rung] / self._costs[rung + 1]
            for name in reached[: int(len(reached) * share + 1e-9)]:
                if len(self.looks[name]) == rung + 1:
                    return _Step(rung + 1, self._costs[rung + 1] - self._costs[rung], name)
        return None

    def take(self, step: _Step) -> None:
        """Train, and tell the sampler of a new network what its first rung showed."""
        rung = len(self._problem.costs) - len(self._costs) + step.rung
        if step.known is not None:
            arch = self._trials.evaluated[step.known].architecture
            self.looks[step.known].append(self._problem.look(arch, rung, self._seed))
            return
        trial, self._next = self._next, None
        assert trial is not None
        seen = self._problem.look(trial.architecture, rung, self._seed)
        self.looks[trial.architecture.arch_id] = [seen]
        done = replace(trial, state=State.COMPLETE, scores=replace(trial.scores, top1=seen.top1))
        self._trials.evaluated[trial.architecture.arch_id] = done
        self.proposer.tell(done, self._reward.of(done.scores, self._problem.limit_ms))

    def _furthest(self) -> list[Trial]:
        """Of what is within the limits, those that were trained furthest, best score first."""
        trials = [self._trials.evaluated[name] for name in self.looks]
        within = [each for each in trials if self._problem.limits.refusal(each.scores) is None]
        looks = {each.number: self.looks[each.architecture.arch_id] for each in within}
        most = max(map(len, looks.values()), default=0)
        furthest = [each for each in within if len(looks[each.number]) == most]
        return sorted(furthest, key=lambda each: -looks[each.number][-1].score)

    def chosen_worth(self) -> float:
        """Of what has the best score; 0 where nothing is within the limits."""
        furthest = self._furthest()
        return self._problem.worth(furthest[0].architecture) if furthest else 0.0

    def own_choice_worth(self) -> float:
        """Of what the sampler takes for the best, by what its last rung showed of each."""
        seen = [
            replace(each, scores=replace(each.scores, top1=self.looks[each.architecture.arch_id][-1].top1))
            for each in self._furthest()
        ]
        return self._problem.worth(self.proposer.best_of(seen).architecture) if seen else 0.0


class _TimedProposer(Proposer):
    """Remembers how long each proposal took."""

    def __init__(self, objective: Objective, name: str, *, seed: int, folder: str | None) -> None:
        super().__init__(objective, name, seed=seed, folder=folder)
        self.seconds: list[float] = []

    def ask(self, number: int) -> Proposed:
        """See `Proposer`."""
        started = time.perf_counter()
        proposed = super().ask(number)
        self.seconds.append(time.perf_counter() - started)
        return proposed


@dataclass
class _Trials:
    """The trials of one run, in memory alone."""

    count: int = 0
    evaluated: dict[str, Trial] = field(default_factory=dict)

    def add(self, arch: Architecture, *, scores: Scores, proposed: Proposed | None, refusal: Refusal | None) -> Trial:
        """See `search.samplers.ask.NewTrial`."""
        trial = Trial(
            number=self.count,
            stage=SearchStage.BLOCKS,
            state=State.RUNNING if refusal is None else State.PRUNED,
            origin="bench",
            architecture=arch,
            scores=scores,
            seed=0,
            params=dict(proposed.params) if proposed else None,
        )
        self.count += 1
        if refusal is None:
            self.evaluated[arch.arch_id] = trial
        return trial
