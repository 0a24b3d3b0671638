"""Search spaces as data: what a YAML file says, before width multiplier, resolution and data are known."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from space.arch import DEFAULT_EPSILON, EPSILON, Activation, Block, Head, make_divisible
from space.errors import InvalidSpace
from space.reference import REFERENCES, mnasnet_squeeze

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SqueezeRule = Literal["mobilenetv3", "mnasnet"]

# A space comes from outside: as many choices as anyone needs, few enough to list all blocks.
MAX_CHOICES = 16

_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockStyle:
    """The choices of one block; `expansion` 1 means no expansion layer, as in the published tables."""

    kernel: Literal[3, 5, 7]
    expansion: float
    se: bool
    activation: Activation

    def block(self, in_channels: int, squeeze: SqueezeRule = "mobilenetv3") -> Block:
        """The block of this style that follows `in_channels`."""
        return _block(self, in_channels, squeeze)


# Thousands of networks consist of a few hundred different blocks; they share them.
@lru_cache(maxsize=4096)
def _block(style: BlockStyle, in_channels: int, squeeze: SqueezeRule) -> Block:
    mnasnet = style.se and squeeze == "mnasnet"
    expanded = None if style.expansion == 1 else make_divisible(in_channels * style.expansion)
    return Block(
        kernel_size=style.kernel,
        expanded_channels=expanded,
        use_se=style.se,
        activation=style.activation,
        squeeze_channels=mnasnet_squeeze(in_channels, expanded or in_channels) if mnasnet else None,
        gate="sigmoid" if mnasnet else "hard_sigmoid",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChoices:
    """The choices of one stage; `width` are ratios of `channels`, `expansion` ratios of a block's input width.

    All blocks of a stage are alike, as in MnasNet (Tan et al. 2019, factorised hierarchical search space), or each
    one is free to differ, as in Once-for-All (Cai et al. 2020).
    """

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    channels: int
    stride: Literal[1, 2]
    depth: tuple[int, ...]
    width: tuple[float, ...]
    kernel: tuple[Literal[3, 5, 7], ...]
    expansion: tuple[float, ...]
    se: tuple[bool, ...]
    activation: tuple[Activation, ...]
    blocks: Literal["alike", "free"] = "alike"

    def __post_init__(self) -> None:
        for name in ("depth", "width", "kernel", "expansion", "se", "activation"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values) or len(values) > MAX_CHOICES:
                raise InvalidSpace(f"{name} is {list(values)}; give 1 to {MAX_CHOICES} different choices")
        for name, low, high in (("depth", 1, 32), ("width", 0.01, 16), ("expansion", 1, 16)):
            for value in getattr(self, name):
                if not low <= value <= high:
                    raise InvalidSpace(f"{name} {value} must lie between {low} and {high}")
        # Written as 1 or as 1.0 it is the same choice, and the same content of a hash.
        for name in ("width", "expansion"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
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
    """A search space as its YAML file has it."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT
    name: str
    reference: str
    reward_exponent: float
    stem: StemChoice
    stages: tuple[StageChoices, ...]
    head: Head
    squeeze: SqueezeRule = "mobilenetv3"
    """mobilenetv3 squeezes to a quarter of the expansion, with a hard sigmoid; mnasnet of the input, with a sigmoid."""
    batch_norm_epsilon: float = DEFAULT_EPSILON

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise InvalidSpace(f"reference {self.reference!r} is unknown; choose one of {', '.join(REFERENCES)}")
        if not -10 <= self.reward_exponent <= 0:
            raise InvalidSpace(f"reward_exponent is {self.reward_exponent}; it must lie between -10 and 0")
        if not EPSILON.low <= self.batch_norm_epsilon <= EPSILON.high:
            raise InvalidSpace(
                f"batch_norm_epsilon is {self.batch_norm_epsilon}; it must lie between {EPSILON.low} and {EPSILON.high}"
            )
        if not 1 <= len(self.stages) <= 16:
            raise InvalidSpace(f"a space needs 1 to 16 stages, got {len(self.stages)}")

    def as_in_0_1(self) -> "SpacePreset":
        """The same as version 0.1 had it, whose networks all had one epsilon and a bias in the hidden layer."""
        return replace(self, head=replace(self.head, hidden_bias=True), batch_norm_epsilon=DEFAULT_EPSILON)


def preset_names() -> tuple[str, ...]:
    """The names of the shipped presets."""
    return tuple(sorted(entry.name[:-5] for entry in _presets().iterdir()))


def _presets() -> "Traversable":
    from importlib.resources import files  # takes 6 ms, which readers of specs need not pay

    return files("space").joinpath("presets")


def load_preset(name: str) -> SpacePreset:
    """A shipped preset by name, or a YAML file by path.

    Raises:
        InvalidSpace: there is no such preset or file, or a field of it is missing, unknown or wrong.
    """
    from space.plain_yaml import NotPlainYaml, read_plain_yaml

    if name in preset_names():
        text = _presets().joinpath(f"{name}.yaml").read_bytes()
    elif name.endswith((".yaml", ".yml")) and Path(name).is_file():
        text = Path(name).read_bytes()
    else:
        raise InvalidSpace(f"no search space {name!r}; give a YAML file or one of {', '.join(preset_names())}")
    try:
        content = read_plain_yaml(text)
    except NotPlainYaml as error:
        raise InvalidSpace(f"search space {name!r} is not plain YAML: {error}") from error
    return read_preset(_with_switches(content), repr(name))


def _with_switches(content: Any) -> Any:  # noqa: ANN401 - what a file holds
    """The same with `se: on` and the like as truth values."""
    from space.plain_yaml import as_meant

    if isinstance(content, list):
        return [_with_switches(item) for item in content]
    if not isinstance(content, dict):
        return content
    changed = {key: _with_switches(value) for key, value in content.items()}
    if "se" in changed:
        value = changed["se"]
        one = as_meant(value, switch=True)
        changed["se"] = [as_meant(each, switch=True) for each in value] if isinstance(value, list) else one
    return changed


def read_preset(content: Any, where: str) -> SpacePreset:  # noqa: ANN401 - what a file holds
    """A preset from plain values.

    Raises:
        InvalidSpace: a field is missing, unknown or wrong.
    """
    from space.plain_yaml import NotPlainYaml, NotValid, validated

    try:
        return validated(SpacePreset, content)
    except NotValid as error:
        raise InvalidSpace(f"search space {where}: {error}") from error
    except NotPlainYaml as error:
        raise InvalidSpace(f"search space {where} is not plain YAML: {error}") from error
