"""The fastest and the slowest network of a search space, exact, by dynamic programming.

A network's latency is a sum over blocks, and a stage's blocks depend only on the widths before and behind it. So the
best chain of stages that ends in a given width is a best chain to some width before it, plus one stage.
"""

from dataclasses import dataclass

from latency.table import LatencyTable
from space.arch import Architecture, Stage
from space.choices import SearchSpace
from space.keys import stage_keys, stem_key


@dataclass(frozen=True, slots=True)
class _Chain:
    latency_ms: float
    stages: tuple[Stage, ...]


def _latency(chain: _Chain) -> float:
    return chain.latency_ms


def _extreme(table: LatencyTable, space: SearchSpace, *, slowest: bool) -> Architecture:
    def pick(chains: list[_Chain]) -> _Chain:
        return max(chains, key=_latency) if slowest else min(chains, key=_latency)

    stem = stem_key(space.stem, resolution=space.resolution, in_channels=space.in_channels)
    chains = {space.stem.out_channels: _Chain(table.calibration.constant_ms + table.block_ms(stem), ())}
    for number in range(1, len(space.preset.stages) + 1):
        resolution = space.stage_resolutions[number - 1]

        def stage_ms(stage: Stage, in_channels: int, resolution: int = resolution) -> float:
            keys = stage_keys(stage, resolution=resolution, in_channels=in_channels)
            return sum(table.block_ms(key) for key in keys)

        chains = {
            out: pick(
                [
                    _Chain(chain.latency_ms + stage_ms(stage, width), (*chain.stages, stage))
                    for width, chain in chains.items()
                    for stage in space.stage_options(number, width, out)
                ]
            )
            for out in space.widths_before(number + 1)
        }
    last = pick(
        [
            _Chain(chain.latency_ms + table.block_ms(space.head_key(width)), chain.stages)
            for width, chain in chains.items()
        ]
    )
    return space.with_stages(last.stages)


def fastest(table: LatencyTable, space: SearchSpace) -> Architecture:
    """The member with the lowest predicted latency."""
    return _extreme(table, space, slowest=False)


def slowest(table: LatencyTable, space: SearchSpace) -> Architecture:
    """The member with the highest predicted latency."""
    return _extreme(table, space, slowest=True)
