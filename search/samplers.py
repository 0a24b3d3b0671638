"""Who proposes architectures at block level: Optuna's samplers behind one class. The only file that knows Optuna.

The study lives in memory and is rebuilt from the record on resume; the record never depends on it.
"""

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from search.trial import State, Trial
from space.choices import SearchSpace

SamplerName = Literal["tpe", "random"]
_CONSTRAINT = "latency"

optuna.logging.set_verbosity(optuna.logging.WARNING)


def derived_seed(seed: int, number: int) -> int:
    """A seed for one trial, a function of the search's seed and the trial's number."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{number}".encode()).digest()[:4])


def _make(name: SamplerName, seed: int) -> BaseSampler:
    return TPESampler(seed=seed) if name == "tpe" else RandomSampler(seed=seed)


class Proposer:
    """Asks Optuna for architectures of a space.

    What it proposes for a trial depends on the search's seed, the trial's number and the trials told so far, so a
    resumed search goes on as if it had never stopped. Not for use by several threads.
    """

    def __init__(self, space: SearchSpace, name: SamplerName, *, seed: int, latency_limit_ms: float) -> None:
        self._space, self._name, self._seed = space, name, seed
        self._limit_ms = latency_limit_ms
        self._distributions: dict[str, BaseDistribution] = {
            parameter: CategoricalDistribution(choices) for parameter, choices in space.parameters.items()
        }
        self._study = optuna.create_study(direction="maximize", sampler=_make(name, seed))
        self._asked: dict[int, optuna.Trial] = {}

    def ask(self, number: int) -> dict[str, Any]:
        """The flat parameters proposed for a trial; it counts as running until told."""
        self._study.sampler = _make(self._name, derived_seed(self._seed, number))
        trial = self._study.ask(fixed_distributions=self._distributions)
        self._asked[number] = trial
        return dict(trial.params)

    def tell(self, trial: Trial, reward: float | None) -> None:
        """Report a finished trial, proposed here or read from the record; one outside the space is passed over."""
        state = TrialState.PRUNED if trial.state is State.PRUNED else TrialState.FAIL
        if reward is not None:
            state = TrialState.COMPLETE
        slack = trial.scores.latency_ms / self._limit_ms - 1  # feasible at or below zero
        asked = self._asked.pop(trial.number, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if asked is not None:
                asked.set_constraint(_CONSTRAINT, slack)
                self._study.tell(asked, reward, state=state)
            elif (params := trial.params or self._space.params_of(trial.architecture)) is not None:
                self._study.add_trial(self._frozen(params, state, reward, slack))

    def _frozen(
        self, params: Mapping[str, Any], state: TrialState, reward: float | None, slack: float
    ) -> optuna.trial.FrozenTrial:
        return create_trial(
            state=state,
            value=reward,
            params=dict(params),
            distributions=self._distributions,
            constraints={_CONSTRAINT: slack},
        )

    def restore(self, trials: Iterable[Trial], rewards: Mapping[int, float]) -> None:
        """Rebuild the study from the record; trials that were running come back through `tell` once they end."""
        for trial in trials:
            if trial.state is not State.RUNNING:
                self.tell(trial, rewards.get(trial.number))
