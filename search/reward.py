"""What a search maximises, computed from scores alone, so that an old search can be ranked anew."""

from dataclasses import dataclass
from typing import Literal

from search.trial import Scores

Kind = Literal["soft", "hard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """MnasNet reward (Tan et al. 2019, eq. 2): top1 * (latency / target) ** w.

    w is `alpha` at or below the target and `beta` above it. Soft: alpha = beta < 0. Hard: alpha = 0, beta = -1.
    """

    alpha: float
    beta: float

    def __call__(self, top1: float, latency_ms: float, target_ms: float) -> float:
        """The reward of one network; latency and target in ms."""
        exponent = self.alpha if latency_ms <= target_ms else self.beta
        return float(top1 * (latency_ms / target_ms) ** exponent)

    def of(self, scores: Scores, target_ms: float) -> float | None:
        """The reward of stored scores, or None where nothing was trained."""
        return None if scores.top1 is None else self(scores.top1, scores.latency_ms, target_ms)


HARD = Reward(alpha=0.0, beta=-1.0)


def soft(exponent: float = -0.07) -> Reward:
    """The soft reward; -0.07 for MnasNet and MobileNetV3-Large, -0.15 for MobileNetV3-Small."""
    return Reward(alpha=exponent, beta=exponent)
