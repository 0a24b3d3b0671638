"""Published networks as architectures: MobileNetV1, V2, V3 and MnasNet, each with a width multiplier.

Widths are those of the papers' tables; every scaled width is rounded by `make_divisible`. Two rules are in use for
MobileNetV3's expansions where the multiplier is not 1, and both are offered by the name of a project that uses them:

- "torchvision": every width, that of an expansion and of the hidden layer too, is scaled by itself;
- "slim" (TensorFlow models, also timm): an expansion is its published ratio of the rounded input width, and neither
  the hidden layer nor, below 0.75, the stem is scaled down.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from space.arch import Activation, Architecture, Block, Head, Stage, Stem, make_divisible, squeeze_of
from space.errors import InvalidArchitecture

Rounding = Literal["torchvision", "slim"]
ROUNDINGS: tuple[Rounding, ...] = ("torchvision", "slim")
MAX_WIDTH = 4.0


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of MobileNetV3's tables; expansion equal to the input width means no expansion layer."""

    kernel_size: Literal[3, 5]
    expanded: int
    out: int
    use_se: bool
    activation: Activation
    stride: Literal[1, 2]


_LARGE = (
    (_Row(3, 16, 16, False, "relu", 1),),
    (_Row(3, 64, 24, False, "relu", 2), _Row(3, 72, 24, False, "relu", 1)),
    (_Row(5, 72, 40, True, "relu", 2), _Row(5, 120, 40, True, "relu", 1), _Row(5, 120, 40, True, "relu", 1)),
    (
        _Row(3, 240, 80, False, "hswish", 2),
        _Row(3, 200, 80, False, "hswish", 1),
        _Row(3, 184, 80, False, "hswish", 1),
        _Row(3, 184, 80, False, "hswish", 1),
    ),
    (_Row(3, 480, 112, True, "hswish", 1), _Row(3, 672, 112, True, "hswish", 1)),
    (_Row(5, 672, 160, True, "hswish", 2), _Row(5, 960, 160, True, "hswish", 1), _Row(5, 960, 160, True, "hswish", 1)),
)

_SMALL = (
    (_Row(3, 16, 16, True, "relu", 2),),
    (_Row(3, 72, 24, False, "relu", 2), _Row(3, 88, 24, False, "relu", 1)),
    (_Row(5, 96, 40, True, "hswish", 2), _Row(5, 240, 40, True, "hswish", 1), _Row(5, 240, 40, True, "hswish", 1)),
    (_Row(5, 120, 48, True, "hswish", 1), _Row(5, 144, 48, True, "hswish", 1)),
    (_Row(5, 288, 96, True, "hswish", 2), _Row(5, 576, 96, True, "hswish", 1), _Row(5, 576, 96, True, "hswish", 1)),
)


