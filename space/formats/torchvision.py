"""torchvision's MobileNetV3: the list of InvertedResidualConfig and the width of the hidden layer.

Its class fixes the rest: a stem of stride 2 with h-swish on three channels, a last convolution of six times the last
width, ReLU or h-swish per block, and squeeze-and-excite to make_divisible(expanded / 4). It rounds all widths to
multiples of 8 and has no expansion layer where expansion and input are equally wide. What breaks these rules is
refused.
"""

from typing import Any

from space.arch import DEFAULT_EPSILON, Activation, Architecture, Block, Head, Stem, make_divisible, squeeze_rule
from space.errors import NotExpressible
from space.formats.fields import Fields, Row, depths_of, staged
from space.keys import StageBlockKey, named_keys

_ACTIVATIONS: dict[Activation, str] = {"relu": "RE", "hswish": "HS"}
_STEM = Stem(out_channels=1, stride=2, activation="hswish")


def _refuse(what: str) -> NotExpressible:
    return NotExpressible(f"torchvision's MobileNetV3 cannot express this network: {what}")


def write(arch: Architecture) -> dict[str, Any]:
    """The arguments of torchvision.models.MobileNetV3 as JSON content.

    Raises:
        NotExpressible: its class would make another network of any such list.
    """
    _check_frame(arch)
    rows = []
    for name, key in named_keys(arch).items():
        if isinstance(key, StageBlockKey):
            _check_block(name, key)
            rows.append(
                {
                    "input_channels": key.in_channels,
                    "kernel": key.block.kernel_size,
                    "expanded_channels": key.depthwise_channels,
                    "out_channels": key.out_channels,
                    "use_se": key.block.use_se,
                    "activation": _ACTIVATIONS[key.block.activation],
                    "stride": key.stride,
                    "dilation": 1,
                    "width_mult": 1.0,
                }
            )
    return {
        "inverted_residual_setting": rows,
        "stages": depths_of(arch),
        "last_channel": arch.head.hidden_channels,
        "num_classes": arch.num_classes,
        "input_size": [arch.in_channels, arch.resolution, arch.resolution],
    }


def _check_frame(arch: Architecture) -> None:
    if arch.in_channels != 3:
        raise _refuse(f"its stem takes 3 channels, here they are {arch.in_channels}")
    if (arch.stem.stride, arch.stem.activation) != (_STEM.stride, _STEM.activation):
        raise _refuse(
            f"its stem has stride 2 and h-swish, here it has stride {arch.stem.stride} and {arch.stem.activation}"
        )
    last = arch.stages[-1].out_channels
    if arch.head.conv_channels != 6 * last:
        raise _refuse(
            f"its head's convolution has 6 x {last} channels, here it has {arch.head.conv_channels or 'none'}"
        )
    if not arch.head.hidden_bias:
        raise _refuse("its hidden layer has a bias, this one has none")
    if arch.batch_norm_epsilon != DEFAULT_EPSILON:
        raise _refuse(f"its BatchNorm has an epsilon of {DEFAULT_EPSILON}, here it is {arch.batch_norm_epsilon}")
    if arch.head.hidden_channels is None or arch.head.activation != "hswish":
        raise _refuse("its head has a hidden layer and h-swish")
    if make_divisible(arch.stem.out_channels) != arch.stem.out_channels:
        raise _refuse(f"it rounds widths to multiples of 8, the stem has {arch.stem.out_channels}")


def _check_block(name: str, key: StageBlockKey) -> None:
    block = key.block
    if block.kind != "inverted_residual":
        raise _refuse(f"{name} is no inverted residual but of kind {block.kind}")
    if block.activation not in _ACTIVATIONS:
        raise _refuse(f"its blocks have ReLU or h-swish, {name} has {block.activation}")
    if block.expanded_channels == key.in_channels:
        raise _refuse(
            f"it has no expansion layer where that does not widen, {name} expands {key.in_channels} to as many"
        )
    for what, width in (("expands to", key.depthwise_channels), ("puts out", key.out_channels)):
        if make_divisible(width) != width:
            raise _refuse(f"it rounds widths to multiples of 8, {name} {what} {width}")
    if block.use_se and block.gate != "hard_sigmoid":
        raise _refuse(f"its squeeze-and-excite has a hard sigmoid, that of {name} has a {block.gate}")
    if block.use_se and key.squeeze_channels != squeeze_rule(key.depthwise_channels):
        rule = squeeze_rule(key.depthwise_channels)
        raise _refuse(f"it would squeeze {name} to {rule} channels, here it is {key.squeeze_channels}")


def read(fields: Fields, resolution: int | None) -> Architecture:
    """The architecture of such a list.

    Raises:
        InvalidArchitecture: a field is missing or wrong, or the list asks for dilation.
    """
    in_channels, side = fields.input_size(resolution)
    rows: list[Row] = []
    stem = channels = None
    for entry in fields.objects("inverted_residual_setting"):
        entry.expect("dilation", 1)
        entry.expect("width_mult", 1.0)
        inputs, expanded = entry.integer("input_channels"), entry.integer("expanded_channels")
        stem = inputs if stem is None else stem
        if channels is not None and inputs != channels:
            raise entry.wrong("input_channels", f"is {inputs}; the block before it puts out {channels}")
        block = Block(
            kernel_size=entry.kernel("kernel"),
            expanded_channels=None if expanded == inputs else expanded,
            use_se=entry.flag("use_se"),
            activation=entry.choice("activation", {theirs: ours for ours, theirs in _ACTIVATIONS.items()}),
        )
        channels = entry.integer("out_channels")
        rows.append((block, channels, entry.stride("stride")))
    return Architecture(
        resolution=side,
        in_channels=in_channels,
        num_classes=fields.integer("num_classes", 1000),
        stem=Stem(out_channels=stem or 0, stride=2, activation="hswish"),
        stages=staged(fields, rows),
        head=Head(
            conv_channels=6 * (channels or 0), hidden_channels=fields.integer("last_channel"), activation="hswish"
        ),
    )
