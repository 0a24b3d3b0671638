"""What a search maximises, computed from scores alone, so that an old search can be ranked anew."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from search.plugins import Plugin, number, user_code
from search.trial import FIGURES, Scores
from space.errors import RunError

Kind = Literal["soft", "hard", "absolute"]
KINDS: tuple[Kind, ...] = ("soft", "hard", "absolute")


class Reward(ABC):
    """A reward; it never falls where top-1 rises and all else stays."""

    @abstractmethod
    def of_many(self, top1: np.ndarray, costs: np.ndarray, target_ms: float) -> np.ndarray:
        """The rewards of networks with these top-1 (0-1) and costs, shape (networks, figures) as in `FIGURES`."""

    def of(self, scores: Scores, target_ms: float) -> float | None:
        """The reward of stored scores, or None where nothing was trained."""
        if scores.top1 is None:
            return None
        return float(self.of_many(np.array([scores.top1]), scores.costs()[None], target_ms)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class MnasNet(Reward):
    """MnasNet reward (Tan et al. 2019, eq. 2): top1 * (latency / target) ** w.

    w is `alpha` at or below the target and `beta` above it. Soft: alpha = beta < 0. Hard: alpha = 0, beta = -1.
    """

    alpha: float
    beta: float

    def of_many(self, top1: np.ndarray, costs: np.ndarray, target_ms: float) -> np.ndarray:
        """See `Reward`."""
        share = costs[:, 0] / target_ms
        rewards: np.ndarray = top1 * share ** np.where(share <= 1, self.alpha, self.beta)
        return rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class Absolute(Reward):
    """TuNAS's absolute reward (Bender et al. 2020, eq. 1): top1 + beta * |latency / target - 1| with beta < 0."""

    beta: float

    def of_many(self, top1: np.ndarray, costs: np.ndarray, target_ms: float) -> np.ndarray:
        """See `Reward`."""
        rewards: np.ndarray = top1 + self.beta * np.abs(costs[:, 0] / target_ms - 1)
        return rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class Own(Reward):
    """A user's own: a function of `Scores` and the target in ms."""

    name: str
    function: Callable[[Scores, float], float]

    def of_many(self, top1: np.ndarray, costs: np.ndarray, target_ms: float) -> np.ndarray:
        """See `Reward`.

        Raises:
            RunError: the function fails or returns no finite number.
        """
        return np.array(
            [self._of(Scores.from_costs(one, row), target_ms) for one, row in zip(top1, costs, strict=True)]
        )

    def _of(self, scores: Scores, target_ms: float) -> float:
        what, expected = f"reward {self.name}", "it must give a finite number; fix it, then resume"
        with user_code(what, "fix it, then resume"):
            said = self.function(scores, target_ms)
        reward = number(said, what, expected)
        if not np.isfinite(reward):
            raise RunError(f"{what} gave {reward} for {scores}; {expected}")
        return reward


HARD = MnasNet(alpha=0.0, beta=-1.0)


def soft(exponent: float = -0.07) -> MnasNet:
    """The soft reward; -0.07 for MnasNet and MobileNetV3-Large, -0.15 for MobileNetV3-Small."""
    return MnasNet(alpha=exponent, beta=exponent)


def make_reward(kind: str, exponent: float, folder: str | None = None) -> Reward:
    """The reward of a kind, or of a user's `package.module:callable` beside `folder`; `exponent` is w or beta.

    Raises:
        InvalidConfig: the callable cannot be imported.
    """
    if kind == "hard":
        return HARD
    if kind == "soft":
        return soft(exponent)
    if kind == "absolute":
        return Absolute(beta=exponent)
    return Own(name=kind, function=Plugin(name=kind, folder=folder).load())


assert FIGURES[0] == "latency_ms", "rewards read the latency from the first figure"
