"""What a unit consists of, as data: the one description that costs, torch modules and ONNX graphs are built from."""

from dataclasses import dataclass
from typing import assert_never

from space.arch import Activation
from space.keys import BlockKey, HeadKey, InvertedResidualKey, StemKey, out_shape


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution with "same" padding, BatchNorm and an activation (None: linear)."""

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    activation: Activation | None
    resolution: int
    """Side of the output in pixels."""


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """Global pooling, two 1x1 convolutions with bias (ReLU, hard sigmoid), product with the input (MobileNetV3)."""

    name: str
    channels: int
    squeeze_channels: int
    resolution: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Global average pooling to 1x1."""

    name: str
    channels: int
    resolution: int


@dataclass(frozen=True, slots=True)
class Linear:
    """Fully connected layer with bias, on flattened 1x1 maps."""

    name: str
    in_channels: int
    out_channels: int
    activation: Activation | None


Layer = Conv | SqueezeExcite | Pool | Linear


def layers_of(key: BlockKey) -> tuple[Layer, ...]:
    """The layers of one unit in order; the residual sum is a property of the key."""
    match key:
        case StemKey():
            side = out_shape(key)[1]
            return (Conv("conv", key.in_channels, key.out_channels, 3, key.stride, 1, key.activation, side),)
        case InvertedResidualKey():
            return _inverted_residual(key)
        case HeadKey():
            act = key.activation
            return (
                Conv("conv", key.in_channels, key.conv_channels, 1, 1, 1, act, key.resolution),
                Pool("pool", key.conv_channels, key.resolution),
                Linear("hidden", key.conv_channels, key.hidden_channels, act),
                Linear("classifier", key.hidden_channels, key.num_classes, None),
            )
    assert_never(key)


def _inverted_residual(key: InvertedResidualKey) -> tuple[Layer, ...]:
    block = key.block
    width = key.depthwise_channels
    side = out_shape(key)[1]
    layers: list[Layer] = []
    if block.expanded_channels is not None:
        layers.append(Conv("expand", key.in_channels, width, 1, 1, 1, block.activation, key.resolution))
    layers.append(Conv("depthwise", width, width, block.kernel_size, key.stride, width, block.activation, side))
    if block.use_se:
        layers.append(SqueezeExcite("se", width, key.squeeze_channels, side))
    layers.append(Conv("project", width, key.out_channels, 1, 1, 1, None, side))
    return tuple(layers)
