"""The fastest and the slowest network of a search space, exact, by dynamic programming.

A network's latency is a sum over blocks, and a stage's blocks depend only on the widths before and behind it. So the
best chain of stages that ends in a given width is a best chain to some width before it, plus one stage.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from latency.table import LatencyTable
from space.arch import Architecture, Stage
from space.choices import SearchSpace
from space.keys import stage_keys, stem_key


@dataclass(frozen=True, slots=True)
class _Chain:
    latency_ms: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class _Search:
    table: LatencyTable
    space: SearchSpace
    slowest: bool

    def pick(self, chains: Iterable[_Chain]) -> _Chain:
        """The chain that ends the search for the extreme."""
        return (max if self.slowest else min)(chains, key=lambda chain: chain.latency_ms)

    def priced(self, number: int, in_channels: int, stage: Stage) -> _Chain:
        """One stage and its latency, following `in_channels`, on maps of the size that stage `number` takes in."""
        resolution = self.space.stage_resolutions[number - 1]
        keys = stage_keys(stage, resolution=resolution, in_channels=in_channels)
        return _Chain(sum(self.table.block_ms(key) for key in keys), (stage,))

    def stage(self, number: int, in_channels: int, out_channels: int) -> _Chain:
        """The extreme form of stage `number` between two widths."""
        choices = self.space.preset.stages[number - 1]
        if choices.blocks == "alike":
            stages = self.space.stage_options(number, in_channels, out_channels)
            return self.pick(self.priced(number, in_channels, stage) for stage in stages)
        # Free blocks: the extreme first block, the extreme later block as often as needed.
        first = self.block(number, in_channels, out_channels, choices.stride, later=False)
        deep = max(choices.depth) > 1
        later = self.block(number, out_channels, out_channels, 1, later=True) if deep else first
        blocks = (first.stages[0].blocks[0], *(later.stages[0].blocks[0],) * (max(choices.depth) - 1))
        return self.pick(
            _Chain(
                first.latency_ms + (depth - 1) * later.latency_ms,
                (Stage(out_channels=out_channels, stride=choices.stride, blocks=blocks[:depth]),),
            )
            for depth in choices.depth
        )

    def block(self, number: int, in_channels: int, out_channels: int, stride: Literal[1, 2], *, later: bool) -> _Chain:
        """The extreme block of stage `number`, alone: its first, or a later one on the next stage's maps."""
        options = self.space.block_options(number, in_channels)
        stages = (Stage(out_channels=out_channels, stride=stride, blocks=(block,)) for block in options)
        return self.pick(self.priced(number + later, in_channels, stage) for stage in stages)

    def run(self) -> Architecture:
        """The extreme member."""
        space, table = self.space, self.table
        stem = stem_key(space.stem, resolution=space.resolution, in_channels=space.in_channels)
        chains = {space.stem.out_channels: _Chain(table.calibration.constant_ms + table.block_ms(stem), ())}
        for number in range(1, len(space.preset.stages) + 1):
            chains = {
                out: self.pick(_joined(chain, self.stage(number, width, out)) for width, chain in chains.items())
                for out in space.widths_before(number + 1)
            }
        last = self.pick(
            _Chain(chain.latency_ms + table.block_ms(space.head_key(width)), chain.stages)
            for width, chain in chains.items()
        )
        return space.with_stages(last.stages)


def _joined(chain: _Chain, stage: _Chain) -> _Chain:
    return _Chain(chain.latency_ms + stage.latency_ms, (*chain.stages, *stage.stages))


def fastest(table: LatencyTable, space: SearchSpace) -> Architecture:
    """The member with the lowest predicted latency."""
    return _Search(table, space, slowest=False).run()


def slowest(table: LatencyTable, space: SearchSpace) -> Architecture:
    """The member with the highest predicted latency."""
    return _Search(table, space, slowest=True).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What a space can reach on a device, in predicted ms."""

    fastest_ms: float
    slowest_ms: float
    reference_ms: float | None


def latency_range(table: LatencyTable, space: SearchSpace, reference: Architecture | None = None) -> Range:
    """Exact bounds of the space, and its reference or another network."""
    return Range(
        fastest_ms=table.estimate(fastest(table, space)),
        slowest_ms=table.estimate(slowest(table, space)),
        reference_ms=table.estimate(reference or space.reference),
    )
