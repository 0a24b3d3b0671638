"""Multiply-adds in place of a latency: exact, and known for every network without a device."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from search.objective.latency import OfCodes
from search.objective.limits import Limits
from search.objective.objective import Objective
from search.objective.reward import HARD, Reward
from space.arch import Architecture
from space.cost import cost_of
from space.encoding import Codes, Encoding
from space.keys import BlockKey


@dataclass(frozen=True)
class Madds:
    """Multiply-adds in millions; counts how often it is asked for each row."""

    asked: Counter[bytes] = field(default_factory=Counter)
    is_dear: bool = False

    def estimate(self, arch: Architecture) -> float:
        """Of one network."""
        return cost_of(arch).madds / 1e6

    def missing(self, keys: object) -> tuple[BlockKey, ...]:  # noqa: ARG002 - it knows every block
        """Nothing."""
        return ()

    def of_codes(self, encoding: Encoding) -> OfCodes:
        """Of many."""

        def millions(codes: Codes) -> np.ndarray:
            assert encoding.valid(codes).all()
            self.asked.update(map(bytes, codes))
            found: np.ndarray = encoding.cost(codes).madds / 1e6
            return found

        return millions


def objective_within(
    encoding: Encoding, limit: float, *, reward: Reward = HARD, madds: Madds | None = None
) -> Objective:
    """The objective of a search that wants at most so many million multiply-adds."""
    return Objective(
        encoding=encoding,
        latency=madds or Madds(),
        limits=Limits(latency_ms=limit),
        reward_of=reward,
        target_ms=limit,
    )
