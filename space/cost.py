"""Exact costs of an architecture, without torch.

Multiply-adds count convolutions and fully connected layers (those of squeeze-and-excite included) for one image, as
the MobileNet papers do. Parameters count BatchNorm's scale and shift; some published tables leave those out.

Peak memory is that of the activations of one image in float32: the most that is alive at once when the layers run
one after the other. While a layer runs its input and its output are alive, and so is the input of the block where
a residual connection needs it later; activations, gates and sums work in place (Sandler et al. 2018, section 5.1,
without splitting a block's expansion).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from space.arch import Architecture
from space.keys import BlockKey, StageBlockKey, keys_of
from space.layers import Conv, Layer, Linear, Pool, SqueezeExcite, layers_of

BYTES_PER_VALUE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Multiply-adds of one image, trainable parameters, those of BatchNorm among them, and peak memory in bytes."""

    madds: int
    params: int
    batch_norm_params: int
    peak_bytes: int

    @property
    def params_without_batch_norm(self) -> int:
        """Weights and biases of convolutions and fully connected layers."""
        return self.params - self.batch_norm_params


def layer_cost(layer: Layer) -> Cost:
    """The cost of one layer."""
    peak = BYTES_PER_VALUE * _values_alive(layer)
    match layer:
        case Conv():
            weights = layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels
            norm = 2 * layer.out_channels
            madds = weights * layer.resolution**2
            return Cost(madds=madds, params=weights + norm, batch_norm_params=norm, peak_bytes=peak)
        case SqueezeExcite():
            weights = 2 * layer.channels * layer.squeeze_channels
            biases = layer.channels + layer.squeeze_channels
            return Cost(madds=weights, params=weights + biases, batch_norm_params=0, peak_bytes=peak)
        case Linear():
            weights = layer.in_channels * layer.out_channels
            biases = layer.out_channels if layer.bias else 0
            return Cost(madds=weights, params=weights + biases, batch_norm_params=0, peak_bytes=peak)
        case Pool():
            return Cost(madds=0, params=0, batch_norm_params=0, peak_bytes=peak)
    assert_never(layer)


def _values_alive(layer: Layer) -> int:
    """Input and output of a layer, in values; what it changes in place counts once."""
    match layer:
        case Conv():
            return layer.in_channels * layer.in_resolution**2 + layer.out_channels * layer.resolution**2
        case SqueezeExcite():
            return layer.channels * layer.resolution**2 + layer.channels + layer.squeeze_channels
        case Linear():
            return layer.in_channels + layer.out_channels
        case Pool():
            return layer.channels * layer.resolution**2 + layer.channels
    assert_never(layer)


def _total(costs: Iterable[Cost]) -> Cost:
    rows = tuple(costs)
    return Cost(
        madds=sum(row.madds for row in rows),
        params=sum(row.params for row in rows),
        batch_norm_params=sum(row.batch_norm_params for row in rows),
        peak_bytes=max(row.peak_bytes for row in rows),
    )


@lru_cache(maxsize=2**16)  # a search asks for the same blocks again and again
def unit_cost(key: BlockKey) -> Cost:
    """The cost of one stem, block or head."""
    costs = [layer_cost(layer) for layer in layers_of(key)]
    total = _total(costs)
    if isinstance(key, StageBlockKey) and key.has_residual and len(costs) > 1:
        # The first layer's input is the block's; all later layers run beside it.
        kept = BYTES_PER_VALUE * key.in_channels * key.resolution**2
        peak = max(costs[0].peak_bytes, *(cost.peak_bytes + kept for cost in costs[1:]))
        return Cost(madds=total.madds, params=total.params, batch_norm_params=total.batch_norm_params, peak_bytes=peak)
    return total


def cost_of(arch: Architecture) -> Cost:
    """The cost of a whole network."""
    return _total(map(unit_cost, keys_of(arch)))
