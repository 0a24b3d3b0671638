"""Which parameters of the search space mattered among the networks that were trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# With fewer networks, even a parameter that decides everything hardly stands out from chance.
FEWEST = 12
SHUFFLES = 1000

Value = float | int | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What one parameter explains by itself: a share of the variance, at or below zero where it explains nothing."""

    parameter: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """The parameters that varied, the most important first.

    `by_chance` is what the most important one of as many parameters reaches in only 5 % of cases where none of them
    matters: shares below it say nothing.
    """

    networks: int
    by_chance: float
    ranked: tuple[Importance, ...]

    @property
    def clear(self) -> tuple[Importance, ...]:
        """Those that stand out from chance."""
        return tuple(found for found in self.ranked if found.share > self.by_chance)


def importances(
    params: Sequence[Mapping[str, Value]], outcome: Sequence[float], *, seed: int = 0
) -> Importances | None:
    """How much of the variance of an outcome, such as top-1, each parameter explains by itself.

    The share is epsilon squared of a one-way analysis of variance (Kelley 1935): the variance between the parameter's
    choices, less what as many choices would explain by chance, over the whole variance. Parameters that a sampler
    changed together share the credit, and what only a combination does belongs to nobody. `by_chance` comes from
    shuffled outcomes (Westfall and Young 1993).

    Returns None where there are too few networks to tell, or all outcomes are equal.
    """
    values = np.asarray(outcome, dtype=np.float64)
    names = sorted(set.intersection(*(set(each) for each in params))) if params else []
    columns = {name: [each[name] for each in params] for name in names}
    varied = {name: column for name, column in columns.items() if 1 < len(set(column)) < len(column)}
    if len(values) < FEWEST or not varied or np.ptp(values) == 0:
        return None
    rng = np.random.default_rng(seed)
    centred = values - values.mean()
    shuffled = np.column_stack([centred, *(rng.permutation(centred) for _ in range(SHUFFLES))])
    shares = np.stack([_shares(column, shuffled) for column in varied.values()])
    found = [Importance(parameter=name, share=float(share)) for name, share in zip(varied, shares[:, 0], strict=True)]
    return Importances(
        networks=len(values),
        by_chance=float(np.quantile(shares[:, 1:].max(axis=0), 0.95)),
        ranked=tuple(sorted(found, key=lambda one: (-one.share, one.parameter))),
    )


def _shares(column: Sequence[Value], centred: np.ndarray) -> np.ndarray:
    """Epsilon squared of one parameter for each column of outcomes of mean zero, shape (outcomes,)."""
    # By type as well: True is no 1.
    keys = [f"{type(value).__name__} {value}" for value in column]
    _, choice, counts = np.unique(keys, return_inverse=True, return_counts=True)
    sums = np.eye(len(counts))[choice].T @ centred
    whole = (centred[:, 0] ** 2).sum()  # shuffling changes nothing in it
    between = (sums**2 / counts[:, None]).sum(axis=0)
    within = (whole - between) / (len(column) - len(counts))
    shares: np.ndarray = (between - (len(counts) - 1) * within) / whole
    return shares
