"""Our own Optuna samplers: feasibility first, surrogate second; and regularised evolution."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Self

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from search.objective.objective import Objective
from search.samplers.feasible_first import Lessons, propose
from search.samplers.prior import Prior
from space.encoding import Codes, Encoding
from space.variation.moves import canonical, mutate


class _CodeSampler(BaseSampler):
    """What both have in common: trials as rows of codes, and a generator that is set anew for every proposal."""

    def __init__(self, encoding: Encoding, distributions: Mapping[str, BaseDistribution]) -> None:
        self.encoding = encoding
        self._distributions = dict(distributions)
        self._rows: dict[int, Codes] = {}
        self._rng = np.random.default_rng(0)

    def seeded(self, seed: int) -> Self:
        """The same sampler with its generator begun at a seed; it keeps the rows that it has worked out."""
        self._rng = np.random.default_rng(seed)
        return self

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002 - inherited
        """All parameters are proposed together."""
        return self._distributions

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - inherited
        """A parameter that is none of the space's is drawn at random."""
        seed = int(self._rng.integers(2**31))
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def _codes(self, trials: Sequence[FrozenTrial]) -> Codes:
        new = [trial for trial in trials if trial.number not in self._rows]
        if new:
            rows = np.array([self.encoding.encode_params(trial.params) for trial in new], dtype=np.int16)
            self._rows.update(zip((trial.number for trial in new), canonical(self.encoding, rows), strict=True))
        columns = len(self.encoding.names)
        return np.array([self._rows[trial.number] for trial in trials], dtype=np.int16).reshape(-1, columns)

    def _params(self, code: Codes) -> dict[str, Any]:
        params = self.encoding.decode_params(code)
        return {name: params[name] for name in self._distributions}


_OF_USE = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL)


class FeasibleFirst(_CodeSampler):
    """Proposes only what meets the limits, and of that what a surrogate of top-1 finds best (`feasible_first`).

    `prior` says which are promising before any is trained, and is then followed instead of the surrogate.

    `top1_of` reads a complete trial's top-1, since a study's value may be a reward. `objectives` are the columns of the
    costs that are minimised besides, for a Pareto front.
    """

    def __init__(
        self,
        objective: Objective,
        distributions: Mapping[str, BaseDistribution],
        *,
        top1_of: Callable[[FrozenTrial], float],
        objectives: tuple[int, ...] = (),
        lessons: Lessons | None = None,
        prior: Prior | None = None,
    ) -> None:
        super().__init__(objective.encoding, distributions)
        self._objective, self._top1_of, self._objectives = objective, top1_of, objectives
        self._lessons, self._prior = lessons, prior

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002 - inherited
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """See `search.samplers.feasible_first.propose`.

        Raises:
            Exhausted: every network within the limits was proposed.
        """
        if not search_space:
            return {}
        by_state: dict[TrialState, list[FrozenTrial]] = {state: [] for state in _OF_USE}
        for each in study.get_trials(deepcopy=False):
            # The trial that is asked for has no parameters yet.
            if each.state in by_state and each.params.keys() == search_space.keys():
                by_state[each.state].append(each)
        known = by_state[TrialState.COMPLETE]
        with _blas().limit(limits=1, user_api="blas"):
            code = propose(
                self._objective,
                known=self._codes(known),
                top1=np.array([self._top1_of(each) for each in known]),
                pending=self._codes(by_state[TrialState.RUNNING]),
                excluded=self._codes(by_state[TrialState.FAIL]),
                rng=self._rng,
                objectives=self._objectives,
                lessons=self._lessons,
                prior=None if self._prior is None else partial(self._scores, self._prior),
            )
        return self._params(code)

    def _scores(self, prior: Prior, codes: Codes) -> np.ndarray:
        return prior.scores(self.encoding.decode_all(codes))


@cache
def _blas() -> ThreadpoolController:
    """Beside workers that train on every core, two threads of linear algebra wait for each other longer than they work.

    One thread also makes sums the same on every machine of a kind, however many cores it has.
    """
    return ThreadpoolController()


class RegularizedEvolution(_CodeSampler):
    """Regularised evolution (Real et al. 2019): the best of a few of the youngest networks is mutated.

    Of the last `population` complete trials `sample` are drawn; the age is the trial's number.
    """

    def __init__(
        self,
        encoding: Encoding,
        distributions: Mapping[str, BaseDistribution],
        *,
        population: int = 32,
        sample: int = 8,
    ) -> None:
        super().__init__(encoding, distributions)
        self._population, self._sample = population, sample

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002 - inherited
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """A mutated network, or a random one while the population grows."""
        if not search_space:
            return {}
        youngest = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[-self._population :]
        if len(youngest) < self._population:
            return self._params(self.encoding.sample(1, self._rng)[0])
        drawn = self._rng.choice(len(youngest), size=self._sample, replace=False)
        parent = max((youngest[index] for index in sorted(drawn)), key=lambda each: each.values[0])
        return self._params(mutate(self.encoding, self._codes([parent]), self._rng)[0])
