"""NetAdapt's proposals and choice (Yang et al. 2018, as changed by Howard et al. 2019, section 4.2). Pure functions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from space.arch import Architecture, Stage

# A proposal keeps at least this share of a width; halving a layer in one step is no small step any more.
SMALLEST_SHARE = 0.5
DIVISOR = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A narrower network, and in words what was narrowed."""

    architecture: Architecture
    narrowed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A proposal after its short fine-tuning."""

    top1: float
    latency_ms: float


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


def proposals(arch: Architecture, latency: Callable[[Architecture], float], *, delta_ms: float) -> tuple[Proposal, ...]:
    """Per place the widest network that saves at least `delta_ms`; places that cannot save as much give none.

    Narrowing can remove a residual connection's condition or create one, so the latency of each candidate is read
    anew instead of assumed to fall with the width.
    """
    before = latency(arch)
    found = (
        next((each for each in place if before - latency(each.architecture) >= delta_ms), None)
        for place in narrowings(arch)
    )
    return tuple(proposal for proposal in found if proposal is not None)


def choose(current: Judged, candidates: Sequence[Judged]) -> int:
    """The index of the proposal with the largest Δtop-1 / |Δlatency|: least loss, or most gain, per ms saved.

    MobileNetV3's change to NetAdapt, which itself took the largest top-1. Ties go to the lower index.
    """

    def gain_per_ms(candidate: Judged) -> float:
        return (candidate.top1 - current.top1) / (current.latency_ms - candidate.latency_ms)

    return max(range(len(candidates)), key=lambda index: gain_per_ms(candidates[index]))
