"""Where a network's time goes: the network measured whole, and of our own specs the share of each block."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from latency import probe
from latency.kit import Campaign
from latency.measurement import Measurement
from latency.meter import MeasuringProgress, Meter
from latency.probe import Protocol, Runtime
from latency.results import Results
from latency.table import LatencyTable
from space.arch import Architecture
from space.errors import DeviceError
from space.keys import BlockKey, named_keys

PROTOCOL = Protocol(rounds=24, most_rounds=48, precision=0.02)
MAX_MODEL_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShare:
    """One block of a network: `ms` is what it adds, so that all blocks and `Profile.rest_ms` make the whole."""

    name: str
    key: BlockKey
    ms: float
    madds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A network measured whole in ms, low quantile of wall time with its 95 % interval, and its blocks.

    `rest_ms` is what belongs to no block: the call itself, and what the blocks' sum misses.
    """

    whole_ms: float
    low_ms: float
    high_ms: float
    median_ms: float
    blocks: tuple[BlockShare, ...]

    @property
    def rest_ms(self) -> float:
        """The whole without the blocks."""
        return self.whole_ms - sum(block.ms for block in self.blocks)


def _whole(found: Measurement, blocks: tuple[BlockShare, ...] = ()) -> Profile:
    low, high = found.interval("warm", "wall")
    estimate = found.estimate("warm", "wall")
    median = estimate * (1 + found.spread("warm", "wall"))
    return Profile(whole_ms=estimate, low_ms=low, high_ms=high, median_ms=median, blocks=blocks)


def profile(
    arch: Architecture, meter: Meter, table: LatencyTable | None = None, progress: MeasuringProgress | None = None
) -> Profile:
    """Measure a network whole and its blocks beside it.

    With a table of the device, blocks weigh as its calibration has them; else as they were measured alone, scaled so
    that they make the whole.
    """
    keys = named_keys(arch)
    blocks = tuple(dict.fromkeys(keys.values()))
    results = meter.run(
        Campaign(blocks=blocks, networks={"network": arch}, protocol=PROTOCOL, purpose={"kind": "profile"}), progress
    )
    found = results.networks["network"].measurement
    costs = _alone(results, keys, found) if table is None else _calibrated(table, results)
    shares = tuple(BlockShare(name=name, key=key, ms=costs[key], madds=_madds(key)) for name, key in keys.items())
    return _whole(found, shares)


def _madds(key: BlockKey) -> int:
    from space.cost import unit_cost

    return unit_cost(key).madds


def _calibrated(table: LatencyTable, results: Results) -> Mapping[BlockKey, float]:
    """As the blocks are now, so that they fit the whole, which is measured now as well."""
    fit, clock = table.fit("wall"), table.clock
    return {
        key: fit.block_ms(key, found.estimate("warm", clock), found.estimate("cold", clock))
        for key, found in results.blocks.items()
    }


def _alone(results: Results, keys: Mapping[str, BlockKey], found: Measurement) -> Mapping[BlockKey, float]:
    alone = {key: each.estimate("warm", "wall") for key, each in results.blocks.items()}
    scale = found.estimate("warm", "wall") / sum(alone[key] for key in keys.values())
    return {key: ms * scale for key, ms in alone.items()}


def profile_file(path: Path, runtime: Runtime, shape: tuple[int, ...] | None = None) -> Profile:
    """Measure any ONNX model whole on this machine, on random input; open sides are taken from `shape`, or are 1.

    Raises:
        DeviceError: the file is too large or no model, or ONNX Runtime cannot run it.
    """
    try:
        if not path.is_file():
            raise DeviceError(f"{path} is no file; give an ONNX file")
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise DeviceError(f"{path} is larger than {MAX_MODEL_BYTES >> 20} MiB")
        models = {str(path): probe.Model(str(path.absolute()), path.stat().st_size, shape)}
        samples = probe.Measuring(models, runtime, PROTOCOL).run().samples[str(path)]
    except OSError as error:
        raise DeviceError(f"{path} cannot be read: {error.strerror}; give an ONNX file") from error
    except probe.Refused as error:
        raise DeviceError(str(error)) from error
    wall = tuple(each.wall / 1e6 for each in samples.warm)
    cold = tuple(each.wall / 1e6 for each in samples.cold)
    return _whole(
        Measurement(cold_wall=cold, cold_cpu=cold, warm_wall=wall, warm_cpu=wall, disturbed=tuple(samples.disturbed))
    )
