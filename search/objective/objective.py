"""What is known of networks before they are trained: exact costs, whether they fit, the reward for a given top-1."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from search.objective.guess import drawn, guess_from, layer_prices
from search.objective.latency import Latency, OfCodes
from search.objective.limits import Cause, Limits, Refusal
from search.objective.reward import Reward
from search.trial import FIGURES, Scores
from space.encoding import Codes, Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What one search is after; `target_ms` is what the reward compares latencies with.

    Networks faster than `least_ms` are not proposed. `rungs` are the shares of a race's final training after
    which networks are judged, ascending, the last is 1 (0: by a supernet's weights); without a race there is but one
    training. Who proposes is told of the first.
    """

    encoding: Encoding
    latency: Latency
    limits: Limits
    reward_of: Reward
    target_ms: float
    least_ms: float = 0.0
    rungs: tuple[float, ...] = (1.0,)
    _latencies: OfCodes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_latencies", self.latency.of_codes(self.encoding))

    def costs(self, codes: Codes) -> np.ndarray:
        """The figures of `search.trial.FIGURES` of valid rows, shape (networks, figures), float64."""
        return self._costs_at(codes, self._latencies(codes))

    def guessed_costs(self, known: Codes) -> Callable[[Codes], np.ndarray]:
        """The same with guesses of latencies, from those of these networks and of some drawn ones, always the same."""
        codes = np.vstack([drawn(self.encoding), known])
        guess = guess_from(layer_prices(self.encoding), codes, self._latencies(codes))
        return lambda some: self._costs_at(some, guess(some))

    def _costs_at(self, codes: Codes, latencies: np.ndarray) -> np.ndarray:
        cost = self.encoding.cost(codes)
        return np.stack([latencies, cost.madds, cost.params, cost.peak_bytes], axis=1, dtype=np.float64)

    def violation(self, costs: np.ndarray) -> np.ndarray:
        """How far costs lie over the limits, or latencies below the least, relative and summed, shape (networks,).

        It is 0 where a network may be proposed.
        """
        excess = self.limits.excess(costs)
        if self.least_ms:
            excess = excess + np.maximum(1 - costs[:, FIGURES.index("latency_ms")] / self.least_ms, 0)
        return excess

    def refusal(self, scores: Scores) -> Refusal | None:
        """Why a network is not to be proposed, or None."""
        over = self.limits.refusal(scores)
        if over is None and scores.latency_ms < self.least_ms:
            reason = f"{scores.latency_ms:.3f} ms is below the least that is proposed, {self.least_ms:.3f} ms"
            return Refusal(cause=Cause.FAST, reason=reason)
        return over

    def reward(self, top1: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """What the search maximises, shape (networks,), if the networks had these top-1 (0-1)."""
        return self.reward_of.of_many(top1, costs, self.target_ms)
