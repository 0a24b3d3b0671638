"""Exact costs of an architecture, without torch.

Multiply-adds count convolutions and fully connected layers (those of squeeze-and-excite included) for one image, as
the MobileNet papers do; parameters include BatchNorm's scale and shift.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from space.arch import Architecture
from space.keys import BlockKey, keys_of
from space.layers import Conv, Layer, Linear, Pool, SqueezeExcite, layers_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Multiply-adds of one image, and trainable parameters."""

    madds: int
    params: int


def layer_cost(layer: Layer) -> Cost:
    """The cost of one layer."""
    match layer:
        case Conv():
            weights = layer.kernel_size**2 * layer.in_channels // layer.groups * layer.out_channels
            return Cost(madds=weights * layer.resolution**2, params=weights + 2 * layer.out_channels)
        case SqueezeExcite():
            weights = 2 * layer.channels * layer.squeeze_channels
            return Cost(madds=weights, params=weights + layer.channels + layer.squeeze_channels)
        case Linear():
            weights = layer.in_channels * layer.out_channels
            return Cost(madds=weights, params=weights + layer.out_channels)
        case Pool():
            return Cost(madds=0, params=0)
    assert_never(layer)


def _total(costs: Iterable[Cost]) -> Cost:
    rows = list(costs)
    return Cost(madds=sum(row.madds for row in rows), params=sum(row.params for row in rows))


def unit_cost(key: BlockKey) -> Cost:
    """The cost of one stem, block or head."""
    return _total(layer_cost(layer) for layer in layers_of(key))


def cost_of(arch: Architecture) -> Cost:
    """The cost of a whole network."""
    return _total(unit_cost(key) for key in keys_of(arch))
