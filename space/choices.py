"""A search space: everything that a search can reach, and every question that samplers and tables ask about it."""

import bisect
import hashlib
import itertools
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from space.arch import Architecture, Block, Head, Stage, Stem, make_divisible, without_defaults
from space.errors import InvalidArchitecture, InvalidSpace
from space.keys import BlockKey, HeadKey, halved, head_key, keys_of, stage_keys, stem_key
from space.preset import BlockStyle, SpacePreset, read_preset
from space.reference import REFERENCES

Params = Mapping[str, float | int | str | bool | None]

# Measuring as many would take a device most of an hour.
MAX_BLOCKS = 20_000

_STYLE = ("kernel", "expansion", "se", "activation")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """A preset at one width multiplier, resolution (px) and kind of data.

    A member is chosen by flat parameters: per stage its depth and width ("stage1.depth", "stage1.channels"), and the
    style of all its blocks ("stage1.kernel") or, where blocks are free, of each ("stage1.block1.kernel"); those of
    blocks beyond the depth are passed over. Two choices can stand for one member, since widths are rounded: sizes
    and samples count members.
    """

    preset: SpacePreset
    width: float
    resolution: int
    in_channels: int
    num_classes: int

    def __post_init__(self) -> None:
        if not 0.05 <= self.width <= 4:
            raise InvalidSpace(f"width multiplier is {self.width}; it must lie between 0.05 and 4")
        object.__setattr__(self, "width", float(self.width))  # 1 is 1.0, also in a hash
        try:
            # The largest member: no other can have a width or depth beyond what an architecture may have.
            self.architecture({name: max(choices) for name, choices in self.parameters.items()})
        except InvalidArchitecture as error:
            raise InvalidSpace(f"space '{self.preset.name}': {error}") from error
        blocks = sum(
            len(self.widths_before(number)) * len(self.widths_before(number + 1)) * sum(1 for _ in stage.styles())
            for number, stage in enumerate(self.preset.stages, start=1)
        )
        if blocks > MAX_BLOCKS:
            raise InvalidSpace(
                f"space '{self.preset.name}' has some {blocks:,} blocks to measure; at most {MAX_BLOCKS:,} are accepted"
            )

    @cached_property
    def _memory(self) -> dict[Any, Any]:
        """What `block_options` and its kin have worked out; sampling asks for it again and again."""
        return {}

    def to_plain(self) -> dict[str, Any]:
        """Plain JSON that says everything; `from_plain` reads it."""
        return {
            "preset": without_defaults(self.preset),
            "width": self.width,
            "resolution": self.resolution,
            "in_channels": self.in_channels,
            "num_classes": self.num_classes,
        }

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "SearchSpace":
        """A space from plain JSON, which may come from outside.

        Raises:
            InvalidSpace: it says no space.
        """
        try:
            sizes = {name: content[name] for name in ("resolution", "in_channels", "num_classes")}
            width = content["width"]
            if set(content) != {"preset", "width", *sizes} or any(type(size) is not int for size in sizes.values()):
                raise InvalidSpace("a space has preset, width, resolution, in_channels and num_classes")
            if type(width) not in (int, float):
                raise InvalidSpace(f"width multiplier is {str(width)[:40]!r}; it must be a number")
            return cls(preset=read_preset(content["preset"], "in the file"), width=width, **sizes)
        except (KeyError, TypeError) as error:
            raise InvalidSpace(f"no search space ({type(error).__name__}: {error})") from error

    @cached_property
    def scope(self) -> str:
        """A content hash: equal scopes reach equal blocks."""
        return hashlib.sha256(json.dumps(self.to_plain(), sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def stem(self) -> Stem:
        """The stem of every member."""
        stem = self.preset.stem
        return Stem(
            out_channels=make_divisible(stem.channels * self.width), stride=stem.stride, activation=stem.activation
        )

    @cached_property
    def head(self) -> Head:
        """The head of every member."""
        head = self.preset.head

        def scaled(width: int | None) -> int | None:
            return None if width is None else make_divisible(width * self.width)

        return Head(
            conv_channels=scaled(head.conv_channels),
            hidden_channels=scaled(head.hidden_channels),
            activation=head.activation,
            hidden_bias=head.hidden_bias,
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

    @property
    def smallest(self) -> Architecture:
        """The member of the smallest choice of everything: none has fewer multiply-adds, parameters or activations."""
        return self.architecture({name: min(choices) for name, choices in self.parameters.items()})

    @property
    def largest(self) -> Architecture:
        """The member of the largest choice of everything."""
        return self.architecture({name: max(choices) for name, choices in self.parameters.items()})

    # The flat parameters, and the members that they stand for.

    @cached_property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """The flat parameters of a search and their choices: "stage1.kernel" and so on."""
        flat: dict[str, tuple[Any, ...]] = {}
        for number, stage in enumerate(self.preset.stages, start=1):
            flat |= {f"stage{number}.depth": stage.depth, f"stage{number}.channels": stage.widths(self.width)}
            for prefix in self._style_prefixes(number):
                flat |= {f"{prefix}.{name}": getattr(stage, name) for name in _STYLE}
        return flat

    def _style_prefixes(self, number: int) -> tuple[str, ...]:
        stage = self.preset.stages[number - 1]
        if stage.blocks == "alike":
            return (f"stage{number}",)
        return tuple(f"stage{number}.block{position}" for position in range(1, max(stage.depth) + 1))

    def architecture(self, params: Params) -> Architecture:
        """The member that flat parameters stand for."""
        stages: list[Stage] = []
        channels = self.stem.out_channels
        for number in range(1, len(self.preset.stages) + 1):
            depth: Any = params[f"stage{number}.depth"]
            out_channels: Any = params[f"stage{number}.channels"]
            chosen: list[dict[str, Any]] = [
                {name: params[f"{prefix}.{name}"] for name in _STYLE} for prefix in self._style_prefixes(number)[:depth]
            ]
            styles = [BlockStyle(**style) for style in chosen]
            if len(styles) < depth:
                styles *= depth
            stages.append(self.stage(number, channels, out_channels, styles))
            channels = out_channels
        return self.with_stages(tuple(stages))

    def stage(self, number: int, in_channels: int, out_channels: int, styles: list[BlockStyle]) -> Stage:
        """Stage `number` (from 1) of blocks with the given styles, following `in_channels`."""
        inputs = (in_channels, *(out_channels,) * (len(styles) - 1))
        squeeze = self.preset.squeeze
        return Stage(
            out_channels=out_channels,
            stride=self.preset.stages[number - 1].stride,
            blocks=tuple(style.block(width, squeeze) for style, width in zip(styles, inputs, strict=True)),
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
            batch_norm_epsilon=self.preset.batch_norm_epsilon,
        )

    def why_not(self, arch: Architecture) -> str | None:
        """Why an architecture is no member, or None where it is one."""
        frame = {name: getattr(self, name) for name in ("resolution", "in_channels", "num_classes", "stem", "head")}
        for name, expected in (*frame.items(), ("batch_norm_epsilon", self.preset.batch_norm_epsilon)):
            found = getattr(arch, name)
            if found != expected:
                return f"{name} is {_plain(found)}; in this space it is {_plain(expected)}"
        if len(arch.stages) != len(self.preset.stages):
            return f"it has {len(arch.stages)} stages; this space has {len(self.preset.stages)}"
        channels = self.stem.out_channels
        for number, stage in enumerate(arch.stages, start=1):
            if not self._has_stage(number, channels, stage):
                return self._why_not_stage(number, channels, stage)
            channels = stage.out_channels
        return None

    def _has_stage(self, number: int, in_channels: int, stage: Stage) -> bool:
        choices = self.preset.stages[number - 1]
        if stage.out_channels not in choices.widths(self.width) or stage.stride != choices.stride:
            return False
        if choices.blocks == "alike":
            return stage in self.alike_options(number, in_channels, stage.out_channels)
        first, *rest = stage.blocks
        after = self.block_options(number, stage.out_channels)
        known = first in self.block_options(number, in_channels) and all(block in after for block in rest)
        return known and len(stage.blocks) in choices.depth

    def _why_not_stage(self, number: int, in_channels: int, stage: Stage) -> str:
        choices = self.preset.stages[number - 1]
        widths, depth = choices.widths(self.width), len(stage.blocks)
        for name, found, accepted in (
            ("out_channels", stage.out_channels, widths),
            ("stride", stage.stride, (choices.stride,)),
            ("depth", depth, choices.depth),
        ):
            if found not in accepted:
                return f"stage {number}: {name} is {found}; choices are {_plain(accepted)}"
        for position, block in enumerate(stage.blocks, start=1):
            width = in_channels if position == 1 else stage.out_channels
            options = self.block_options(number, width)
            if block in options:
                continue
            for name in (field.name for field in fields(Block)):
                # dict.fromkeys keeps the order of the choices, which a set would not.
                accepted = tuple(dict.fromkeys(getattr(option, name) for option in options))
                if getattr(block, name) not in accepted:
                    found = getattr(block, name)
                    return f"stage {number}, block {position}: {name} is {found}; choices are {_plain(accepted)}"
            return f"stage {number}, block {position}: no block of this space combines these values"
        return f"stage {number}: its blocks have different styles; in this space they are alike"

    def __contains__(self, arch: Architecture) -> bool:
        return self.why_not(arch) is None

    def params_of(self, arch: Architecture) -> dict[str, Any] | None:
        """The flat parameters of an architecture, or None where it is no member.

        Of several that stand for it, the ones whose choices come first; of blocks beyond the depth the first choices.
        """
        if arch not in self:
            return None
        params: dict[str, Any] = {}
        channels = self.stem.out_channels
        for number, stage in enumerate(arch.stages, start=1):
            choices = self.preset.stages[number - 1]
            params |= {f"stage{number}.depth": len(stage.blocks), f"stage{number}.channels": stage.out_channels}
            styles = self._styles_of(number, channels, stage)
            padding = [next(choices.styles())] * len(self._style_prefixes(number))
            for prefix, style in zip(self._style_prefixes(number), styles + padding, strict=False):
                params |= {f"{prefix}.{name}": value for name, value in asdict(style).items()}
            channels = stage.out_channels
        return params

    def _styles_of(self, number: int, in_channels: int, stage: Stage) -> list[BlockStyle]:
        choices = self.preset.stages[number - 1]
        if choices.blocks == "alike":
            return [self.alike_options(number, in_channels, stage.out_channels)[stage]]
        widths = (in_channels, *(stage.out_channels,) * (len(stage.blocks) - 1))
        pairs = zip(stage.blocks, widths, strict=True)
        return [self.block_options(number, width)[block] for block, width in pairs]

    # Its extent.

    def block_options(self, number: int, in_channels: int) -> dict[Block, BlockStyle]:
        """The blocks of stage `number` (from 1) behind `in_channels`, each with the first style that makes it."""
        key = (number, in_channels)
        if key not in self._memory:
            options: dict[Block, BlockStyle] = {}
            for style in self.preset.stages[number - 1].styles():
                options.setdefault(style.block(in_channels, self.preset.squeeze), style)
            self._memory[key] = options
        found: dict[Block, BlockStyle] = self._memory[key]
        return found

    def alike_options(self, number: int, in_channels: int, out_channels: int) -> dict[Stage, BlockStyle]:
        """The forms of stage `number` (from 1), whose blocks are alike, each with the first style that makes it."""
        key = (number, in_channels, out_channels)
        if key not in self._memory:
            choices = self.preset.stages[number - 1]
            forms: dict[Stage, BlockStyle] = {}
            for depth, style in itertools.product(choices.depth, choices.styles()):
                forms.setdefault(self.stage(number, in_channels, out_channels, [style] * depth), style)
            self._memory[key] = forms
        found: dict[Stage, BlockStyle] = self._memory[key]
        return found

    def stage_options(self, number: int, in_channels: int, out_channels: int) -> Iterator[Stage]:
        """Every form of stage `number` (from 1) between two widths, once each; of free blocks there can be millions."""
        choices = self.preset.stages[number - 1]
        if choices.blocks == "alike":
            yield from self.alike_options(number, in_channels, out_channels)
            return
        first, rest = self.block_options(number, in_channels), self.block_options(number, out_channels)
        for depth in choices.depth:
            for blocks in itertools.product(first, *(rest,) * (depth - 1)):
                yield Stage(out_channels=out_channels, stride=choices.stride, blocks=blocks)

    def stage_forms(self, number: int, in_channels: int, out_channels: int) -> int:
        """How many forms stage `number` (from 1) has between two widths."""
        if self.preset.stages[number - 1].blocks == "alike":
            return len(self.alike_options(number, in_channels, out_channels))
        return sum(self._free_forms(number, in_channels, out_channels))

    def _free_forms(self, number: int, in_channels: int, out_channels: int) -> tuple[int, ...]:
        """How many forms a stage of free blocks has, per depth."""
        first = len(self.block_options(number, in_channels))
        rest = len(self.block_options(number, out_channels))
        return tuple(first * rest ** (depth - 1) for depth in self.preset.stages[number - 1].depth)

    @cached_property
    def _tails(self) -> tuple[dict[int, int], ...]:
        """Per stage (and behind the last): how many ways there are to go on from each input width."""
        tails = [dict.fromkeys(self.widths_before(len(self.preset.stages) + 1), 1)]
        for number in range(len(self.preset.stages), 0, -1):
            after = tails[0]
            ways = {
                width: sum(self.stage_forms(number, width, out) * count for out, count in after.items())
                for width in self.widths_before(number)
            }
            tails.insert(0, ways)
        return tuple(tails)

    def ways_on(self, number: int, in_channels: int) -> tuple[int, ...]:
        """Per output width of stage `number` (from 1): how many ways lead from `in_channels` over it to the end."""
        after = self._tails[number]
        outs = self.widths_before(number + 1)
        return tuple(self.stage_forms(number, in_channels, out) * after[out] for out in outs)

    @property
    def size(self) -> int:
        """How many members there are, exactly."""
        return self._tails[0][self.stem.out_channels]

    def sample(self, rng: random.Random) -> Architecture:
        """A member, each as likely as any other."""
        stages: list[Stage] = []
        channels = self.stem.out_channels
        for number in range(1, len(self.preset.stages) + 1):
            out = self._next_width(number, channels, rng)
            stages.append(self._sample_stage(number, channels, out, rng))
            channels = out
        return self.with_stages(tuple(stages))

    def _next_width(self, number: int, in_channels: int, rng: random.Random) -> int:
        key = ("next", number, in_channels)
        if key not in self._memory:
            ways = itertools.accumulate(self.ways_on(number, in_channels))
            self._memory[key] = (self.widths_before(number + 1), list(ways))
        widths, ways = self._memory[key]
        return int(widths[_weighted(ways, rng)])

    def _sample_stage(self, number: int, in_channels: int, out_channels: int, rng: random.Random) -> Stage:
        choices = self.preset.stages[number - 1]
        key = ("forms", number, in_channels, out_channels)
        if choices.blocks == "alike":
            if key not in self._memory:
                self._memory[key] = tuple(self.alike_options(number, in_channels, out_channels))
            forms: tuple[Stage, ...] = self._memory[key]
            return rng.choice(forms)
        if key not in self._memory:
            options = (tuple(self.block_options(number, width)) for width in (in_channels, out_channels))
            ways = list(itertools.accumulate(self._free_forms(number, in_channels, out_channels)))
            self._memory[key] = (*options, ways)
        first, rest, ways = self._memory[key]
        depth = choices.depth[_weighted(ways, rng)]
        blocks = (rng.choice(first), *(rng.choice(rest) for _ in range(depth - 1)))
        return Stage(out_channels=out_channels, stride=choices.stride, blocks=blocks)

    # The measurable blocks.

    @cached_property
    def stage_resolutions(self) -> tuple[int, ...]:
        """The input side of every stage, and of the head, in pixels."""
        strides = (self.preset.stem.stride, *(stage.stride for stage in self.preset.stages))
        return tuple(itertools.accumulate(strides, halved, initial=self.resolution))[1:]

    def widths_before(self, number: int) -> tuple[int, ...]:
        """The possible input widths of stage `number` (from 1), or of the head behind the last stage."""
        return (self.stem.out_channels,) if number == 1 else self.preset.stages[number - 2].widths(self.width)

    def reachable_keys(self) -> tuple[BlockKey, ...]:
        """Every block that a member, or the reference, is made of, once each."""
        found: dict[BlockKey, None] = dict.fromkeys(keys_of(self.reference))
        found[stem_key(self.stem, resolution=self.resolution, in_channels=self.in_channels)] = None
        stages = len(self.preset.stages)
        for number, choices in enumerate(self.preset.stages, start=1):
            resolution, after = self.stage_resolutions[number - 1 : number + 1]
            for in_channels, out_channels in itertools.product(
                self.widths_before(number), self.widths_before(number + 1)
            ):
                for block in self.block_options(number, in_channels):
                    first = Stage(out_channels=out_channels, stride=choices.stride, blocks=(block,))
                    found |= dict.fromkeys(stage_keys(first, resolution=resolution, in_channels=in_channels))
                if max(choices.depth) == 1:
                    continue
                for block in self.block_options(number, out_channels):
                    later = Stage(out_channels=out_channels, stride=1, blocks=(block,))
                    found |= dict.fromkeys(stage_keys(later, resolution=after, in_channels=out_channels))
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


def _weighted(cumulative: list[int], rng: random.Random) -> int:
    """An index, as likely as its weight; exact for weights that no float holds."""
    return bisect.bisect_right(cumulative, rng.randrange(cumulative[-1]))


def _plain(value: Any) -> str:  # noqa: ANN401 - what a space's choices are made of
    """A value, or the choices for one, as a person would write it."""
    if isinstance(value, tuple):
        return ", ".join(map(_plain, value))
    if is_dataclass(value):
        return json.dumps(without_defaults(value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
