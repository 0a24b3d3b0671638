"""What a dear latency is likely to say of networks that it was not asked about: the sum of what their layers take.

The better a user's own function can be guessed, the fewer networks it is asked about; what it says is never replaced.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from space.cost import layer_cost
from space.encoding import Codes, Encoding, Prices
from space.keys import BlockKey, StageBlockKey
from space.layers import Conv, Layer, Pool, SqueezeExcite, layers_of

_KINDS = ("dense", "pointwise", "depthwise 3", "depthwise 5", "depthwise 7", "gate", "pool", "linear")
_FEATURES = 3 * len(_KINDS) + 2
_RIDGE = 1e-3

Guess = Callable[[Codes], np.ndarray]
"""Of valid rows, shape (networks,), in ms."""


# Networks whose latencies say what others' may be, where it is dear to ask.
_DRAWN = 256


@lru_cache(maxsize=4)
def drawn(encoding: Encoding) -> Codes:
    """Members whose latencies are asked for first, always the same."""
    return encoding.sample(_DRAWN, np.random.default_rng(0))


@lru_cache(maxsize=4)
def layer_prices(encoding: Encoding) -> Prices:
    """Of each network how many layers of a kind there are, their multiply-adds and the values that they touch."""
    return Prices(encoding, _features)


def guess_from(prices: Prices, codes: Codes, latencies: np.ndarray) -> Guess:
    """Fitted on networks whose latencies, ms, are known, shape (networks,), by ridge regression of relative errors."""
    features = prices.of(codes)
    largest = np.abs(features).max(axis=0)
    scale = np.where(largest > 0, largest, 1.0)

    def rows(some: Codes) -> np.ndarray:
        found: np.ndarray = prices.of(some) / scale
        return np.hstack([found, np.ones((len(found), 1))])

    usual = float(np.exp(np.log(latencies).mean()))
    relative = rows(codes) * (usual / latencies)[:, None]
    weights = usual * np.linalg.solve(relative.T @ relative + _RIDGE * np.eye(relative.shape[1]), relative.sum(axis=0))
    least = float(latencies.min()) / 4

    def guess(some: Codes) -> np.ndarray:
        found: np.ndarray = np.maximum(rows(some) @ weights, least)
        return found

    return guess


@lru_cache(maxsize=2**16)
def _features(key: BlockKey) -> tuple[float, ...]:
    found = np.zeros(_FEATURES)
    for layer in layers_of(key):
        cost, at = layer_cost(layer), 3 * _KINDS.index(_kind(layer))
        found[at : at + 3] += (1.0, cost.madds, cost.peak_bytes)
        if isinstance(layer, Conv) and layer.activation == "hswish":
            found[-2] += layer.out_channels * layer.resolution**2
    if isinstance(key, StageBlockKey) and key.has_residual:
        found[-1] = key.in_channels * key.resolution**2
    return tuple(found.tolist())


def _kind(layer: Layer) -> str:
    match layer:
        case Conv() if layer.groups > 1:
            return f"depthwise {layer.kernel_size}"
        case Conv():
            return "pointwise" if layer.kernel_size == 1 else "dense"
        case SqueezeExcite():
            return "gate"
        case Pool():
            return "pool"
    return "linear"
