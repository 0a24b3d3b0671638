"""timm's architecture definitions: strings such as "ir_r2_k3_s2_e6_c24", per stage (pytorch-image-models).

The strings leave out stem, head and activations, so that the file names them beside the strings; docs/networks.md has
the few lines that build the model. timm computes an expansion as make_divisible(input * ratio), all output widths as
multiples of 8, a stem of stride 2, and turns strides beyond a total of 32 into dilation; what breaks these rules is
refused.
"""

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from space.arch import (
    DEFAULT_EPSILON,
    Activation,
    Architecture,
    Block,
    BlockKind,
    Gate,
    Head,
    Stage,
    Stem,
    make_divisible,
    squeeze_of,
)
from space.errors import InvalidArchitecture, NotExpressible
from space.formats.fields import Fields, Row, grouped, named
from space.keys import StageBlockKey, named_keys

# timm's classes; which one it is decides what stands behind the last stage.
_Class = Literal["MobileNetV3", "EfficientNet"]

_ACT_LAYERS: dict[Activation, str] = {"relu": "relu", "relu6": "relu6", "hswish": "hard_swish"}
_SHORT: dict[Activation, str] = {"relu": "re", "relu6": "r6", "hswish": "hs"}
_MAX_STRIDE = 32
_MAX_REPEATS = 32


def _refuse(what: str) -> NotExpressible:
    return NotExpressible(f"timm cannot express this network: {what}")


def write(arch: Architecture) -> dict[str, Any]:
    """The definition as JSON content.

    Raises:
        NotExpressible: timm's builder would make another network of any such strings.
    """
    cls: _Class = "MobileNetV3" if arch.head.hidden_channels is not None else "EfficientNet"
    act = arch.stem.activation
    _check_frame(arch, act)
    keys = [(name, key) for name, key in named_keys(arch).items() if isinstance(key, StageBlockKey)]
    gate, divisor, ratios = _squeezes(cls, keys)
    strings: list[list[str]] = []
    for name, key in keys:
        if name.endswith("_block1"):
            strings.append([])
        strings[-1].append(_string(name, key, ratios.get(name), act))
    strings = [_repeated(stack) for stack in strings]
    if cls == "MobileNetV3" and arch.head.conv_channels is not None:
        _check_width("the head's convolution", arch.head.conv_channels)
        strings.append([f"cn_r1_k1_s1_c{arch.head.conv_channels}"])
    return {
        "class": cls,
        "arch_def": strings,
        "stem_size": arch.stem.out_channels,
        "num_features": (arch.head.hidden_channels if cls == "MobileNetV3" else arch.head.conv_channels) or 0,
        "act_layer": _ACT_LAYERS[act],
        "se_gate": gate,
        "se_divisor": divisor,
        "bn_eps": arch.batch_norm_epsilon,
        **({} if arch.head.hidden_bias else {"head_bias": False}),
        "num_classes": arch.num_classes,
        "input_size": [arch.in_channels, arch.resolution, arch.resolution],
    }


def _repeated(stack: list[str]) -> list[str]:
    """The strings of a stage with runs of equal ones written once: r1 twice is r2."""
    runs = [(text, len(list(run))) for text, run in groupby(stack)]
    return [text.replace("_r1_", f"_r{count}_", 1) for text, count in runs]


def _check_frame(arch: Architecture, act: Activation) -> None:
    if arch.stem.stride != 2:
        raise _refuse("its stem has stride 2, this one has stride 1")
    without_act = arch.head.conv_channels is None and arch.head.hidden_channels is None
    if not without_act and arch.head.activation != act:
        raise _refuse(f"stem and head share one activation, here they are {act} and {arch.head.activation}")
    total = 2 * 2 ** sum(stage.stride == 2 for stage in arch.stages)
    if total > _MAX_STRIDE:
        raise _refuse(f"it turns strides beyond a total of {_MAX_STRIDE} into dilation, here the total is {total}")
    for number, stage in enumerate(arch.stages, start=1):
        _check_width(f"stage {number}", stage.out_channels)


def _check_width(what: str, width: int) -> None:
    if make_divisible(width) != width:
        raise _refuse(f"it rounds widths to multiples of 8, {what} has {width}")


def _string(name: str, key: StageBlockKey, se_ratio: str | None, default: Activation) -> str:
    block = key.block
    words = [f"r1_k{block.kernel_size}_s{key.stride}"]
    match block.kind:
        case "conv":
            kind = "cn"
        case "depthwise_separable":
            kind = "dsa"
        case _:
            kind = "ds" if block.expanded_channels is None else "ir"
    if block.expanded_channels is not None:
        words.append(f"e{_expansion(name, key.in_channels, block.expanded_channels)}")
    words.append(f"c{key.out_channels}")
    if se_ratio is not None:
        words.append(f"se{se_ratio}")
    if block.activation != default:
        words.append(f"n{_SHORT[block.activation]}")
    return "_".join([kind, *words])


