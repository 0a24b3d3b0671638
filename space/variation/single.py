"""Moves within a search space: mutation and crossover that stay inside, and the member closest to a stranger."""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from space.arch import Architecture, Block, Stage
from space.choices import SearchSpace
from space.errors import InvalidArchitecture


def _params(space: SearchSpace, arch: Architecture) -> dict[str, Any]:
    params = space.params_of(arch)
    if params is None:
        raise InvalidArchitecture(f"{arch.arch_id} is not in space '{space.preset.name}': {space.why_not(arch)}")
    return params


def _is_active(params: dict[str, Any], name: str) -> bool:
    """Whether a parameter says anything: that of a free block does so up to its stage's depth."""
    stage, _, rest = name.partition(".")
    position = rest.removeprefix("block").partition(".")[0]
    return not position.isdecimal() or int(position) <= params[f"{stage}.depth"]


def mutate(space: SearchSpace, arch: Architecture, rng: random.Random, *, rate: float | None = None) -> Architecture:
    """Another member, in which at least one flat parameter has another choice.

    Each parameter changes with probability `rate`, by default one of them on average; blocks that a larger depth adds
    are drawn anew. The only member of a space is returned as it is.

    Raises:
        InvalidArchitecture: the architecture is no member.
    """
    params = _params(space, arch)
    if space.size == 1:
        return arch
    open_names = [name for name, choices in space.parameters.items() if len(choices) > 1]
    active = [name for name in open_names if _is_active(params, name)]
    while True:
        chance = 1 / len(active) if rate is None else rate
        changed = {name for name in active if rng.random() < chance} or {rng.choice(active)}
        child = dict(params)
        for name in open_names:
            if name in changed:
                child[name] = rng.choice([value for value in space.parameters[name] if value != params[name]])
            elif name not in active:
                child[name] = rng.choice(space.parameters[name])
        found = space.architecture(child)
        if found != arch:  # different choices can round to the same widths
            return found


def crossover(space: SearchSpace, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
    """A member that takes each flat parameter from one of two members, each with probability one half.

    Raises:
        InvalidArchitecture: one of them is no member.
    """
    first, second = _params(space, one), _params(space, other)
    child: dict[str, Any] = {}
    for name in space.parameters:
        # A block that only one parent has is that parent's: the other has nothing to say about it.
        parents = [params for params in (first, second) if _is_active(params, name)] or [first]
        child[name] = rng.choice(parents)[name]
    return space.architecture(child)


@dataclass(frozen=True, slots=True)
class _Chain:
    distance: float
    stages: tuple[Stage, ...]


def _ratio(one: int, other: int) -> float:
    return abs(math.log2(one / other))


def _block_distance(one: Block, one_in: int, other: Block, other_in: int) -> float:
    """Octaves between the expanded widths, half the difference in kernel size, and 1 per other difference."""
    return (
        _ratio(one.expanded_channels or one_in, other.expanded_channels or other_in)
        + abs(one.kernel_size - other.kernel_size) / 2
        + (one.use_se != other.use_se)
        + (one.activation != other.activation)
        + (one.kind != other.kind)
    )


# A block too many or too few weighs as much as two differences within a block.
_DEPTH_WEIGHT = 2.0


def _stage_distance(one: Stage, one_in: int, other: Stage, other_in: int) -> float:
    """Octaves between the widths, the distance of the blocks that both have, and `_DEPTH_WEIGHT` per block more."""
    total = _ratio(one.out_channels, other.out_channels) + _DEPTH_WEIGHT * abs(len(one.blocks) - len(other.blocks))
    for block, counterpart in zip(one.blocks, other.blocks, strict=False):
        total += _block_distance(block, one_in, counterpart, other_in)
        one_in, other_in = one.out_channels, other.out_channels
    return total


def distance(one: Architecture, other: Architecture) -> float:
    """How far two networks of equally many stages are from each other, stage by stage; 0 where the stages are equal."""
    total = 0.0
    one_in, other_in = one.stem.out_channels, other.stem.out_channels
    for stage, counterpart in zip(one.stages, other.stages, strict=True):
        total += _stage_distance(stage, one_in, counterpart, other_in)
        one_in, other_in = stage.out_channels, counterpart.out_channels
    return total


def _closest(chains: Iterable[_Chain]) -> _Chain:
    return min(chains, key=lambda chain: chain.distance)


def _closest_stage(space: SearchSpace, number: int, widths: tuple[int, int], target: Stage, target_in: int) -> _Chain:
    """The form of a stage between two widths that is closest to `target`."""
    in_channels, out_channels = widths
    choices = space.preset.stages[number - 1]
    if choices.blocks == "alike":
        forms = space.stage_options(number, in_channels, out_channels)
        return _closest(_Chain(_stage_distance(form, in_channels, target, target_in), (form,)) for form in forms)
    chains = []
    for depth in choices.depth:
        blocks: list[Block] = []
        for position in range(depth):
            width, target_width = (in_channels, target_in) if position == 0 else (out_channels, target.out_channels)
            options = space.block_options(number, width)
            if position >= len(target.blocks):
                blocks.append(next(iter(options)))
                continue
            wanted = target.blocks[position]
            blocks.append(
                min(options, key=lambda block, w=width, t=target_width, b=wanted: _block_distance(block, w, b, t))  # type: ignore[misc]
            )
        form = Stage(out_channels=out_channels, stride=choices.stride, blocks=tuple(blocks))
        chains.append(_Chain(_stage_distance(form, in_channels, target, target_in), (form,)))
    return _closest(chains)


def nearest(space: SearchSpace, arch: Architecture) -> Architecture:
    """The member with the least `distance` from an architecture, exact, by dynamic programming over the widths.

    Stem, head, resolution and classes are the space's; of several closest members the one whose choices come first.

    Raises:
        InvalidArchitecture: it has another number of stages than the space.
    """
    if len(arch.stages) != len(space.preset.stages):
        raise InvalidArchitecture(
            f"{arch.arch_id} has {len(arch.stages)} stages and space '{space.preset.name}' "
            f"{len(space.preset.stages)}; only networks of equally many stages can be compared"
        )
    chains = {space.stem.out_channels: _Chain(0.0, ())}
    target_in = arch.stem.out_channels
    for number, target in enumerate(arch.stages, start=1):
        grown = {}
        for out in space.widths_before(number + 1):
            found = []
            for width, chain in chains.items():
                stage = _closest_stage(space, number, (width, out), target, target_in)
                found.append(_Chain(chain.distance + stage.distance, (*chain.stages, *stage.stages)))
            grown[out] = _closest(found)
        chains, target_in = grown, target.out_channels
    return space.with_stages(_closest(chains.values()).stages)