def _stages(rows: tuple[tuple[_Row, ...], ...], width: float, rounding: Rounding) -> tuple[Stage, ...]:
    stages = []
    before = before_scaled = 16  # of the stem
    for index, stage in enumerate(rows):
        out = make_divisible(stage[0].out * width)
        blocks = []
        for row in stage:
            expanded = row.expanded * width if rounding == "torchvision" else row.expanded / before * before_scaled
            block = Block(
                kernel_size=row.kernel_size,
                # The first block of both networks expands by 1, that is, not at all.
                expanded_channels=make_divisible(expanded) if index else None,
                use_se=row.use_se,
                activation=row.activation,
            )
            blocks.append(block)
            before, before_scaled = row.out, out
        stages.append(Stage(out_channels=out, stride=stage[0].stride, blocks=tuple(blocks)))
    return tuple(stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What every network is asked for besides its width."""

    resolution: int
    in_channels: int
    num_classes: int


_Rows = tuple[tuple[_Row, ...], ...]


def _v3(rows: _Rows, hidden: int, width: float, rounding: Rounding, shape: _Shape) -> Architecture:
    unscaled = rounding == "slim"
    stem = 16 if unscaled and width < 0.75 else make_divisible(16 * width)
    return Architecture(
        resolution=shape.resolution,
        in_channels=shape.in_channels,
        num_classes=shape.num_classes,
        stem=Stem(out_channels=stem, stride=2, activation="hswish"),
        stages=_stages(rows, width, rounding),
        head=Head(
            conv_channels=6 * make_divisible(rows[-1][0].out * width),
            hidden_channels=make_divisible(hidden * (max(1.0, width) if unscaled else width)),
            activation="hswish",
        ),
    )


def _minimalistic(rows: _Rows, hidden: int, width: float, rounding: Rounding, shape: _Shape) -> Architecture:
    """Without squeeze-and-excite, h-swish and 5x5 kernels (TensorFlow models, mobilenet README)."""
    plain = tuple(
        tuple(replace(row, kernel_size=3, use_se=False, activation="relu") for row in stage) for stage in rows
    )
    arch = _v3(plain, hidden, width, rounding, shape)
    return replace(arch, stem=replace(arch.stem, activation="relu"), head=replace(arch.head, activation="relu"))


def _original_last_stage(rows: _Rows, hidden: int, width: float, rounding: Rounding, shape: _Shape) -> Architecture:
    """With the last stage before it was redesigned (Howard et al. 2019, figure 5).

    One more inverted residual to twice the last width, then the widest convolution before the pooling, not behind it.
    The paper shows it for the large network; for the small one the same proportions are taken.
    """
    arch = _v3(rows, hidden, width, rounding, shape)
    final = Block(kernel_size=3, expanded_channels=arch.head.conv_channels, use_se=False, activation="hswish")
    stage = Stage(out_channels=make_divisible(2 * rows[-1][0].out * width), stride=1, blocks=(final,))
    head = Head(conv_channels=arch.head.hidden_channels, hidden_channels=None, activation="hswish")
    return replace(arch, stages=(*arch.stages, stage), head=head)


_Build = Callable[[float, Rounding, _Shape], Architecture]


def _at_32px(build: _Build, width: float, rounding: Rounding, shape: _Shape) -> Architecture:
    """With stem and first halving stage at stride 1, for images of about 32 pixels."""
    arch = build(width, rounding, shape)
    first = next(index for index, stage in enumerate(arch.stages) if stage.stride == 2)
    stages = tuple(replace(stage, stride=1) if index == first else stage for index, stage in enumerate(arch.stages))
    return replace(arch, stem=replace(arch.stem, stride=1), stages=stages)


# Howard et al. 2017, table 1: output width, stride and number of depthwise-separable blocks. Its last `dw s2` is a
# misprint for stride 1: only that gives the printed 569 M multiply-adds.
_V1: tuple[tuple[int, Literal[1, 2], int], ...] = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
_V1_SHALLOW = tuple((out, stride, 1 if out == 512 else depth) for out, stride, depth in _V1)


def _v1(
    kind: Literal["depthwise_separable", "conv"],
    rows: tuple[tuple[int, Literal[1, 2], int], ...],
    width: float,
    _rounding: Rounding,
    shape: _Shape,
) -> Architecture:
    """MobileNetV1 with ReLU6, as all released weights have it; the paper's text says ReLU."""
    block = Block(kernel_size=3, expanded_channels=None, use_se=False, activation="relu6", kind=kind)
    return Architecture(
        resolution=shape.resolution,
        in_channels=shape.in_channels,
        num_classes=shape.num_classes,
        stem=Stem(out_channels=make_divisible(32 * width), stride=2, activation="relu6"),
        stages=tuple(
            Stage(out_channels=make_divisible(out * width), stride=stride, blocks=(block,) * depth)
            for out, stride, depth in rows
        ),
        head=Head(conv_channels=None, hidden_channels=None, activation="relu"),
    )


@dataclass(frozen=True, slots=True)
class _Uniform:
    """One line of the tables of MobileNetV2 and MnasNet: `depth` equal blocks, expanded by a ratio (1: not at all)."""

    kernel_size: Literal[3, 5]
    ratio: int
    out: int
    depth: int
    use_se: bool
    stride: Literal[1, 2]


# Sandler et al. 2018, table 2; Tan et al. 2019, figure 7 (a).
_V2 = (
    _Uniform(3, 1, 16, 1, False, 1),
    _Uniform(3, 6, 24, 2, False, 2),
    _Uniform(3, 6, 32, 3, False, 2),
    _Uniform(3, 6, 64, 4, False, 2),
    _Uniform(3, 6, 96, 3, False, 1),
    _Uniform(3, 6, 160, 3, False, 2),
    _Uniform(3, 6, 320, 1, False, 1),
)
_MNASNET_A1 = (
    _Uniform(3, 1, 16, 1, False, 1),
    _Uniform(3, 6, 24, 2, False, 2),
    _Uniform(5, 3, 40, 3, True, 2),
    _Uniform(3, 6, 80, 4, False, 2),
    _Uniform(3, 6, 112, 2, True, 1),
    _Uniform(5, 6, 160, 3, True, 2),
    _Uniform(3, 6, 320, 1, False, 1),
)


def mnasnet_squeeze(in_channels: int, depthwise_channels: int) -> int | None:
    """A block's squeeze in MnasNet: a quarter of its input width, rounded down and to no multiple of 8."""
    return squeeze_of(max(1, in_channels // 4), depthwise_channels)


def _uniform(
    rows: tuple[_Uniform, ...], activation: Activation, width: float, _rounding: Rounding, shape: _Shape
) -> Architecture:
    stem = Stem(out_channels=make_divisible(32 * width), stride=2, activation=activation)
    stages = []
    channels = stem.out_channels
    for row in rows:
        out = make_divisible(row.out * width)
        inputs = (channels, *(out,) * (row.depth - 1))
        expanded = {width: None if row.ratio == 1 else make_divisible(row.ratio * width) for width in inputs}
        blocks = tuple(
            Block(
                kernel_size=row.kernel_size,
                expanded_channels=expanded[channels],
                use_se=row.use_se,
                activation=activation,
                squeeze_channels=mnasnet_squeeze(channels, expanded[channels] or channels) if row.use_se else None,
                gate="sigmoid" if row.use_se else "hard_sigmoid",
            )
            for channels in inputs
        )
        stages.append(Stage(out_channels=out, stride=row.stride, blocks=blocks))
        channels = out
    # MobileNetV2's last convolution grows with the width but never shrinks (Sandler et al. 2018, section 6.1);
    # MnasNet's keeps its width (TensorFlow TPU models, mnasnet README: 6.1 M parameters at 1.4).
    last = make_divisible(1280 * max(1.0, width)) if rows is _V2 else 1280
    return Architecture(
        resolution=shape.resolution,
        in_channels=shape.in_channels,
        num_classes=shape.num_classes,
        stem=stem,
        stages=tuple(stages),
        head=Head(conv_channels=last, hidden_channels=None, activation=activation),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A published network: what it is, and how to make it."""

    name: str
    says: str
    widths: tuple[float, ...]
    """The published width multipliers; any other is possible."""
    resolution: int
    """The published resolution, or the largest of them, in pixels."""
    build: _Build
    roundings: tuple[Rounding, ...] = ()
    """The rules for expansions to choose from, the first by default; none where there is but one rule."""

    def __call__(
        self,
        *,
        width: float = 1.0,
        resolution: int | None = None,
        in_channels: int = 3,
        num_classes: int | None = None,
        rounding: Rounding | None = None,
    ) -> Architecture:
        """The network; 1000 classes, or 10 for the variants for 32 px, unless given.

        Raises:
            InvalidArchitecture: the width, the resolution or another value is outside what an architecture may have,
                or a rounding is named for a network that knows one rule only.
        """
        if not 0 < width <= MAX_WIDTH:
            raise InvalidArchitecture(f"width multiplier is {width}; it must lie above 0 and not above {MAX_WIDTH:g}")
        if rounding is not None and rounding not in self.roundings:
            choices = ", ".join(self.roundings) or "leave it out, there is one rule only"
            raise InvalidArchitecture(f"{self.name} has no rounding {rounding!r}; {choices}")
        shape = _Shape(
            resolution=self.resolution if resolution is None else resolution,
            in_channels=in_channels,
            num_classes=(10 if self.resolution == 32 else 1000) if num_classes is None else num_classes,
        )
        return self.build(width, rounding or "torchvision", shape)


_v1_plain: _Build = partial(_v1, "depthwise_separable", _V1)
_v2: _Build = partial(_uniform, _V2, "relu6")
_V3_WIDTHS = (1.25, 1.0, 0.75, 0.5, 0.35)


def _plain(name: str, says: str, widths: tuple[float, ...], build: _Build, resolution: int = 224) -> Reference:
    return Reference(name=name, says=says, widths=widths, resolution=resolution, build=build)


def _ruled(name: str, says: str, widths: tuple[float, ...], build: _Build, resolution: int = 224) -> Reference:
    return replace(_plain(name, says, widths, build, resolution), roundings=ROUNDINGS)


def _v3_family(name: str, table: int, rows: _Rows, hidden: int) -> tuple[Reference, ...]:
    build: _Build = partial(_v3, rows, hidden)
    lean = "without squeeze-and-excite, h-swish and 5x5"
    original = "with the last stage before its redesign (figure 5)"
    return (
        _ruled(name, f"MobileNetV3 (Howard et al. 2019, table {table})", _V3_WIDTHS, build),
        _ruled(f"{name}_minimalistic", lean, (1.0,), partial(_minimalistic, rows, hidden)),
        _ruled(f"{name}_original", original, (1.0,), partial(_original_last_stage, rows, hidden)),
        _ruled(f"{name}_32px", _FOR_32PX, (1.0,), partial(_at_32px, build), 32),
    )


_FOR_32PX = "for images of 32 px: two strides fewer"

REFERENCES: Mapping[str, Reference] = {
    reference.name: reference
    for reference in (
        _plain("mobilenet_v1", "MobileNetV1 (Howard et al. 2017, table 1)", (1.0, 0.75, 0.5, 0.25), _v1_plain),
        _plain("mobilenet_v1_full_conv", "with full convolutions (table 4)", (1.0,), partial(_v1, "conv", _V1)),
        _plain(
            "mobilenet_v1_shallow",
            "without five of the 512-wide blocks (table 5)",
            (1.0,),
            partial(_v1, "depthwise_separable", _V1_SHALLOW),
        ),
        _plain("mobilenet_v1_32px", _FOR_32PX, (1.0,), partial(_at_32px, _v1_plain), 32),
        _plain("mobilenet_v2", "MobileNetV2 (Sandler et al. 2018, table 2)", (1.4, 1.0, 0.75, 0.5, 0.35), _v2),
        _plain("mobilenet_v2_32px", _FOR_32PX, (1.0,), partial(_at_32px, _v2), 32),
        _plain(
            "mnasnet_a1",
            "MnasNet-A1 (Tan et al. 2019, figure 7)",
            (1.4, 1.0, 0.75, 0.5),
            partial(_uniform, _MNASNET_A1, "relu"),
        ),
        *_v3_family("mobilenet_v3_large", 1, _LARGE, 1280),
        *_v3_family("mobilenet_v3_small", 2, _SMALL, 1024),
        _ruled("mobilenet_v3_small_1280", "with a hidden layer of 1280", _V3_WIDTHS, partial(_v3, _SMALL, 1280)),
    )
}

mobilenet_v3_large = REFERENCES["mobilenet_v3_large"]
mobilenet_v3_small = REFERENCES["mobilenet_v3_small"]
mobilenet_v3_small_32px = REFERENCES["mobilenet_v3_small_32px"]
