"""Who proposes architectures at block level: Optuna's samplers, ours and users' own, behind one class.

The study lives in memory and is rebuilt from the record on resume; the record never depends on it. Files whose names
begin with `samplers`, and `optuna_views`, are the only ones that know Optuna.
"""

import hashlib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.config.sections import SAMPLERS
from search.objective.limits import Cause, Refusal
from search.objective.objective import Objective
from search.plugins import Plugin, user_code
from search.samplers.feasible_first import Lessons
from search.samplers.optuna import FeasibleFirst, RegularizedEvolution
from search.samplers.prior import Prior
from search.samplers.surrogate import Surrogate
from search.trial import FIGURES, State, Trial
from space.choices import Params
from space.encoding import Encoding
from space.errors import InvalidConfig
from space.variation.moves import canonical

_CONSTRAINT = "limits"
# NSGA-II's generations: Optuna's 50 would make one generation of most of our searches.
_POPULATION = 16
# A sampler that was refused so often in a row, for networks tried already or over a limit, is helped by a random one:
# TPE, whose best choices are few in a small space, would go on to propose them thousands of times.
STUCK_AFTER = 16

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def derived_seed(seed: int, number: int) -> int:
    """A seed for one trial, a function of the search's seed and the trial's number."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4])


class _Maker(Protocol):
    def __call__(self, *, seed: int) -> BaseSampler: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """Flat parameters, and what the sampler noted of them, which it needs back on resume."""

    params: Params
    attrs: Mapping[str, Any]


class Proposer:
    """Asks a sampler for architectures of a space.

    What it proposes for a trial depends on the search's seed, the trial's number and the trials told so far, so a
    resumed search goes on as if it had never stopped. Not for use by several threads.
    """

    def __init__(
        self,
        objective: Objective,
        name: str,
        *,
        seed: int,
        objectives: Sequence[str] = (),
        folder: str | None = None,
        lessons: Sequence[Trial] = (),
        prior: Prior | None = None,
    ) -> None:
        """Make a sampler by its name, or import a user's own.

        Ours follows a `prior`, or else learns from `lessons`, trials of other searches.

        Raises:
            InvalidConfig: a user's own cannot be imported or made.
        """
        self._space, self._objective, self._seed = objective.encoding.space, objective, seed
        # Without those that have no choice, on which Optuna would spend most of its time.
        self._fixed = {name: choices[0] for name, choices in self._space.parameters.items() if len(choices) == 1}
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(choices)
            for name, choices in self._space.parameters.items()
            if len(choices) > 1
        }
        self._objectives = tuple(objectives)
        self._prior = prior
        self._lessons = _lessons(objective.encoding, lessons) if lessons else None
        self._top1: dict[int, float] = {}
        self._name = name
        self._make = self._maker(name, folder)
        directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(self._objectives) - 1)]
        self._study = optuna.create_study(directions=directions, sampler=self._make(seed=seed))
        self._known: dict[int, int] = {}  # our numbers of trials to the study's
        self._refused: set[int] = set()

    def _maker(self, name: str, folder: str | None) -> _Maker:
        if name not in SAMPLERS:
            call = Plugin(name=name, folder=folder).load()
            # What ours know beforehand, for who wants it: limits, exact costs and latencies of any member.
            known = {"problem": self._objective} if "problem" in _parameters(call) else {}

            def own(seed: int) -> BaseSampler:
                with self._user_code():
                    made = call(seed=seed, **known)
                if not isinstance(made, BaseSampler):
                    raise InvalidConfig(
                        f"sampler {name} made {type(made).__name__}; it must return an optuna.samplers.BaseSampler"
                    )
                return made

            return own
        if name == "tpe":
            return TPESampler
        if name == "random":
            return RandomSampler
        if name == "nsga2":
            return partial(NSGAIISampler, population_size=_POPULATION)
        encoding, distributions = self._objective.encoding, self._distributions
        if name == "evolution":
            evolving = RegularizedEvolution(encoding, distributions)
            return evolving.seeded
        costs = tuple(FIGURES.index(objective) for objective in self._objectives[1:])
        ours = FeasibleFirst(
            self._objective,
            distributions,
            top1_of=self._top1_of,
            objectives=costs,
            lessons=self._lessons,
            prior=self._prior,
        )
        return ours.seeded

    def _user_code(self) -> AbstractContextManager[None]:
        """Whatever a user's own sampler raises is told as its failure; what one of ours does would be a fault here."""
        if self._name in SAMPLERS:
            return nullcontext()
        expected = (
            "it is called with seed= (and problem=, if it takes that), and returns a BaseSampler of Optuna that "
            "proposes given choices"
        )
        return user_code(f"sampler {self._name}", expected)

    def _top1_of(self, trial: FrozenTrial) -> float:
        return self._top1[trial.number]

    def ask(self, number: int) -> Proposed:
        """The flat parameters proposed for a trial; it counts as running until told.

        Raises:
            RunError: the sampler has nothing left to propose.
        """
        make = RandomSampler if self._is_stuck(number) else self._make
        self._study.sampler = make(seed=derived_seed(self._seed, number))
        with self._user_code():
            trial = self._study.ask(fixed_distributions=self._distributions)
        self._known[number] = trial.number
        frozen = self._study.get_trials(deepcopy=False)[trial.number]
        attrs = {name: value for name, value in frozen.system_attrs.items() if _is_plain(value)}
        # Not the trial's own property, which copies them deeply.
        params = frozen.params
        code = self._objective.encoding.encode_params(params)[None]
        trial.set_constraint(_CONSTRAINT, float(self._objective.violation(self._objective.costs(code))[0]))
        return Proposed(params={**self._fixed, **params}, attrs=attrs)

    def _is_stuck(self, number: int) -> bool:
        """Whether all of the last proposals before this one were refused: told by the record alone, as on resume."""
        return all(number - back in self._refused for back in range(1, STUCK_AFTER + 1))

    def tell(self, trial: Trial, reward: float | None, *, refusal: Refusal | None = None) -> None:
        """Report a trial that ended, proposed here or read from the record; one outside the space is passed over.

        `refusal` is why a pruned one was not evaluated.
        """
        assert (trial.state is State.PRUNED) is (refusal is not None), "what is pruned was refused, and nothing else"
        if trial.state is State.PRUNED:
            self._refused.add(trial.number)
        if trial.number not in self._known:
            self._add(trial)
        number = self._known.pop(trial.number, None)
        if number is None:
            return
        state, values = self._outcome(trial, reward, refusal)
        if values is not None and trial.scores.top1 is not None:
            self._top1[number] = trial.scores.top1
        with self._user_code():
            self._study.tell(number, values, state=state)

    def running(self, trial: Trial) -> None:
        """Report a trial that runs, or that nobody may learn from yet, as it was left by an earlier coordinator."""
        if trial.number not in self._known:
            self._add(trial)

    def best_of(self, trials: Sequence[Trial]) -> Trial:
        """Of complete trials of the space the one that is to be taken, the earlier one of equals.

        *feasible-first* takes what its surrogate expects to have the largest reward, which has seen through noise what
        alike networks reached; others take the largest reward that was seen.
        """
        top1 = np.array([trial.scores.top1 for trial in trials])
        costs = np.array([trial.scores.costs() for trial in trials])
        if self._name == "feasible-first" and len(trials) > 1:
            rows = np.array([self._objective.encoding.encode(trial.architecture) for trial in trials])
            codes = canonical(self._objective.encoding, rows)
            rng = np.random.default_rng(derived_seed(self._seed, len(trials)))
            top1, _ = Surrogate.fit(self._objective.encoding, codes, top1, costs, rng).predict(codes, costs)
        return trials[int(self._objective.reward(top1, costs).argmax())]

    def _outcome(
        self, trial: Trial, reward: float | None, refusal: Refusal | None
    ) -> tuple[TrialState, list[float] | None]:
        if trial.state is State.COMPLETE and reward is not None:
            if self._objectives:
                return TrialState.COMPLETE, [float(getattr(trial.scores, name)) for name in self._objectives]
            return TrialState.COMPLETE, [reward]
        # A duplicate says nothing about its network, and failures say nothing that samplers could use.
        is_over = refusal is not None and refusal.cause is not Cause.DUPLICATE
        pruned = trial.state is State.PRUNED and is_over and not self._objectives
        return TrialState.PRUNED if pruned else TrialState.FAIL, None

    def _add(self, trial: Trial) -> None:
        """Put a trial of the record into the study, as one that runs."""
        params = trial.params or self._space.params_of(trial.architecture)
        if params is None:
            return
        costs = trial.scores.costs()[None]
        frozen = create_trial(
            state=TrialState.RUNNING,
            params={name: params[name] for name in self._distributions},
            distributions=self._distributions,
            constraints={_CONSTRAINT: float(self._objective.violation(costs)[0])},
            system_attrs=dict(trial.sampler_attrs or {}),
        )
        self._study.add_trial(frozen)
        self._known[trial.number] = len(self._study.get_trials(deepcopy=False)) - 1

    def restore(self, trials: Iterable[Trial], rewards: Mapping[int, float], unknown: Iterable[int] = ()) -> None:
        """Rebuild the study from the record; of those in `unknown`, and of running ones, the outcome comes later."""
        hidden = set(unknown)
        for trial in trials:
            if trial.state is State.RUNNING or trial.number in hidden:
                self.running(trial)
            else:
                self.tell(trial, rewards.get(trial.number), refusal=recorded_refusal(trial, self._objective))
        self._choose_parents_again()

    def _choose_parents_again(self) -> None:
        """Genetic samplers choose the parents of a generation once, with its first child, and then keep them."""
        sampler, known = self._study.sampler, self._study.get_trials(deepcopy=False)
        generations = [
            value for trial in known for name, value in trial.system_attrs.items() if name.endswith(":generation")
        ]
        if isinstance(sampler, NSGAIISampler) and generations:
            sampler.get_parent_population(self._study, max(generations))


def _lessons(encoding: Encoding, trials: Sequence[Trial]) -> Lessons:
    rows = np.array([encoding.encode(trial.architecture) for trial in trials])
    return Lessons(codes=canonical(encoding, rows), top1=np.array([trial.scores.top1 or 0.0 for trial in trials]))


def _parameters(call: Callable[..., object]) -> Collection[str]:
    try:
        return signature(call).parameters
    except (TypeError, ValueError):  # of something built in
        return ()


def recorded_refusal(trial: Trial, objective: Objective) -> Refusal | None:
    """Why a trial of the record was refused, which follows from what a search is after; None: it was not."""
    if trial.state is not State.PRUNED:
        return None
    refusal = objective.limits.refusal(trial.scores) if trial.params is None else objective.refusal(trial.scores)
    return refusal or Refusal(cause=Cause.DUPLICATE, reason=trial.error or "")


def _is_plain(value: object) -> bool:
    """Whether a record can keep it as JSON; samplers may note anything."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
