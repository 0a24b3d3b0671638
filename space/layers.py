"""What a unit consists of, as data: the one description that costs, torch modules and ONNX graphs are built from."""

from dataclasses import dataclass
from typing import assert_never

from space.arch import Activation, Gate
from space.keys import BlockKey, HeadKey, StageBlockKey, StemKey, halved


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
    in_resolution: int

    @property
    def resolution(self) -> int:
        """Side of the output in pixels."""
        return halved(self.in_resolution, self.stride)


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """Global pooling, two 1x1 convolutions with bias (ReLU, gate), product with the input."""

    name: str
    channels: int
    squeeze_channels: int
    gate: Gate
    resolution: int


@dataclass(frozen=True, slots=True)
class Pool:
    """Global average pooling to 1x1."""

    name: str
    channels: int
    resolution: int


@dataclass(frozen=True, slots=True)
class Linear:
    """Fully connected layer on flattened 1x1 maps."""

    name: str
    in_channels: int
    out_channels: int
    activation: Activation | None
    bias: bool = True


Layer = Conv | SqueezeExcite | Pool | Linear


def layers_of(key: BlockKey) -> tuple[Layer, ...]:
    """The layers of one unit in order; the residual sum is a property of the key."""
    match key:
        case StemKey():
            return (Conv("conv", key.in_channels, key.out_channels, 3, key.stride, 1, key.activation, key.resolution),)
        case StageBlockKey():
            return _stage_block(key)
        case HeadKey():
            return _head(key)
    assert_never(key)


def _stage_block(key: StageBlockKey) -> tuple[Layer, ...]:
    block = key.block
    act = block.activation
    width = key.depthwise_channels
    side = halved(key.resolution, key.stride)
    if block.kind == "conv":
        return (Conv("conv", key.in_channels, key.out_channels, block.kernel_size, key.stride, 1, act, key.resolution),)
    layers: list[Layer] = []
    if block.expanded_channels is not None:
        layers.append(Conv("expand", key.in_channels, width, 1, 1, 1, act, key.resolution))
    layers.append(Conv("depthwise", width, width, block.kernel_size, key.stride, width, act, key.resolution))
    if block.use_se:
        layers.append(SqueezeExcite("se", width, key.squeeze_channels, block.gate, side))
    projected = act if block.kind == "depthwise_separable" else None
    layers.append(Conv("project", width, key.out_channels, 1, 1, 1, projected, side))
    return tuple(layers)


def _head(key: HeadKey) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    width = key.in_channels
    if key.conv_channels is not None:
        layers.append(Conv("conv", width, key.conv_channels, 1, 1, 1, key.activation, key.resolution))
        width = key.conv_channels
    layers.append(Pool("pool", width, key.resolution))
    if key.hidden_channels is not None:
        layers.append(Linear("hidden", width, key.hidden_channels, key.activation, key.hidden_bias))
        width = key.hidden_channels
    layers.append(Linear("classifier", width, key.num_classes, None))
    return tuple(layers)
