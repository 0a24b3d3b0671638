"""An architecture as a value: absolute widths, canonical JSON, an identity from its content.

The structure follows Sandler et al. 2018 (MobileNetV2, inverted residuals with linear bottlenecks) and Howard et
al. 2019 (MobileNetV3: squeeze-and-excite, h-swish, the efficient last stage).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from space.errors import InvalidArchitecture

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Activation = Literal["relu", "hswish"]

SCHEMA_VERSION = 1

# A spec comes from outside: these caps keep a hostile one from asking for a huge allocation.
MAX_CHANNELS = 8192
MAX_RESOLUTION = 2048
MAX_STAGES = 16
MAX_BLOCKS_PER_STAGE = 32
MAX_SPEC_BYTES = 1_000_000

_STRICT = {"extra": "forbid", "strict": True}


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least `divisor`, and never below 90 % of `channels` (MobileNetV2)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _check_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidArchitecture(f"{name} is {value}; it must lie between {low} and {high}")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    # By type as well: True and 1.0 equal 1 but would make another canonical JSON.
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise InvalidArchitecture(f"{name} is {value!r}; it must be one of {', '.join(map(str, choices))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One inverted residual, or a depthwise-separable block where `expanded_channels` is None (no expansion).

    A squeeze-and-excite unit squeezes to make_divisible(expanded / 4, 8), so its width is not stored.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    kernel_size: Literal[3, 5, 7]
    expanded_channels: int | None
    use_se: bool
    activation: Activation

    def __post_init__(self) -> None:
        _check_choice("kernel_size", self.kernel_size, (3, 5, 7))
        _check_choice("activation", self.activation, ("relu", "hswish"))
        if self.expanded_channels is not None:
            _check_range("expanded_channels", self.expanded_channels, 1, MAX_CHANNELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Consecutive blocks that share one output width; the first one carries the stride."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    out_channels: int
    stride: Literal[1, 2]
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        _check_range("out_channels", self.out_channels, 1, MAX_CHANNELS)
        _check_choice("stride", self.stride, (1, 2))
        if not self.blocks:
            raise InvalidArchitecture("a stage needs at least one block, got none")
        _check_range("number of blocks in a stage", len(self.blocks), 1, MAX_BLOCKS_PER_STAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """The first 3x3 convolution."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    out_channels: int
    stride: Literal[1, 2]
    activation: Activation

    def __post_init__(self) -> None:
        _check_range("stem out_channels", self.out_channels, 1, MAX_CHANNELS)
        _check_choice("stem stride", self.stride, (1, 2))
        _check_choice("stem activation", self.activation, ("relu", "hswish"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The efficient last stage of MobileNetV3: 1x1 convolution, global pooling, hidden layer, classifier."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    conv_channels: int
    hidden_channels: int
    activation: Activation

    def __post_init__(self) -> None:
        _check_range("head conv_channels", self.conv_channels, 1, MAX_CHANNELS)
        _check_range("head hidden_channels", self.hidden_channels, 1, MAX_CHANNELS)
        _check_choice("head activation", self.activation, ("relu", "hswish"))


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole network; every width is absolute, residual connections are derived.

    `resolution` is the side of the square input in pixels; the input is NCHW, N x in_channels x resolution^2.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    resolution: int
    in_channels: int
    num_classes: int
    stem: Stem
    stages: tuple[Stage, ...]
    head: Head

    def __post_init__(self) -> None:
        _check_range("resolution", self.resolution, 8, MAX_RESOLUTION)
        _check_range("in_channels", self.in_channels, 1, 16)
        _check_range("num_classes", self.num_classes, 2, 100_000)
        _check_range("number of stages", len(self.stages), 1, MAX_STAGES)

    @cached_property
    def arch_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def residual_groups(self) -> tuple[tuple[int, ...], ...]:
        """Indices of stages that share one width, since a residual connection joins each to the one before it."""
        groups: list[tuple[int, ...]] = []
        for index, stage in enumerate(self.stages):
            if index and stage.stride == 1 and stage.out_channels == self.stages[index - 1].out_channels:
                groups[-1] = (*groups[-1], index)
            else:
                groups.append((index,))
        return tuple(groups)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space, schema version included."""
        return json.dumps({"version": SCHEMA_VERSION, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Architecture":
        """Read a spec.

        Raises:
            InvalidArchitecture: the text is no JSON, has another version, or a field is missing, unknown or wrong.
        """
        from pydantic import ValidationError

        if len(text) > MAX_SPEC_BYTES:
            raise InvalidArchitecture(f"the spec has {len(text)} bytes; at most {MAX_SPEC_BYTES} are accepted")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidArchitecture(f"the spec is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise InvalidArchitecture(f"the spec must be a JSON object, got {type(content).__name__}")
        version = content.pop("version", None)
        if version != SCHEMA_VERSION or type(version) is not int:
            raise InvalidArchitecture(
                f"the spec has version {version!r}; this mobilenas reads version {SCHEMA_VERSION}: export it again"
            )
        try:
            return _adapter().validate_json(json.dumps(content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "spec"
            raise InvalidArchitecture(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error


@cache
def _adapter() -> "TypeAdapter[Architecture]":
    # pydantic costs 0.1 s to import and some ms to build; only readers of specs pay for it, once.
    from pydantic import TypeAdapter

    return TypeAdapter(Architecture)
