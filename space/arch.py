"""An architecture as a value: absolute widths, canonical JSON, an identity from its content.

The structure follows Sandler et al. 2018 (MobileNetV2, inverted residuals with linear bottlenecks) and Howard et
al. 2019 (MobileNetV3: squeeze-and-excite, h-swish, the efficient last stage); Howard et al. 2017 (MobileNetV1) and Tan
et al. 2019 (MnasNet) are expressible as well.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from space.errors import InvalidArchitecture

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler, TypeAdapter

Activation = Literal["relu", "relu6", "hswish"]
Gate = Literal["hard_sigmoid", "sigmoid"]
BlockKind = Literal["inverted_residual", "depthwise_separable", "conv"]

ACTIVATIONS: tuple[Activation, ...] = ("relu", "relu6", "hswish")
GATES: tuple[Gate, ...] = ("hard_sigmoid", "sigmoid")
KINDS: tuple[BlockKind, ...] = ("inverted_residual", "depthwise_separable", "conv")

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


def squeeze_rule(depthwise_channels: int) -> int:
    """The inner width of squeeze-and-excite in MobileNetV3, by that of the depthwise convolution."""
    return make_divisible(depthwise_channels // 4)


def squeeze_of(squeeze_channels: int, depthwise_channels: int) -> int | None:
    """What a block's `squeeze_channels` should hold: None where the rule says the same."""
    return None if squeeze_channels == squeeze_rule(depthwise_channels) else squeeze_channels


