"""Once-for-All's network configuration (Cai et al. 2020): the layers of its MobileNetV3, one by one.

Its hidden layer ("feature_mix_layer") usually has no bias, and BatchNorm an epsilon of 1e-5. Its subnet settings
(depth, kernel and expansion per block) are read as well, as members of the space `ofa-mbv3`.
"""

from typing import Any

from space.arch import Activation, Architecture, Block, Head, Stem, squeeze_rule
from space.choices import SearchSpace
from space.errors import InvalidArchitecture, InvalidSpace, NotExpressible
from space.formats.fields import DEFAULT_RESOLUTION, Fields, Row, depths_of, named, staged
from space.keys import StageBlockKey, named_keys
from space.preset import load_preset

# What its MobileNetV3 has where a configuration says nothing.
_EPSILON = 1e-5
_ACTIVATIONS: dict[Activation, str] = {"relu": "relu", "relu6": "relu6", "hswish": "h_swish"}


def _refuse(what: str) -> NotExpressible:
    return NotExpressible(f"Once-for-All's MobileNetV3 cannot express this network: {what}")


def _frame(in_channels: int, out_channels: int, *, use_bn: bool, act_func: str | None) -> dict[str, Any]:
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "use_bn": use_bn,
        "act_func": act_func,
        "dropout_rate": 0,
        "ops_order": "weight_bn_act",
    }


def _conv(
    in_channels: int, out_channels: int, kernel: int, stride: int, act: Activation, *, bn: bool, bias: bool = False
) -> dict[str, Any]:
    return {
        "name": "ConvLayer",
        "kernel_size": kernel,
        "stride": stride,
        "dilation": 1,
        "groups": 1,
        "bias": bias,
        "has_shuffle": False,
        "use_se": False,
        **_frame(in_channels, out_channels, use_bn=bn, act_func=_ACTIVATIONS[act]),
    }


def write(arch: Architecture) -> dict[str, Any]:
    """The configuration that its MobileNetV3.build_from_config takes, as JSON content.

    Raises:
        NotExpressible: it has no words for some part of the network.
    """
    head, last = arch.head, arch.stages[-1].out_channels
    if head.conv_channels is None or head.hidden_channels is None:
        raise _refuse("its head has a convolution and a hidden layer")
    blocks = []
    for name, key in named_keys(arch).items():
        if isinstance(key, StageBlockKey):
            _check_block(name, key)
            blocks.append({"name": "ResidualBlock", "conv": _block(key), "shortcut": _shortcut(key)})
    return {
        "name": "MobileNetV3",
        "bn": {"momentum": 0.1, "eps": arch.batch_norm_epsilon, "ws_eps": None},
        "first_conv": _conv(
            arch.in_channels, arch.stem.out_channels, 3, arch.stem.stride, arch.stem.activation, bn=True
        ),
        "blocks": blocks,
        "final_expand_layer": _conv(last, head.conv_channels, 1, 1, head.activation, bn=True),
        "feature_mix_layer": _conv(
            head.conv_channels, head.hidden_channels, 1, 1, head.activation, bn=False, bias=head.hidden_bias
        ),
        "classifier": {
            "name": "LinearLayer",
            "in_features": head.hidden_channels,
            "out_features": arch.num_classes,
            "bias": True,
            "use_bn": False,
            "act_func": None,
            "dropout_rate": 0,
            "ops_order": "weight_bn_act",
        },
        # Not read by Once-for-All, which leaves the resolution to its data loader and knows no stages here.
        "resolution": arch.resolution,
        "stages": depths_of(arch),
    }


def _check_block(name: str, key: StageBlockKey) -> None:
    block = key.block
    if block.kind != "inverted_residual":
        raise _refuse(f"{name} is no inverted residual but of kind {block.kind}")
    if block.use_se and block.gate != "hard_sigmoid":
        raise _refuse(f"its squeeze-and-excite has a hard sigmoid, that of {name} has a {block.gate}")
    rule = squeeze_rule(key.depthwise_channels)
    if block.use_se and key.squeeze_channels != rule:
        raise _refuse(f"it would squeeze {name} to {rule} channels, here it is {key.squeeze_channels}")


def _block(key: StageBlockKey) -> dict[str, Any]:
    block = key.block
    return {
        "name": "MBConvLayer",
        "in_channels": key.in_channels,
        "out_channels": key.out_channels,
        "kernel_size": block.kernel_size,
        "stride": key.stride,
        # A ratio of 1 stands for no expansion layer; of the others it takes the width that stands beside it.
        "expand_ratio": 1 if block.expanded_channels is None else None,
        "mid_channels": block.expanded_channels,
        "act_func": _ACTIVATIONS[block.activation],
        "use_se": block.use_se,
        "groups": None,
    }


def _shortcut(key: StageBlockKey) -> dict[str, Any] | None:
    if not key.has_residual:
        return None
    return {"name": "IdentityLayer", **_frame(key.in_channels, key.out_channels, use_bn=False, act_func=None)}


def _read_conv(fields: Fields, kernel: int, *, bn: bool) -> tuple[int, int, Activation]:
    """Input, output and activation of a plain convolution."""
    fields.expect("kernel_size", kernel)
    for name, only in (("dilation", 1), ("groups", 1), ("use_se", False), ("use_bn", bn), ("has_shuffle", False)):
        fields.expect(name, only)
    fields.expect("ops_order", "weight_bn_act")
    return fields.integer("in_channels"), fields.integer("out_channels"), fields.choice("act_func", named(_ACTIVATIONS))


