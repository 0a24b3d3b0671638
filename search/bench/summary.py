"""What the runs of several samplers say beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.bench.course import SamplerRun

_RESAMPLED = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over seeds with its 95 % interval, by resampling the seeds (Efron 1979)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> "Mean":
        """Of one value per seed."""
        drawn = np.random.default_rng(0).integers(0, len(values), (_RESAMPLED, len(values)))
        low, high = np.quantile(values[drawn].mean(axis=1), (0.025, 0.975)).tolist()
        return cls(mean=float(values.mean()), low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One sampler over all seeds.

    Regrets are in percentage points below the best network, or the best that was found: at the asked-for `evaluations`,
    `anytime` the mean of all of them, `own` by the sampler's own choice in the end, `to_first` less that of the first
    sampler with the same seed, at the end (None: it is the first). `found` is the share of seeds that found a network
    as good as the best, `networks` how many were trained.
    """

    sampler: str
    seeds: int
    regrets: dict[int, Mean]
    worst: float
    anytime: Mean
    own: Mean
    to_first: Mean | None
    found: float
    networks: float
    propose_ms: float


def summarise(runs: Sequence[SamplerRun], best: float | None, at: Sequence[int]) -> list[Summary]:
    """A line per sampler, in the order of their first courses; all have the same seeds, in the same order."""
    top = max(run.chosen[-1] for run in runs) if best is None else best
    courses = {
        sampler: 100 * (top - np.array([run.chosen for run in runs if run.sampler == sampler]))
        for sampler in dict.fromkeys(run.sampler for run in runs)
    }
    first = next(iter(courses.values()))
    summaries = []
    for sampler, gaps in courses.items():
        own = [run for run in runs if run.sampler == sampler]
        summaries.append(
            Summary(
                sampler=sampler,
                seeds=len(own),
                regrets={count: Mean.of(gaps[:, count - 1]) for count in at},
                worst=float(gaps[:, at[-1] - 1].max()),
                anytime=Mean.of(gaps.mean(axis=1)),
                own=Mean.of(100 * (top - np.array([run.own_choice for run in own]))),
                to_first=None if gaps is first else Mean.of((gaps - first)[:, at[-1] - 1]),
                found=float(np.mean(gaps[:, -1] <= 1e-10)),
                networks=float(np.mean([run.networks for run in own])),
                propose_ms=float(np.median([run.propose_ms for run in own])),
            )
        )
    return summaries


def floor_regret(floors: Sequence[float], best: float) -> float:
    """What is left in percentage points when every network within the limits is trained, the mean over seeds."""
    return 100 * (best - float(np.mean(floors)))