def _decimals(value: float) -> list[str]:
    """A number as ever longer decimals, without exponents."""
    return [f"{value:.{digits}f}".rstrip("0").rstrip(".") for digits in range(18)]


def _expansion(name: str, in_channels: int, expanded: int) -> str:
    """The shortest ratio from which timm computes exactly this expansion."""
    for text in _decimals(expanded / in_channels):
        if text and make_divisible(in_channels * float(text)) == expanded:
            return text
    would = make_divisible(expanded)
    raise _refuse(f"it rounds expansions to multiples of 8, {name} has {expanded}, of which it would make {would}")


def _squeezed(cls: _Class, ratio: str, divisor: int, key: StageBlockKey, expansion: float) -> int:
    """The squeeze width that timm computes for a block."""
    share = float(ratio)
    if cls == "EfficientNet":  # there the ratio is one of the block's input
        share /= expansion
    width = key.depthwise_channels * share
    return make_divisible(width, divisor) if divisor > 1 else round(width)


def _squeezes(cls: _Class, keys: list[tuple[str, StageBlockKey]]) -> tuple[Gate, int, dict[str, str]]:
    """Gate, divisor, and per block the ratio: a quarter everywhere if that says it, else each block's own."""
    squeezing = [(name, key) for name, key in keys if key.block.use_se]
    gates = {key.block.gate for _, key in squeezing} or {"hard_sigmoid"}
    if len(gates) > 1:
        raise _refuse("all its squeeze-and-excite units share one gate, here some have a sigmoid and some a hard one")

    def computed(name: str, key: StageBlockKey, ratio: str, divisor: int) -> int:
        expanded = key.block.expanded_channels
        expansion = 1.0 if expanded is None else float(_expansion(name, key.in_channels, expanded))
        return _squeezed(cls, ratio, divisor, key, expansion)

    (gate,) = gates
    for divisor in (8, 1):
        if all(computed(name, key, "0.25", divisor) == key.squeeze_channels for name, key in squeezing):
            return gate, divisor, {name: "0.25" for name, _ in squeezing}
    ratios = {}
    for name, key in squeezing:
        base = key.in_channels if cls == "EfficientNet" else key.depthwise_channels
        decimals = _decimals(key.squeeze_channels / base)
        fitting = [text for text in decimals if text and computed(name, key, text, 1) == key.squeeze_channels]
        if not fitting:
            raise _refuse(f"no ratio gives the squeeze width {key.squeeze_channels} of {name}")
        ratios[name] = fitting[0]
    return gate, 1, ratios


@dataclass(frozen=True, slots=True)
class _Parsed:
    """One string, before its input width is known."""

    kind: str
    repeats: int
    kernel_size: Literal[3, 5, 7]
    stride: Literal[1, 2]
    out_channels: int
    expansion: float
    se_ratio: str | None
    activation: Activation
    noskip: bool

    def block(self, in_channels: int, cls: _Class, gate: Gate, divisor: int, stride: Literal[1, 2]) -> Block:
        """The block behind `in_channels`."""
        expanded = make_divisible(in_channels * self.expansion) if self.kind == "ir" else None
        if self.noskip and self.kind in {"ir", "ds"} and stride == 1 and in_channels == self.out_channels:
            raise InvalidArchitecture("noskip takes away a residual connection that our blocks always have")
        squeeze = None
        if self.se_ratio is not None:
            plain = Block(kernel_size=3, expanded_channels=expanded, use_se=True, activation="relu")
            key = StageBlockKey(
                resolution=1, in_channels=in_channels, out_channels=self.out_channels, stride=stride, block=plain
            )
            squeeze = squeeze_of(_squeezed(cls, self.se_ratio, divisor, key, self.expansion), key.depthwise_channels)
        kinds: dict[str, BlockKind] = {"dsa": "depthwise_separable", "cn": "conv"}
        return Block(
            kernel_size=self.kernel_size,
            expanded_channels=expanded,
            use_se=self.se_ratio is not None,
            activation=self.activation,
            kind=kinds.get(self.kind, "inverted_residual"),
            squeeze_channels=squeeze,
            gate=gate if self.se_ratio is not None else "hard_sigmoid",
        )


_OPTION = re.compile(r"(?P<name>se|[a-z])(?P<value>[0-9]{1,4}(\.[0-9]{1,20})?)")
_NEEDED = {"r", "k", "s", "c"}
_ALLOWED = {"ir": _NEEDED | {"e", "se"}, "ds": _NEEDED | {"e", "se"}, "dsa": _NEEDED, "cn": _NEEDED}


