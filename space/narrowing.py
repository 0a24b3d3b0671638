"""Narrower forms of a network, as NetAdapt proposes them (Yang et al. 2018; Howard et al. 2019, section 4.2)."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from space.arch import Architecture, Stage
from space.keys import BlockKey, StageBlockKey, named_keys

# A proposal keeps at least this share of a width; halving a layer in one step is no small step any more.
SMALLEST_SHARE = 0.5
DIVISOR = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A narrower network, and in words what was narrowed."""

    architecture: Architecture
    narrowed: str


def _narrower(width: int) -> Iterator[int]:
    """Multiples of 8 below a width, widest first, down to half of it."""
    widest = (width - 1) // DIVISOR * DIVISOR
    for candidate in range(widest, 0, -DIVISOR):
        if candidate >= width * SMALLEST_SHARE:
            yield candidate


def _with_stage(arch: Architecture, index: int, stage: Stage) -> Architecture:
    return replace(arch, stages=(*arch.stages[:index], stage, *arch.stages[index + 1 :]))


def _with_width(arch: Architecture, group: tuple[int, ...], width: int) -> Architecture:
    stages = (
        replace(stage, out_channels=width) if index in group else stage for index, stage in enumerate(arch.stages)
    )
    return replace(arch, stages=tuple(stages))


def narrowings(arch: Architecture) -> Iterator[list[Proposal]]:
    """For every place that can be narrowed: the narrower networks, widest first.

    A place is the expansion of one block, or the output width that the blocks of a stage share through their residual
    connections; stages that a residual connection joins are narrowed together, so that it stays.
    """
    for index, stage in enumerate(arch.stages):
        name = f"stage{index + 1}"
        for position, block in enumerate(stage.blocks):
            if block.expanded_channels is None:
                continue
            was = block.expanded_channels
            proposals = []
            for width in _narrower(was):
                narrow = replace(block, expanded_channels=width)
                blocks = (*stage.blocks[:position], narrow, *stage.blocks[position + 1 :])
                proposals.append(
                    Proposal(
                        architecture=_with_stage(arch, index, replace(stage, blocks=blocks)),
                        narrowed=f"{name}_block{position + 1} expansion {was}→{width}",
                    )
                )
            yield proposals
    for group in arch.residual_groups:
        was = arch.stages[group[0]].out_channels
        name = "+".join(f"stage{index + 1}" for index in group)
        yield [
            Proposal(architecture=_with_width(arch, group, width), narrowed=f"{name} width {was}→{width}")
            for width in _narrower(was)
        ]


def narrowed_together(arch: Architecture, proposals: Sequence[Proposal]) -> Proposal | None:
    """One proposal that makes all the layers narrower which several of a network do.

    None where that cannot be, as where one of them has made a residual connection that joins another one's stages.
    """
    for proposal in proposals:
        found = (each for place in narrowings(arch) for each in place if each.narrowed == proposal.narrowed)
        if (same := next(found, None)) is None:
            return None
        arch = same.architecture
    return Proposal(architecture=arch, narrowed=" and ".join(proposal.narrowed for proposal in proposals))


def narrowed_at_random(arch: Architecture, rng: random.Random, steps: int) -> Architecture:
    """A network after so many steps of a walk that picks its proposals blindly."""
    for _ in range(steps):
        places = [place for place in narrowings(arch) if place]
        if not places:
            break
        arch = rng.choice(rng.choice(places)).architecture
    return arch


def _down_to_half(width: int) -> tuple[int, ...]:
    return (width, *_narrower(width))


def narrowed_keys(arch: Architecture) -> tuple[BlockKey, ...]:
    """Every block that a walk from `arch` can reach which leaves at least half of each width, once each."""
    group_of = {index: group for group in arch.residual_groups for index in group}
    found: dict[BlockKey, None] = {}
    keys = iter(named_keys(arch).values())
    found[next(keys)] = None
    for index, stage in enumerate(arch.stages):
        before = index - 1
        for position in range(len(stage.blocks)):
            key = next(keys)
            assert isinstance(key, StageBlockKey)
            joined = position > 0 or (before >= 0 and group_of[before] == group_of[index])
            if joined:
                pairs: Iterable[tuple[int, int]] = ((width, width) for width in _down_to_half(stage.out_channels))
            else:
                befores = (key.in_channels,) if before < 0 else _down_to_half(key.in_channels)
                pairs = itertools.product(befores, _down_to_half(stage.out_channels))
            expanded = key.block.expanded_channels
            expansions = (None,) if expanded is None else _down_to_half(expanded)
            for (one, two), width in itertools.product(pairs, expansions):
                block = replace(key.block, expanded_channels=width)
                found[replace(key, in_channels=one, out_channels=two, block=block)] = None
    last = next(keys)
    for width in _down_to_half(last.in_channels):
        found[replace(last, in_channels=width)] = None
    return tuple(found)
