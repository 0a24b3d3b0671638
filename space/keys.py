"""Measurable units: the stem, one block or the head, each at one input size. They are the keys of a latency table.

`keys_of` is the one walk over an architecture that costs, torch modules, ONNX graphs and latency all share.
"""

import re
from dataclasses import dataclass
from typing import Literal, assert_never

from space.arch import (
    ACTIVATIONS,
    CHANNELS,
    Activation,
    Architecture,
    Block,
    BlockKind,
    Head,
    Stage,
    Stem,
    squeeze_rule,
)
from space.errors import InvalidArchitecture, InvalidTable


def halved(resolution: int, stride: int) -> int:
    """The side of the output of a convolution of this stride, in pixels."""
    return -(-resolution // stride)  # "same" padding rounds up


@dataclass(frozen=True, slots=True, kw_only=True)
class StemKey:
    """The first convolution, 3x3."""

    resolution: int
    in_channels: int
    out_channels: int
    stride: int
    activation: Activation

    def __str__(self) -> str:
        return f"stem 3x3 s{self.stride} {self.in_channels}→{self.out_channels} {self.activation} @{self.resolution}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBlockKey:
    """One block of a stage."""

    resolution: int
    in_channels: int
    out_channels: int
    stride: int
    block: Block

    @property
    def depthwise_channels(self) -> int:
        """The width of the depthwise convolution."""
        return self.block.expanded_channels or self.in_channels

    @property
    def squeeze_channels(self) -> int:
        """The inner width of squeeze-and-excite."""
        return self.block.squeeze_channels or squeeze_rule(self.depthwise_channels)

    @property
    def has_residual(self) -> bool:
        """Inverted residuals add input and output wherever their shapes agree (MobileNetV2)."""
        same = self.stride == 1 and self.in_channels == self.out_channels
        return same and self.block.kind == "inverted_residual"

    def __str__(self) -> str:
        block = self.block
        widths = [self.in_channels, block.expanded_channels, self.out_channels]
        se = f"se{block.squeeze_channels or ''} " if block.use_se else ""
        return (
            f"{_word(block)} {block.kernel_size}x{block.kernel_size} s{self.stride} "
            f"{'→'.join(str(width) for width in widths if width)} "
            f"{se}{'sigmoid ' if block.gate == 'sigmoid' else ''}{block.activation} @{self.resolution}"
        )


def _word(block: Block) -> str:
    """The first word of a block's key; "separable" is an inverted residual without expansion."""
    match block.kind:
        case "inverted_residual":
            return "separable" if block.expanded_channels is None else "inverted"
        case "depthwise_separable":
            return "depthwise-separable"
        case "conv":
            return "conv"
    assert_never(block.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadKey:
    """1x1 convolution (unless None), global pooling, hidden layer (unless None), classifier."""

    resolution: int
    in_channels: int
    conv_channels: int | None
    hidden_channels: int | None
    num_classes: int
    activation: Activation
    hidden_bias: bool = True

    def __str__(self) -> str:
        widths = (self.in_channels, self.conv_channels, self.hidden_channels, self.num_classes)
        unbiased = "" if self.hidden_bias else "unbiased "
        return f"head {'→'.join(str(width or '-') for width in widths)} {unbiased}{self.activation} @{self.resolution}"


BlockKey = StemKey | StageBlockKey | HeadKey


def out_shape(key: BlockKey) -> tuple[int, ...]:
    """The shape of one output image without the batch: (channels, height, width), or (classes,) of the head."""
    match key:
        case HeadKey():
            return (key.num_classes,)
        case StemKey() | StageBlockKey():
            side = halved(key.resolution, key.stride)
            return (key.out_channels, side, side)
    assert_never(key)


def stage_keys(stage: Stage, *, resolution: int, in_channels: int) -> tuple[StageBlockKey, ...]:
    """The blocks of one stage whose input has `in_channels` maps of resolution^2 pixels."""
    keys = []
    stride: int = stage.stride
    for block in stage.blocks:
        key = StageBlockKey(
            resolution=resolution,
            in_channels=in_channels,
            out_channels=stage.out_channels,
            stride=stride,
            block=block,
        )
        keys.append(key)
        resolution, in_channels, stride = halved(resolution, stride), stage.out_channels, 1
    return tuple(keys)


def stem_key(stem: Stem, *, resolution: int, in_channels: int) -> StemKey:
    """The stem on images of resolution^2 pixels."""
    return StemKey(
        resolution=resolution,
        in_channels=in_channels,
        out_channels=stem.out_channels,
        stride=stem.stride,
        activation=stem.activation,
    )


def head_key(head: Head, *, resolution: int, in_channels: int, num_classes: int) -> HeadKey:
    """The head behind `in_channels` maps of resolution^2 pixels."""
    return HeadKey(
        resolution=resolution,
        in_channels=in_channels,
        conv_channels=head.conv_channels,
        hidden_channels=head.hidden_channels,
        num_classes=num_classes,
        activation=head.activation,
        hidden_bias=head.hidden_bias,
    )


def named_keys(arch: Architecture) -> dict[str, BlockKey]:
    """All units in order, by name: "stem", "stage1_block1", …, "head"; the names are those of the torch modules."""
    keys: dict[str, BlockKey] = {"stem": stem_key(arch.stem, resolution=arch.resolution, in_channels=arch.in_channels)}
    resolution = halved(arch.resolution, arch.stem.stride)
    channels = arch.stem.out_channels
    for number, stage in enumerate(arch.stages, start=1):
        blocks = stage_keys(stage, resolution=resolution, in_channels=channels)
        keys |= {f"stage{number}_block{position}": key for position, key in enumerate(blocks, start=1)}
        resolution, channels = halved(resolution, stage.stride), stage.out_channels
    keys["head"] = head_key(arch.head, resolution=resolution, in_channels=channels, num_classes=arch.num_classes)
    return keys


def keys_of(arch: Architecture) -> tuple[BlockKey, ...]:
    """All units of an architecture in order; equal units occur as often as the network has them."""
    return tuple(named_keys(arch).values())


_NUMBER = r"[1-9][0-9]{0,5}"
_TAIL = rf"(?P<activation>{'|'.join(ACTIVATIONS)}) @(?P<resolution>{_NUMBER})"
_PATTERNS = (
    re.compile(rf"stem 3x3 s(?P<stride>[12]) (?P<widths>{_NUMBER}→{_NUMBER}) {_TAIL}"),
    re.compile(
        rf"(?P<kind>separable|inverted|depthwise-separable|conv) (?P<kernel>3x3|5x5|7x7) s(?P<stride>[12]) "
        rf"(?P<widths>{_NUMBER}→{_NUMBER}(→{_NUMBER})?) (?P<se>se(?P<squeeze>{_NUMBER})? )?(?P<gate>sigmoid )?{_TAIL}"
    ),
    re.compile(rf"head (?P<widths>{_NUMBER}→(({_NUMBER}|-)→){{2}}{_NUMBER}) (?P<unbiased>unbiased )?{_TAIL}"),
)
_KERNELS: dict[str, Literal[3, 5, 7]] = {"3x3": 3, "5x5": 5, "7x7": 7}
_KINDS: dict[str, BlockKind] = {"depthwise-separable": "depthwise_separable", "conv": "conv"}


def parse_key(text: str) -> BlockKey:
    """The inverse of str(key).

    Raises:
        InvalidTable: the text names no block.
    """
    match = next((found for pattern in _PATTERNS if (found := pattern.fullmatch(text))), None)
    if match is None:
        raise InvalidTable(f"{text[:80]!r} names no block; collect the table again")
    part = match.groupdict()
    activation = next(name for name in ACTIVATIONS if name == part["activation"])
    widths = [None if width == "-" else int(width) for width in part["widths"].split("→")]
    first, last = widths[0], widths[-1]
    assert first is not None
    assert last is not None
    try:
        if text.startswith("head"):
            if part["unbiased"] and widths[2] is None:
                raise InvalidArchitecture("no layer is there to be unbiased")
            return HeadKey(
                resolution=int(part["resolution"]),
                in_channels=first,
                conv_channels=widths[1],
                hidden_channels=widths[2],
                num_classes=last,
                activation=activation,
                hidden_bias=part["unbiased"] is None,
            )
        if text.startswith("stem"):
            return StemKey(
                resolution=int(part["resolution"]),
                in_channels=first,
                out_channels=last,
                stride=int(part["stride"]),
                activation=activation,
            )
        if (len(widths) == 3) != (part["kind"] == "inverted"):
            raise InvalidArchitecture(f"it has {len(widths)} widths")
        for width in (first, last):
            CHANNELS.check("a width", width)
        return StageBlockKey(
            resolution=int(part["resolution"]),
            in_channels=first,
            out_channels=last,
            stride=int(part["stride"]),
            block=Block(
                kernel_size=_KERNELS[part["kernel"]],
                expanded_channels=widths[1] if len(widths) == 3 else None,
                use_se=part["se"] is not None,
                activation=activation,
                kind=_KINDS.get(part["kind"], "inverted_residual"),
                squeeze_channels=int(part["squeeze"]) if part["squeeze"] else None,
                gate="sigmoid" if part["gate"] else "hard_sigmoid",
            ),
        )
    except InvalidArchitecture as error:
        raise InvalidTable(f"{text[:80]!r} names no block: {error}; collect the table again") from error
