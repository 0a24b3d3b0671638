"""Search spaces as data: per stage the choices of kernel, expansion, squeeze-and-excite, activation, depth, width.

All blocks of a stage share their choices, as in MnasNet (Tan et al. 2019, factorised hierarchical search space).
Choices are ratios; `SearchSpace` turns them into the absolute widths of an `Architecture`.
"""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from space.arch import Activation, Architecture, Block, Head, Stage, Stem, make_divisible
from space.errors import InvalidArchitecture, InvalidSpace
from space.keys import BlockKey, HeadKey, halved, head_key, keys_of, stage_keys, stem_key
from space.reference import REFERENCES

Params = Mapping[str, float | int | str | bool | None]

_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStyle:
    """What all blocks of a stage share; `expansion` 1 means no expansion layer, as in the published tables."""

    kernel: Literal[3, 5, 7]
    expansion: float
    se: bool
    activation: Activation

    def block(self, in_channels: int) -> Block:
        """The block of this style that follows `in_channels`."""
        return Block(
            kernel_size=self.kernel,
            expanded_channels=None if self.expansion == 1 else make_divisible(in_channels * self.expansion),
            use_se=self.se,
            activation=self.activation,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChoices:
    """The choices of one stage; `width` are ratios of `channels`, `expansion` ratios of a block's input width."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    channels: int
    stride: Literal[1, 2]
    depth: tuple[int, ...]
    width: tuple[float, ...]
    kernel: tuple[Literal[3, 5, 7], ...]
    expansion: tuple[float, ...]
    se: tuple[bool, ...]
    activation: tuple[Activation, ...]

    def __post_init__(self) -> None:
        for name in ("depth", "width", "kernel", "expansion", "se", "activation"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InvalidSpace(f"{name} is {list(values)}; give one or more different choices")
        for name, low, high in (("depth", 1, 32), ("width", 0.01, 16), ("expansion", 1, 16)):
            for value in getattr(self, name):
                if not low <= value <= high:
                    raise InvalidSpace(f"{name} {value} must lie between {low} and {high}")
        if not 1 <= self.channels <= 4096:
            raise InvalidSpace(f"channels is {self.channels}; it must lie between 1 and 4096")

    def styles(self) -> Iterator[BlockStyle]:
        """Every combination of kernel, expansion, squeeze-and-excite and activation."""
        for kernel, expansion, se, activation in itertools.product(
            self.kernel, self.expansion, self.se, self.activation
        ):
            yield BlockStyle(kernel=kernel, expansion=expansion, se=se, activation=activation)

    def widths(self, multiplier: float) -> tuple[int, ...]:
        """The absolute output widths, ascending; ratios that round to the same width count once."""
        return tuple(sorted({make_divisible(self.channels * multiplier * ratio) for ratio in self.width}))


@dataclass(frozen=True, slots=True, kw_only=True)
class StemChoice:
    """The stem is not searched."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    channels: int
    stride: Literal[1, 2]
    activation: Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class SpacePreset:
    """A search space as its YAML file has it, before width multiplier, resolution and data are known."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    name: str
    reference: str
    reward_exponent: float
    stem: StemChoice
    stages: tuple[StageChoices, ...]
    head: Head

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise InvalidSpace(f"reference {self.reference!r} is unknown; choose one of {', '.join(REFERENCES)}")
        if not -10 <= self.reward_exponent <= 0:
            raise InvalidSpace(f"reward_exponent is {self.reward_exponent}; it must lie between -10 and 0")
        if not 1 <= len(self.stages) <= 16:
            raise InvalidSpace(f"a space needs 1 to 16 stages, got {len(self.stages)}")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A preset at one width multiplier, resolution (px) and kind of data; everything that a search can reach."""

    preset: SpacePreset
    width: float
    resolution: int
    in_channels: int
    num_classes: int

    def __post_init__(self) -> None:
        if not 0.05 <= self.width <= 4:
            raise InvalidSpace(f"width multiplier is {self.width}; it must lie between 0.05 and 4")
        try:
            # The largest member: no other can have a width or depth beyond what an architecture may have.
            self.architecture({name: max(choices) for name, choices in self.parameters.items()})
        except InvalidArchitecture as error:
            raise InvalidSpace(f"space '{self.preset.name}': {error}") from error

    @cached_property
    def scope(self) -> str:
        """A content hash: equal scopes reach equal blocks."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def stem(self) -> Stem:
        """The stem of every member."""
        stem = self.preset.stem
        return Stem(
            out_channels=make_divisible(stem.channels * self.width), stride=stem.stride, activation=stem.activation
        )

    @property
    def head(self) -> Head:
        """The head of every member."""
        head = self.preset.head
        return Head(
            conv_channels=make_divisible(head.conv_channels * self.width),
            hidden_channels=make_divisible(head.hidden_channels * self.width),
            activation=head.activation,
        )

    @property
    def reference(self) -> Architecture:
        """The published network that the space surrounds; its widths need not lie on the space's grid."""
        return REFERENCES[self.preset.reference](
            width=self.width,
            resolution=self.resolution,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
        )

    @cached_property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """The flat parameters of a search and their choices: "stage1.kernel" and so on."""
        flat: dict[str, tuple[Any, ...]] = {}
        for number, stage in enumerate(self.preset.stages, start=1):
            choices = {
                "depth": stage.depth,
                "channels": stage.widths(self.width),
                "kernel": stage.kernel,
                "expansion": stage.expansion,
                "se": stage.se,
                "activation": stage.activation,
            }
            flat |= {f"stage{number}.{name}": values for name, values in choices.items()}
        return flat

    def stage(self, number: int, in_channels: int, out_channels: int, depth: int, style: BlockStyle) -> Stage:
        """Stage `number` (from 1) with the given choices, following `in_channels`."""
        rest = (style.block(out_channels),) * (depth - 1)
        return Stage(
            out_channels=out_channels,
            stride=self.preset.stages[number - 1].stride,
            blocks=(style.block(in_channels), *rest),
        )

    def with_stages(self, stages: tuple[Stage, ...]) -> Architecture:
        """A network of these stages with this space's stem and head."""
        return Architecture(
            resolution=self.resolution,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            stem=self.stem,
            stages=stages,
            head=self.head,
        )

    def architecture(self, params: Params) -> Architecture:
        """The member that flat parameters stand for."""
        stages: list[Stage] = []
        channels = self.stem.out_channels
        for number in range(1, len(self.preset.stages) + 1):
            chosen: dict[str, Any] = {name: params[f"stage{number}.{name}"] for name in _STAGE_PARAMETERS}
            depth, out_channels = chosen.pop("depth"), chosen.pop("channels")
            stages.append(self.stage(number, channels, out_channels, depth, BlockStyle(**chosen)))
            channels = out_channels
        return self.with_stages(tuple(stages))

    def params_of(self, arch: Architecture) -> dict[str, Any] | None:
        """The flat parameters of an architecture, or None where it is no member."""
        params: dict[str, Any] = {}
        channels = self.stem.out_channels
        if len(arch.stages) != len(self.preset.stages):
            return None
        for number, (stage, choices) in enumerate(zip(arch.stages, self.preset.stages, strict=True), start=1):
            shape = (stage.out_channels, len(stage.blocks))
            style = next(
                (style for style in choices.styles() if self.stage(number, channels, *shape, style) == stage), None
            )
            if style is None or stage.out_channels not in choices.widths(self.width) or shape[1] not in choices.depth:
                return None
            values = {"depth": shape[1], "channels": shape[0], **asdict(style)}
            params |= {f"stage{number}.{name}": value for name, value in values.items()}
            channels = stage.out_channels
        return params if self.architecture(params) == arch else None

    def __contains__(self, arch: Architecture) -> bool:
        return self.params_of(arch) is not None

    def sample(self, rng: random.Random) -> Architecture:
        """A member drawn uniformly over the flat parameters."""
        return self.architecture({name: rng.choice(choices) for name, choices in self.parameters.items()})

    @property
    def size(self) -> int:
        """How many combinations of choices there are."""
        return math.prod(len(choices) for choices in self.parameters.values())

    @property
    def stage_resolutions(self) -> tuple[int, ...]:
        """The input side of every stage, and of the head, in pixels."""
        strides = (self.preset.stem.stride, *(stage.stride for stage in self.preset.stages))
        return tuple(itertools.accumulate(strides, halved, initial=self.resolution))[1:]

    def stage_options(self, number: int, in_channels: int, out_channels: int) -> Iterator[Stage]:
        """Every form of stage `number` (from 1) between two widths."""
        choices = self.preset.stages[number - 1]
        for depth, style in itertools.product(choices.depth, choices.styles()):
            yield self.stage(number, in_channels, out_channels, depth, style)

    def widths_before(self, number: int) -> tuple[int, ...]:
        """The possible input widths of stage `number` (from 1), or of the head behind the last stage."""
        return (self.stem.out_channels,) if number == 1 else self.preset.stages[number - 2].widths(self.width)

    def reachable_keys(self) -> tuple[BlockKey, ...]:
        """Every block that a member, or the reference, is made of, once each."""
        found: dict[BlockKey, None] = dict.fromkeys(keys_of(self.reference))
        found[stem_key(self.stem, resolution=self.resolution, in_channels=self.in_channels)] = None
        stages = len(self.preset.stages)
        for number in range(1, stages + 1):
            resolution = self.stage_resolutions[number - 1]
            for in_channels, out_channels in itertools.product(
                self.widths_before(number), self.widths_before(number + 1)
            ):
                for stage in self.stage_options(number, in_channels, out_channels):
                    found |= dict.fromkeys(stage_keys(stage, resolution=resolution, in_channels=in_channels))
        for in_channels in self.widths_before(stages + 1):
            found[self.head_key(in_channels)] = None
        return tuple(found)

    def head_key(self, in_channels: int) -> HeadKey:
        """The head behind a last stage of `in_channels`."""
        return head_key(
            self.head,
            resolution=self.stage_resolutions[-1],
            in_channels=in_channels,
            num_classes=self.num_classes,
        )


_STAGE_PARAMETERS = ("depth", "channels", "kernel", "expansion", "se", "activation")


def preset_names() -> tuple[str, ...]:
    """The names of the shipped presets."""
    return tuple(sorted(entry.name[:-5] for entry in files("space").joinpath("presets").iterdir()))


def load_preset(name: str) -> SpacePreset:
    """A shipped preset by name, or a YAML file by path.

    Raises:
        InvalidSpace: there is no such preset or file, or a field of it is missing, unknown or wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    from space.plain_yaml import NotPlainYaml, read_plain_yaml

    if name in preset_names():
        text = files("space").joinpath("presets", f"{name}.yaml").read_bytes()
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        text = Path(name).read_bytes()
    else:
        raise InvalidSpace(f"no search space {name!r}; give a YAML file or one of {', '.join(preset_names())}")
    try:
        # By way of JSON, since strict validation takes a list for a tuple only there.
        return TypeAdapter(SpacePreset).validate_json(json.dumps(read_plain_yaml(text)))
    except (NotPlainYaml, TypeError) as error:
        raise InvalidSpace(f"search space {name!r} is not plain YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSpace(f"search space {name!r}: {where}: {first['msg'].removeprefix('Value error, ')}") from error
