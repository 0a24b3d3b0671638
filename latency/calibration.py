"""From the blocks of a network to its latency: a linear model, fitted on networks that were measured whole.

Which terms it has, and what they gain, is in docs/decisions/0002-latency-calibration.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from space.cost import unit_cost
from space.errors import InvalidTable
from space.keys import BlockKey

FOLDS = 5
FEWEST_NETWORKS = 2 * FOLDS
# A mean error above this, on networks that the fit never saw, means that the device was disturbed: measure again.
POOR = 0.05
# Above this a table serves its own search, with a warning, and no other.
USELESS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A linear model of a network's latency: in ms `constant_ms`, and for each block what follows.

        warm * (its warm estimate) + cold * (its cold estimate) + per_block_ms
        + per_input_mb_ms * (MB of its input) + per_weight_mb_ms * (MB of its weights)

    A block measured alone pays for a call of its own, which a network pays once: `per_block_ms` is about minus that.
    Alone, it finds its input and weights in nearer caches than inside a network. `error` is the mean relative error
    over `networks` networks, each predicted by a fit that had not seen it (cross-validated). `beside` is how many times
    as long known blocks took among these networks as among all blocks: what later drift is reckoned from.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}
    warm: float = 0.0
    cold: float = 0.0
    per_block_ms: float = 0.0
    per_input_mb_ms: float = 0.0
    per_weight_mb_ms: float = 0.0
    constant_ms: float = 0.0
    networks: int
    error: float
    beside: float = 1.0

    def block_ms(self, key: BlockKey, warm_ms: float, cold_ms: float) -> float:
        """What a block adds to a network's latency, in ms."""
        coefficients = (getattr(self, name) for name in BLOCK_TERMS)
        return float(sum(one * other for one, other in zip(coefficients, terms(key, warm_ms, cold_ms), strict=True)))


BLOCK_TERMS = ("warm", "cold", "per_block_ms", "per_input_mb_ms", "per_weight_mb_ms")
NAMES = (*BLOCK_TERMS, "constant_ms")

# From the richest to the plainest: on few or disturbed networks, the plainer ones predict better.
MODELS: tuple[tuple[str, ...], ...] = (
    NAMES,
    ("warm", "per_block_ms", "constant_ms"),
    ("warm",),
)


def terms(key: BlockKey, warm_ms: float, cold_ms: float) -> tuple[float, float, float, float, float]:
    """What the coefficients of `BLOCK_TERMS` multiply."""
    input_mb = 4e-6 * key.in_channels * key.resolution**2
    return warm_ms, cold_ms, 1.0, input_mb, 4e-6 * unit_cost(key).params


def fit_linear(features: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The coefficients, shape (terms,), that make the relative error least in squares."""
    scaled = features / measured[:, None]
    # Terms of very different size: columns are brought to one scale first.
    size = np.abs(scaled).mean(axis=0)
    size[size == 0] = 1.0
    coefficients: np.ndarray = np.linalg.lstsq(scaled / size, np.ones(len(measured)))[0] / size
    return coefficients


def left_out_error(features: np.ndarray, measured: np.ndarray) -> float:
    """The mean relative error on networks left out of the fit, cross-validated in `FOLDS` parts."""
    errors = []
    for fold in range(FOLDS):
        left_out = np.arange(len(measured)) % FOLDS == fold
        predicted = features[left_out] @ fit_linear(features[~left_out], measured[~left_out])
        errors.extend(np.abs(predicted / measured[left_out] - 1))
    return float(np.mean(errors))


def _candidates(features: np.ndarray, measured: np.ndarray) -> Iterator[Calibration]:
    for names in MODELS:
        chosen = features[:, [NAMES.index(name) for name in names]]
        coefficients = dict(zip(names, map(float, fit_linear(chosen, measured)), strict=True))
        yield Calibration(networks=len(measured), error=left_out_error(chosen, measured), **coefficients)


def calibrate(
    blocks: Mapping[BlockKey, tuple[float, float]],
    networks: Sequence[tuple[BlockKey, ...]],
    measured_ms: Sequence[float],
) -> Calibration:
    """Fit whole networks; `blocks` has warm and cold estimates in ms of all their blocks, and of all others.

    Of the models under which no block costs nothing or less, the one with the least cross-validated error.

    Raises:
        InvalidTable: fewer than ten networks were given.
    """
    if len(networks) < FEWEST_NETWORKS:
        raise InvalidTable(f"a calibration needs at least {FEWEST_NETWORKS} whole networks, got {len(networks)}")
    rows = [np.sum([terms(key, *blocks[key]) for key in keys], axis=0) for keys in networks]
    features = np.column_stack([np.array(rows), np.ones(len(rows))])
    sound = [
        each
        for each in _candidates(features, np.asarray(measured_ms, dtype=float))
        if min(each.block_ms(key, *blocks[key]) for key in blocks) > 0
    ]
    # The plainest always is: its only coefficient is positive.
    return min(sound, key=lambda each: each.error)
