"""Raw latency samples of one block or network, and the statistics derived from them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from latency import probe
from latency.probe import QUANTILE

__all__ = ["QUANTILE", "Cache", "Clock", "Measurement"]

Clock = Literal["wall", "cpu"]
Cache = Literal["cold", "warm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Samples in ms, batch 1: per visit one cold sample (first run after other graphs) and some warm ones (repeats).

    Wall clock and the calling thread's CPU clock; the latter resists a busy neighbour, and means the whole latency
    only where one thread does all the work. Where a device has no fine thread clock, its samples are those of the wall
    clock. `disturbed` counts visits, from 0, during which the processor itself was slow.
    """

    cold_wall: tuple[float, ...]
    cold_cpu: tuple[float, ...]
    warm_wall: tuple[float, ...]
    warm_cpu: tuple[float, ...]
    disturbed: tuple[int, ...] = ()

    def joined(self, other: "Measurement") -> "Measurement":
        """The samples of both, these first."""
        visits = len(self.cold_wall)
        return Measurement(
            cold_wall=self.cold_wall + other.cold_wall,
            cold_cpu=self.cold_cpu + other.cold_cpu,
            warm_wall=self.warm_wall + other.warm_wall,
            warm_cpu=self.warm_cpu + other.warm_cpu,
            disturbed=self.disturbed + tuple(visits + visit for visit in other.disturbed),
        )

    def samples(self, cache: Cache, clock: Clock) -> tuple[float, ...]:
        """The raw samples of one kind, in order of time."""
        return {
            ("cold", "wall"): self.cold_wall,
            ("cold", "cpu"): self.cold_cpu,
            ("warm", "wall"): self.warm_wall,
            ("warm", "cpu"): self.warm_cpu,
        }[cache, clock]

    @property
    def visits(self) -> int:
        """How often it was visited among other graphs."""
        return len(self.cold_wall)

    def _kept(self, cache: Cache, clock: Clock) -> tuple[np.ndarray, int]:
        """The samples without those of disturbed visits, unless these are the most; and of how many visits they are."""
        samples = self.samples(cache, clock)
        if len(samples) % self.visits:
            return np.asarray(samples), 1  # not from a device: its samples come in equal groups
        kept = probe.undisturbed(samples, self.visits, self.disturbed)
        return kept, self.visits * len(kept) // len(samples)

    def estimate(self, cache: Cache, clock: Clock) -> float:
        """The 10 % quantile in ms."""
        return probe.low_quantile(self._kept(cache, clock)[0])

    def interval(self, cache: Cache, clock: Clock) -> tuple[float, float]:
        """A 95 % confidence interval of the estimate in ms; samples of one visit count as one."""
        return probe.interval(*self._kept(cache, clock))

    def spread(self, cache: Cache, clock: Clock) -> float:
        """How far the median lies above the estimate, relative to it; a disturbed measurement shows here."""
        estimate = self.estimate(cache, clock)
        return float(np.median(self.samples(cache, clock))) / estimate - 1