def read(fields: Fields, resolution: int | None) -> Architecture:
    """The architecture of such a configuration.

    Raises:
        InvalidArchitecture: a field is missing or wrong, or a layer is none that our types have.
    """
    if fields.has("resolution"):
        if resolution is not None:
            raise fields.wrong("resolution", "is named by the file; leave the other one out")
        resolution = fields.integer("resolution")
    stem = fields.nested("first_conv")
    in_channels, channels, act = _read_conv(stem, 3, bn=True)
    stem_channels = channels
    rows: list[Row] = []
    for entry in fields.objects("blocks"):
        name = "conv" if entry.has("conv") else "mobile_inverted_conv"
        block, out_channels, stride = _read_block(entry.nested(name), channels)
        has_residual = stride == 1 and out_channels == channels
        if entry.has("shortcut"):
            entry.nested("shortcut").expect("name", "IdentityLayer")
        if entry.has("shortcut") != has_residual:
            raise entry.wrong("shortcut", "must be there exactly where stride is 1 and the width stays")
        rows.append((block, out_channels, stride))
        channels = out_channels
    last, conv, head_act = _read_conv(fields.nested("final_expand_layer"), 1, bn=True)
    mixed, hidden, mix_act = _read_conv(fields.nested("feature_mix_layer"), 1, bn=False)
    if (last, mixed) != (channels, conv):
        raise fields.wrong("final_expand_layer", f"takes {last} and gives {conv}, between {channels} and {mixed}")
    if mix_act != head_act:
        raise fields.wrong("feature_mix_layer.act_func", "must be that of final_expand_layer")
    mix = fields.nested("feature_mix_layer")
    epsilon = fields.nested("bn").number("eps") if fields.has("bn") else _EPSILON
    return Architecture(
        resolution=resolution or DEFAULT_RESOLUTION,
        in_channels=in_channels,
        num_classes=fields.nested("classifier").integer("out_features"),
        stem=Stem(out_channels=stem_channels, stride=stem.stride("stride"), activation=act),
        stages=staged(fields, rows),
        head=Head(
            conv_channels=conv,
            hidden_channels=hidden,
            activation=head_act,
            hidden_bias=mix.flag("bias") if mix.has("bias") else False,
        ),
        batch_norm_epsilon=epsilon,
    )


def _read_block(fields: Fields, channels: int) -> Row:
    fields.choice("name", {"MBConvLayer": None, "MBInvertedConvLayer": None})
    if fields.integer("in_channels") != channels:
        raise fields.wrong("in_channels", f"is {fields.integer('in_channels')}; the layer before puts out {channels}")
    fields.expect("groups", None)
    expanded: int | None
    if fields.has("expand_ratio") and fields.number("expand_ratio") == 1:
        expanded = None
    elif fields.has("mid_channels"):
        expanded = fields.integer("mid_channels")
    else:
        expanded = round(channels * fields.number("expand_ratio"))
    block = Block(
        kernel_size=fields.kernel("kernel_size"),
        expanded_channels=expanded,
        use_se=fields.flag("use_se"),
        activation=fields.choice("act_func", named(_ACTIVATIONS)),
    )
    return block, fields.integer("out_channels"), fields.stride("stride")


_STAGES, _DEEPEST = 5, 4


def read_subnet(fields: Fields, resolution: int | None) -> Architecture:
    """The network of a subnet setting: "d" per stage, "ks" and "e" per block, four blocks per stage; "r" if given.

    Raises:
        InvalidArchitecture: a list is too short, or holds what is no choice of that space.
    """
    if fields.has("r"):
        value = fields.items("r")[0] if isinstance(fields.raw("r"), list) and fields.items("r") else fields.raw("r")
        if resolution is not None:
            raise fields.wrong("r", "names a resolution; leave the other one out")
        if type(value) is not int:
            raise fields.wrong("r", "must be an integer")
        resolution = value
    try:
        space = SearchSpace(
            preset=load_preset("ofa-mbv3"),
            width=fields.number("w") if fields.has("w") else 1.0,
            resolution=resolution or DEFAULT_RESOLUTION,
            in_channels=3,
            num_classes=1000,
        )
    except InvalidSpace as error:
        raise InvalidArchitecture(str(error)) from error
    params = {name: choices[0] for name, choices in space.parameters.items()}
    sizes = {"d": _STAGES, "ks": _STAGES * _DEEPEST, "e": _STAGES * _DEEPEST}
    for name, size in sizes.items():
        if len(fields.items(name)) != size:
            raise fields.wrong(name, f"has {len(fields.items(name))} entries; {size} are needed")
    for stage in range(_STAGES):
        chosen = {f"stage{stage + 2}.depth": ("d", stage)}
        for block in range(_DEEPEST):
            prefix, index = f"stage{stage + 2}.block{block + 1}", stage * _DEEPEST + block
            chosen |= {f"{prefix}.kernel": ("ks", index), f"{prefix}.expansion": ("e", index)}
        for param, (name, index) in chosen.items():
            value = fields.items(name)[index]
            if value not in space.parameters[param] or isinstance(value, bool):
                raise fields.wrong(f"{name}.{index}", f"is {value!r}; choices are {space.parameters[param]}"[:200])
            params[param] = value
    return space.architecture(params)