def without_defaults(value: Any) -> Any:  # noqa: ANN401 - any nest of dataclasses and tuples
    """The value as JSON has it, without the fields that have their default: new ones change nobody's identity."""
    if isinstance(value, tuple):
        return [without_defaults(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        named = ((name, default, getattr(value, name)) for name, default in _defaults(type(value)))
        return {name: without_defaults(item) for name, default, item in named if item != default}
    return value


@cache
def _defaults(of: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in fields(of))


def json_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object of an untrusted text.

    Raises:
        InvalidArchitecture: it is too large, no JSON, or no object.
    """
    if len(text) > MAX_SPEC_BYTES:
        raise InvalidArchitecture(f"the spec has {len(text)} bytes; at most {MAX_SPEC_BYTES} are accepted")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArchitecture(f"the spec is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidArchitecture(f"the spec must be a JSON object, got {type(content).__name__}")
    return content


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a number, or the length of a list, may be: for the constructors, and for readers of the JSON Schema."""

    low: float
    high: float

    def check(self, name: str, value: float) -> None:
        """Raise InvalidArchitecture unless `value` lies within."""
        if not self.low <= value <= self.high:
            raise InvalidArchitecture(f"{name} is {value}; it must lie between {self.low} and {self.high}")

    def __get_pydantic_json_schema__(
        self,
        core_schema: Any,  # noqa: ANN401 - pydantic's own kind
        handler: "GetJsonSchemaHandler",
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        low, high = ("minItems", "maxItems") if schema.get("type") == "array" else ("minimum", "maximum")
        return {**schema, low: self.low, high: self.high}


CHANNELS = Bounds(1, MAX_CHANNELS)
_RESOLUTION = Bounds(8, MAX_RESOLUTION)
_IN_CHANNELS = Bounds(1, 16)
_CLASSES = Bounds(2, 100_000)
_STAGES = Bounds(1, MAX_STAGES)
_BLOCKS = Bounds(1, MAX_BLOCKS_PER_STAGE)
EPSILON = Bounds(1e-8, 0.1)
DEFAULT_EPSILON = 1e-3
"""Of the published networks (Howard et al. 2019; torchvision likewise)."""
Channels = Annotated[int, CHANNELS]


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    # By type as well: True and 1.0 equal 1 but would make another canonical JSON.
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise InvalidArchitecture(f"{name} is {value!r}; it must be one of {', '.join(map(str, choices))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a stage.

    `inverted_residual`: 1x1 expansion to `expanded_channels` (None: no expansion), depthwise convolution, linear 1x1
    projection; input and output are added where their shapes agree (MobileNetV2). `depthwise_separable`: depthwise and
    1x1 convolution, both with the activation, never added (MobileNetV1). `conv`: a full convolution with the
    activation, never added.

    `squeeze_channels` is the inner width of squeeze-and-excite; None stands for make_divisible(expanded / 4, 8), the
    rule of MobileNetV3.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    kernel_size: Literal[3, 5, 7]
    expanded_channels: Channels | None
    use_se: bool
    activation: Activation
    # Canonical JSON leaves these out where they have their default, so that a network's id outlives new fields.
    kind: BlockKind = "inverted_residual"
    squeeze_channels: Channels | None = None
    gate: Gate = "hard_sigmoid"

    def __post_init__(self) -> None:
        _check_choice("kernel_size", self.kernel_size, (3, 5, 7))
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("kind", self.kind, KINDS)
        _check_choice("gate", self.gate, GATES)
        if self.expanded_channels is not None:
            CHANNELS.check("expanded_channels", self.expanded_channels)
        if self.squeeze_channels is not None:
            CHANNELS.check("squeeze_channels", self.squeeze_channels)
        if self.kind != "inverted_residual" and (self.use_se or self.expanded_channels is not None):
            raise InvalidArchitecture(f"a {self.kind} block has neither expanded_channels nor use_se; leave them out")
        if not self.use_se and (self.squeeze_channels is not None or self.gate != "hard_sigmoid"):
            raise InvalidArchitecture("squeeze_channels and gate belong to blocks with use_se; leave them out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Consecutive blocks that share one output width; the first one carries the stride."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    out_channels: Channels
    stride: Literal[1, 2]
    blocks: Annotated[tuple[Block, ...], _BLOCKS]

    def __post_init__(self) -> None:
        CHANNELS.check("out_channels", self.out_channels)
        _check_choice("stride", self.stride, (1, 2))
        if not self.blocks:
            raise InvalidArchitecture("a stage needs at least one block, got none")
        _BLOCKS.check("number of blocks in a stage", len(self.blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """The first 3x3 convolution."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    out_channels: Channels
    stride: Literal[1, 2]
    activation: Activation

    def __post_init__(self) -> None:
        CHANNELS.check("stem out_channels", self.out_channels)
        _check_choice("stem stride", self.stride, (1, 2))
        _check_choice("stem activation", self.activation, ACTIVATIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """1x1 convolution, global pooling, hidden layer, classifier: the efficient last stage of MobileNetV3.

    MobileNetV2 has no hidden layer, MobileNetV1 neither that nor the convolution: None leaves them out. Once-for-All's
    hidden layer (Cai et al. 2020) has no `hidden_bias`.
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    conv_channels: Channels | None
    hidden_channels: Channels | None
    activation: Activation
    hidden_bias: bool = True

    def __post_init__(self) -> None:
        if type(self.hidden_bias) is not bool:
            raise InvalidArchitecture(f"hidden_bias is {self.hidden_bias!r}; it must be true or false")
        if self.hidden_channels is None and not self.hidden_bias:
            raise InvalidArchitecture("hidden_bias belongs to heads with hidden_channels; leave it out")
        if self.conv_channels is not None:
            CHANNELS.check("head conv_channels", self.conv_channels)
        if self.hidden_channels is not None:
            CHANNELS.check("head hidden_channels", self.hidden_channels)
        _check_choice("head activation", self.activation, ACTIVATIONS)
        if self.conv_channels is None and self.hidden_channels is None and self.activation != "relu":
            raise InvalidArchitecture(
                f"head activation is {self.activation}; a head of the classifier alone uses none: write relu"
            )


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole network; every width is absolute, residual connections are derived.

    `resolution` is the side of the square input in pixels; the input is NCHW, N x in_channels x resolution^2.
    `batch_norm_epsilon` is 1e-5 in Once-for-All's networks (Cai et al. 2020).
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    resolution: Annotated[int, _RESOLUTION]
    in_channels: Annotated[int, _IN_CHANNELS]
    num_classes: Annotated[int, _CLASSES]
    stem: Stem
    stages: Annotated[tuple[Stage, ...], _STAGES]
    head: Head
    batch_norm_epsilon: Annotated[float, EPSILON] = DEFAULT_EPSILON

    def __post_init__(self) -> None:
        if type(self.batch_norm_epsilon) is not float:
            raise InvalidArchitecture(f"batch_norm_epsilon is {self.batch_norm_epsilon!r}; it must be a float")
        EPSILON.check("batch_norm_epsilon", self.batch_norm_epsilon)
        _RESOLUTION.check("resolution", self.resolution)
        _IN_CHANNELS.check("in_channels", self.in_channels)
        _CLASSES.check("num_classes", self.num_classes)
        _STAGES.check("number of stages", len(self.stages))

    @cached_property
    def arch_id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def residual_groups(self) -> tuple[tuple[int, ...], ...]:
        """Indices of stages that share one width, since a residual connection joins each to the one before it."""
        groups: list[tuple[int, ...]] = []
        for index, stage in enumerate(self.stages):
            same = index and stage.stride == 1 and stage.out_channels == self.stages[index - 1].out_channels
            if same and stage.blocks[0].kind == "inverted_residual":
                groups[-1] = (*groups[-1], index)
            else:
                groups.append((index,))
        return tuple(groups)

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no white space, the schema version; fields that have their default left out."""
        content = {"version": SCHEMA_VERSION, **without_defaults(self)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Architecture":
        """Read a spec.

        Raises:
            InvalidArchitecture: the text is no JSON, has another version, or a field is missing, unknown or wrong.
        """
        from pydantic import ValidationError

        content = json_object(text)
        version = content.pop("version", None)
        if version != SCHEMA_VERSION or type(version) is not int:
            raise InvalidArchitecture(
                f"the spec has version {version!r}; this mobilenas reads version {SCHEMA_VERSION}: export it again"
            )
        try:
            found = _adapter().validate_json(json.dumps(content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "spec"
            raise InvalidArchitecture(f"{where}: {first['msg'].removeprefix('Value error, ')}") from error
        _refuse_switches(content, "")
        return found


# What is true or false in a spec; everywhere else pydantic takes true for a choice of 1.
_SWITCHES = ("use_se", "hidden_bias")


def _refuse_switches(content: object, where: str) -> None:
    """See that true and false stand for nothing but switches.

    Raises:
        InvalidArchitecture: one stands for a number.
    """
    if isinstance(content, bool) and where.rpartition(".")[2] not in _SWITCHES:
        raise InvalidArchitecture(f"{where}: {str(content).lower()} is no number; give one")
    parts = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, part in parts:
        _refuse_switches(part, f"{where}.{name}".removeprefix("."))


@cache
def _adapter() -> "TypeAdapter[Architecture]":
    # pydantic costs 0.1 s to import and some ms to build; only readers of specs pay for it, once.
    from pydantic import TypeAdapter

    return TypeAdapter(Architecture)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a spec; docs/architecture.schema.json holds it for others."""
    schema = _adapter().json_schema()
    properties = {"version": {"const": SCHEMA_VERSION, "type": "integer"}, **schema["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mobilenas architecture",
        **{key: value for key, value in schema.items() if key != "title"},
        "properties": properties,
        "required": ["version", *schema["required"]],
    }
