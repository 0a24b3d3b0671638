"""Raw latency samples of one block or network, and the statistics derived from them."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Clock = Literal["wall", "cpu"]
Cache = Literal["cold", "warm"]

# Disturbances only ever add time, so a low quantile comes closest to the undisturbed device; medians were measured
# to be three to five times worse on a shared machine.
QUANTILE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Samples in ms, batch 1: per round one cold sample (first run after other graphs) and some warm ones (repeats).

    Wall clock and the calling thread's CPU clock; the latter resists a busy neighbour, and means the whole latency
    only where one thread does all the work.
    """

    cold_wall: tuple[float, ...]
    cold_cpu: tuple[float, ...]
    warm_wall: tuple[float, ...]
    warm_cpu: tuple[float, ...]

    def joined(self, other: "Measurement") -> "Measurement":
        """The samples of both, these first."""
        return Measurement(
            cold_wall=self.cold_wall + other.cold_wall,
            cold_cpu=self.cold_cpu + other.cold_cpu,
            warm_wall=self.warm_wall + other.warm_wall,
            warm_cpu=self.warm_cpu + other.warm_cpu,
        )

    def samples(self, cache: Cache, clock: Clock) -> tuple[float, ...]:
        """The raw samples of one kind, in order of time."""
        return {
            ("cold", "wall"): self.cold_wall,
            ("cold", "cpu"): self.cold_cpu,
            ("warm", "wall"): self.warm_wall,
            ("warm", "cpu"): self.warm_cpu,
        }[cache, clock]

    def estimate(self, cache: Cache, clock: Clock) -> float:
        """The 10 % quantile in ms."""
        return float(np.quantile(self.samples(cache, clock), QUANTILE))

    def interval(self, cache: Cache, clock: Clock) -> tuple[float, float]:
        """A 95 % confidence interval of the estimate in ms, from order statistics (normal approximation of ranks).

        It needs about 30 samples: simulated coverage is 96 % with 32 and more, 80 % with 16.
        """
        ordered = sorted(self.samples(cache, clock))
        count = len(ordered)
        margin = 1.96 * math.sqrt(count * QUANTILE * (1 - QUANTILE))
        low = max(0, math.floor(count * QUANTILE - margin))
        high = min(count - 1, math.ceil(count * QUANTILE + margin))
        return ordered[low], ordered[high]

    def spread(self, cache: Cache, clock: Clock) -> float:
        """How far the median lies above the estimate, relative to it; a disturbed measurement shows here."""
        estimate = self.estimate(cache, clock)
        return float(np.median(self.samples(cache, clock))) / estimate - 1
