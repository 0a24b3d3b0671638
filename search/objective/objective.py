"""What is known of networks before they are trained: exact costs, whether they fit, the reward for a given top-1."""

from dataclasses import dataclass, field

import numpy as np

from search.objective.latency import Latency, OfCodes
from search.objective.limits import Limits
from search.objective.reward import Reward
from space.encoding import Codes, Encoding


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What one search is after; `target_ms` is what the reward compares latencies with."""

    encoding: Encoding
    latency: Latency
    limits: Limits
    reward_of: Reward
    target_ms: float
    _latencies: OfCodes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_latencies", self.latency.of_codes(self.encoding))

    def costs(self, codes: Codes) -> np.ndarray:
        """The figures of `search.trial.FIGURES` of valid rows, shape (networks, figures), float64."""
        cost = self.encoding.cost(codes)
        return np.stack([self._latencies(codes), cost.madds, cost.params, cost.peak_bytes], axis=1, dtype=np.float64)

    def violation(self, costs: np.ndarray) -> np.ndarray:
        """How far costs lie over the limits, relative and summed, shape (networks,); 0 where all are met."""
        return self.limits.excess(costs)

    def reward(self, top1: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """What the search maximises, shape (networks,), if the networks had these top-1 (0-1)."""
        return self.reward_of.of_many(top1, costs, self.target_ms)
