"""Hard limits: what no network may exceed that a search trains."""

from dataclasses import dataclass, fields
from enum import Enum

import numpy as np

from search.trial import Scores


class Cause(Enum):
    """Why a network is not evaluated."""

    INFEASIBLE = "too slow"
    LIMIT = "over another limit than that of latency"
    FAST = "so fast that accuracy is given away"
    DUPLICATE = "tried already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one network is not evaluated, as a value and in words."""

    cause: Cause
    reason: str


_UNITS = {"latency_ms": "ms", "madds": "multiply-adds", "params": "parameters", "peak_bytes": "bytes of activations"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """At most so much of each figure; None: no limit. The fields are those of `search.trial.FIGURES`, in that order."""

    latency_ms: float | None = None
    madds: int | None = None
    params: int | None = None
    peak_bytes: int | None = None

    def refusal(self, scores: Scores) -> Refusal | None:
        """Why a network is not trained, or None where it meets all limits."""
        for field in fields(self):
            limit, value = getattr(self, field.name), getattr(scores, field.name)
            if limit is None or value is None or value <= limit:
                continue
            if field.name == "latency_ms":
                reason = f"{value:.3f} ms is over the limit of {limit:.3f} ms"
                return Refusal(cause=Cause.INFEASIBLE, reason=reason)
            reason = f"{value:,} {_UNITS[field.name]} are over the limit of {limit:,}"
            return Refusal(cause=Cause.LIMIT, reason=reason)
        return None

    def excess(self, costs: np.ndarray) -> np.ndarray:
        """How far networks are over, relative and summed over the limits; 0 where all are met, shape (networks,).

        `costs` has shape (networks, figures).
        """
        limits = [getattr(self, field.name) for field in fields(self)]
        bounds = np.array([np.inf if limit is None else float(limit) for limit in limits])
        over: np.ndarray = np.maximum(costs[:, : len(bounds)] / bounds - 1, 0).sum(axis=1)
        return over
