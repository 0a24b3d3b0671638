"""Published networks as architectures.

Widths follow Howard et al. 2019, tables 1 and 2. A width multiplier scales every width by itself, and rounds it
with `make_divisible`, as torchvision does.
"""

from dataclasses import dataclass
from typing import Literal

from space.arch import Activation, Architecture, Block, Head, Stage, Stem, make_divisible


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the paper's tables; expansion equal to the input width means no expansion layer."""

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


def _stages(rows: tuple[tuple[_Row, ...], ...], width: float, first_stride: Literal[1, 2]) -> tuple[Stage, ...]:
    stages = []
    for index, stage in enumerate(rows):
        blocks = tuple(
            Block(
                kernel_size=row.kernel_size,
                # The first block of both networks expands by 1, that is, not at all.
                expanded_channels=make_divisible(row.expanded * width) if index else None,
                use_se=row.use_se,
                activation=row.activation,
            )
            for row in stage
        )
        stride = stage[0].stride if index else first_stride
        stages.append(Stage(out_channels=make_divisible(stage[0].out * width), stride=stride, blocks=blocks))
    return tuple(stages)


def mobilenet_v3_large(
    *, width: float = 1.0, resolution: int = 224, in_channels: int = 3, num_classes: int = 1000
) -> Architecture:
    """MobileNetV3-Large (Howard et al. 2019, table 1)."""
    return Architecture(
        resolution=resolution,
        in_channels=in_channels,
        num_classes=num_classes,
        stem=Stem(out_channels=make_divisible(16 * width), stride=2, activation="hswish"),
        stages=_stages(_LARGE, width, 1),
        head=Head(
            conv_channels=6 * make_divisible(160 * width),
            hidden_channels=make_divisible(1280 * width),
            activation="hswish",
        ),
    )


def mobilenet_v3_small(
    *,
    width: float = 1.0,
    resolution: int = 224,
    in_channels: int = 3,
    num_classes: int = 1000,
    stem_stride: Literal[1, 2] = 2,
    first_stride: Literal[1, 2] = 2,
) -> Architecture:
    """MobileNetV3-Small (Howard et al. 2019, table 2) with torchvision's 1024-wide hidden layer.

    Both strides 1 give the variant for 32-pixel images: feature maps 32, 32, 16, 8, 8, 4.
    """
    return Architecture(
        resolution=resolution,
        in_channels=in_channels,
        num_classes=num_classes,
        stem=Stem(out_channels=make_divisible(16 * width), stride=stem_stride, activation="hswish"),
        stages=_stages(_SMALL, width, first_stride),
        head=Head(
            conv_channels=6 * make_divisible(96 * width),
            hidden_channels=make_divisible(1024 * width),
            activation="hswish",
        ),
    )


def mobilenet_v3_small_32px(
    *, width: float = 1.0, resolution: int = 32, in_channels: int = 3, num_classes: int = 10
) -> Architecture:
    """MobileNetV3-Small with stem and first block at stride 1, for images of about 32 pixels."""
    return mobilenet_v3_small(
        width=width,
        resolution=resolution,
        in_channels=in_channels,
        num_classes=num_classes,
        stem_stride=1,
        first_stride=1,
    )


REFERENCES = {
    "mobilenet_v3_large": mobilenet_v3_large,
    "mobilenet_v3_small": mobilenet_v3_small,
    "mobilenet_v3_small_32px": mobilenet_v3_small_32px,
}
