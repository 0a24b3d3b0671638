"""How well predicted latencies agree with measured ones, in the figures that the field publishes."""

from dataclasses import dataclass

import numpy as np


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means = last - (counts + 1) / 2
    ranks: np.ndarray = means[inverse]
    return ranks


def kendall_tau(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's τ-b of two arrays of shape (n,): 1 if all pairs are ordered alike, nan if constant.

    Pairs are compared one by one: n² steps, of which a thousand networks take some ms.
    """
    first = np.sign(one[:, None] - one[None, :])
    second = np.sign(other[:, None] - other[None, :])
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size else float("nan")


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of shape (n,); nan where one of them is constant."""
    first, second = _ranks(one), _ranks(other)
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Predicted against measured over some networks; all shares are 0-1."""

    networks: int
    mape: float
    """Mean absolute relative error."""
    bias: float
    """Mean relative error: above zero where predictions are too high."""
    within_5: float
    """Share of networks whose prediction is within ±5 % of what was measured."""
    within_10: float
    kendall_tau: float
    spearman: float


def agreement(predicted: np.ndarray, measured: np.ndarray) -> Agreement:
    """The agreement of predictions with measurements, both of shape (networks,), in one unit."""
    error = predicted / measured - 1
    return Agreement(
        networks=len(measured),
        mape=float(np.abs(error).mean()),
        bias=float(error.mean()),
        within_5=float((np.abs(error) <= 0.05).mean()),
        within_10=float((np.abs(error) <= 0.10).mean()),
        kendall_tau=kendall_tau(predicted, measured),
        spearman=spearman(predicted, measured),
    )