def _parse(text: object, default: Activation) -> _Parsed:
    """Raises InvalidArchitecture where the string holds what we have no words for."""
    kind, *words = str(text)[:200].split("_")
    if kind not in _ALLOWED:
        raise InvalidArchitecture(f"block type {kind[:20]!r} is none of {', '.join(_ALLOWED)}")
    activation, noskip, options = default, False, dict[str, str]()
    for word in words:
        match = _OPTION.fullmatch(word)
        if word == "noskip":
            noskip = True
        elif word in _BY_SHORT:
            activation = _BY_SHORT[word]
        elif match and match["name"] in _ALLOWED[kind] and match["name"] not in options:
            options[match["name"]] = match["value"]
        else:
            raise InvalidArchitecture(f"{word[:20]!r} has no counterpart in a block of type {kind}")
    missing = (_NEEDED | ({"e"} if kind == "ir" else set())) - set(options)
    if missing:
        raise InvalidArchitecture(f"{text!r} lacks {', '.join(sorted(missing))}")
    if not all(options[name].isdecimal() for name in _NEEDED):
        raise InvalidArchitecture(f"{text!r}: r, k, s and c must be integers")
    numbers = Fields({name: int(options[name]) for name in _NEEDED}, repr(text))
    repeats, out_channels = numbers.integer("r"), numbers.integer("c")
    if not 1 <= repeats <= _MAX_REPEATS:
        raise InvalidArchitecture(f"{text!r} repeats {repeats} times; 1 to {_MAX_REPEATS} are possible")
    expansion = float(options.get("e", "1"))
    if expansion <= 0 or (kind == "ds" and expansion != 1):
        raise InvalidArchitecture(f"{text!r} expands by {expansion:g}, which its block type does not do")
    ratio = options.get("se")
    return _Parsed(
        kind=kind,
        repeats=repeats,
        kernel_size=numbers.kernel("k"),
        stride=numbers.stride("s"),
        out_channels=make_divisible(out_channels),
        expansion=expansion,
        se_ratio=ratio if ratio is not None and float(ratio) > 0 else None,
        activation=activation,
        noskip=noskip,
    )


_BY_SHORT = {f"n{short}": name for name, short in _SHORT.items()}


def read(fields: Fields, resolution: int | None) -> Architecture:
    """The architecture of such a definition.

    Raises:
        InvalidArchitecture: a field is missing or wrong, or a string asks for what our types do not have.
    """
    cls: _Class = fields.choice("class", {"MobileNetV3": "MobileNetV3", "EfficientNet": "EfficientNet"})
    act: Activation = fields.choice("act_layer", named(_ACT_LAYERS))
    gate: Gate = fields.choice("se_gate", {"hard_sigmoid": "hard_sigmoid", "sigmoid": "sigmoid"})
    divisor = fields.integer("se_divisor")
    if divisor not in (1, 8):
        raise fields.wrong("se_divisor", f"is {divisor}; it must be 1 or 8")
    in_channels, side = fields.input_size(resolution)
    stacks = fields.items("arch_def")
    conv = None
    if cls == "MobileNetV3" and stacks and isinstance(stacks[-1], list) and len(stacks[-1]) == 1:
        last = re.fullmatch(r"cn_r1_k1_s1_c([0-9]{1,5})", str(stacks[-1][0]))
        if last:
            conv, stacks = int(last[1]), stacks[:-1]
    channels = fields.integer("stem_size")
    stages: list[Stage] = []
    for index, stack in enumerate(stacks):
        rows: list[Row] = []
        if not isinstance(stack, list):
            raise fields.wrong(f"arch_def.{index}", "must be a list of strings")
        for position, text in enumerate(stack):
            where = f"arch_def.{index}.{position}"
            try:
                parsed = _parse(text, act)
                for again in range(parsed.repeats):
                    stride: Literal[1, 2] = parsed.stride if position == again == 0 else 1
                    block = parsed.block(channels, cls, gate, divisor, stride)
                    rows.append((block, parsed.out_channels, stride))
                    channels = parsed.out_channels
            except InvalidArchitecture as error:
                raise fields.wrong(where, str(error)) from error
        stages += grouped(rows)
    features = fields.integer("num_features") or None
    hidden = features if cls == "MobileNetV3" else None
    conv = conv if cls == "MobileNetV3" else features
    head_act = "relu" if conv is None and hidden is None else act
    return Architecture(
        resolution=side,
        in_channels=in_channels,
        num_classes=fields.integer("num_classes"),
        stem=Stem(out_channels=fields.integer("stem_size"), stride=2, activation=act),
        stages=tuple(stages),
        head=Head(
            conv_channels=conv,
            hidden_channels=hidden,
            activation=head_act,
            hidden_bias=fields.flag("head_bias") if fields.has("head_bias") else True,
        ),
        batch_norm_epsilon=fields.number("bn_eps") if fields.has("bn_eps") else DEFAULT_EPSILON,
    )
