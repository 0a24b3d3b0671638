"""Building a latency table: which graphs to time, the calibration on whole networks, and adding blocks later."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from latency.device import Device
from latency.measure import Key, Progress, Protocol, measure
from latency.measurement import Cache, Clock, Measurement
from latency.table import Calibration, LatencyTable, block_clock
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidTable
from space.keys import BlockKey, keys_of, named_keys
from space.onnx_graph import build_graph, random_weights

# Three coefficients are fitted; some ten networks each keep the fit from following the noise of single ones.
CALIBRATION_NETWORKS = 40
FOLDS = 5
# A mean error above this, on networks that the fit never saw, means that the device was disturbed: measure again.
POOR_CALIBRATION = 0.05
# Above this a table serves its own search, with a warning, and no other.
USELESS_CALIBRATION = 0.1
ATTEMPTS = 3
# Known blocks that are measured again beside new ones, to bring the new ones to the table's conditions.
ANCHORS = 48


def block_graph(key: BlockKey) -> bytes:
    """The ONNX model of one block with random weights."""
    return build_graph({"block": key}, random_weights(0))


def network_graph(arch: Architecture) -> bytes:
    """The ONNX model of a whole network with random weights."""
    return build_graph(named_keys(arch), random_weights(0))


def collect(space: SearchSpace, device: Device, protocol: Protocol, progress: Progress | None = None) -> LatencyTable:
    """Measure every block that the space can reach, and calibrate on networks drawn from it.

    Where the calibration is poor the device was disturbed: all is measured again, up to `ATTEMPTS` times, and the
    samples joined. Disturbances only add time, so a low quantile of more samples is closer to the quiet device.
    """
    rng = random.Random(protocol.seed)
    networks = [space.reference, *(space.sample(rng) for _ in range(CALIBRATION_NETWORKS - 1))]
    block_graphs = {key: block_graph(key) for key in space.reachable_keys()}
    network_graphs = {arch: network_graph(arch) for arch in networks}
    blocks: dict[BlockKey, Measurement] = {}
    whole: dict[Architecture, Measurement] = {}
    for attempt in range(ATTEMPTS):
        before = attempt * protocol.rounds
        report = _shifted(progress, before) if progress else None
        again = replace(protocol, seed=protocol.seed + attempt)
        blocks = _joined(blocks, measure(block_graphs, device, again, report))
        # Apart from the blocks: among a thousand other graphs a network never reaches its steady state.
        whole = _joined(whole, measure(network_graphs, device, again))
        table = LatencyTable(device=device, scope=space.scope, entries=blocks)
        table = replace(table, calibration=calibrate(table, whole))
        if table.calibration.error <= POOR_CALIBRATION:
            break
    return table


def _shifted(progress: Progress, before: int) -> Progress:
    return lambda done, total: progress(before + done, before + total)


def _joined(first: Mapping[Key, Measurement], second: Mapping[Key, Measurement]) -> dict[Key, Measurement]:
    return {key: first[key].joined(found) if key in first else found for key, found in second.items()}


def is_reliable(table: LatencyTable, protocol: Protocol) -> bool:
    """Whether a table serves other searches: it predicts well, and has as many samples as the protocol takes."""
    least = min(len(entry.warm_wall) for entry in table.entries.values())
    return table.calibration.error <= USELESS_CALIBRATION and least >= protocol.rounds * protocol.warm


def _fit(features: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Least squares of the relative error."""
    coefficients: np.ndarray = np.linalg.lstsq(features / measured[:, None], np.ones(len(measured)))[0]
    return coefficients


def _left_out_error(features: np.ndarray, measured: np.ndarray) -> float:
    """The mean relative error on networks left out of the fit, cross-validated in `FOLDS` parts."""
    errors = []
    for fold in range(FOLDS):
        left_out = np.arange(len(measured)) % FOLDS == fold
        predicted = features[left_out] @ _fit(features[~left_out], measured[~left_out])
        errors.extend(np.abs(predicted / measured[left_out] - 1))
    return float(np.mean(errors))


def calibrate(table: LatencyTable, networks: Mapping[Architecture, Measurement]) -> Calibration:
    """Fit whole networks' warm wall time; see `Calibration` for the model.

    Where a disturbed measurement would have a block cost nothing or less, the sum is only scaled.

    Raises:
        InvalidTable: fewer than ten networks were given.
    """
    if len(networks) < 2 * FOLDS:
        raise InvalidTable(f"a calibration needs at least {2 * FOLDS} whole networks, got {len(networks)}")
    clock = block_clock(table.device)
    alone = {key: entry.estimate("warm", clock) for key, entry in table.entries.items()}
    units = [keys_of(arch) for arch in networks]
    features = np.array([[sum(alone[key] for key in keys), len(keys), 1.0] for keys in units])
    measured = np.array([found.estimate("warm", "wall") for found in networks.values()])
    scale, per_block_ms, constant_ms = map(float, _fit(features, measured))
    if scale * min(alone.values()) + per_block_ms <= 0:
        features = features[:, :1]
        scale, per_block_ms, constant_ms = float(_fit(features, measured)[0]), 0.0, 0.0
    return Calibration(
        scale=scale,
        per_block_ms=per_block_ms,
        constant_ms=constant_ms,
        networks=len(measured),
        error=_left_out_error(features, measured),
    )


def measure_missing(
    table: LatencyTable, keys: Iterable[BlockKey], protocol: Protocol, progress: Progress | None = None
) -> dict[BlockKey, Measurement]:
    """Measure the blocks that a table lacks, at the table's conditions.

    The device may run slower or faster than when the table was made. Known blocks are measured again in the same
    rounds; the median of (recorded / now) over them scales the new samples, per cache state and clock.
    """
    missing = table.missing(keys)
    if not missing:
        return {}
    known = sorted(table.entries, key=str)
    anchors = random.Random(protocol.seed).sample(known, min(ANCHORS, len(known)))
    measured = measure({key: block_graph(key) for key in (*missing, *anchors)}, table.device, protocol, progress)

    def scaled(cache: Cache, clock: Clock) -> dict[BlockKey, tuple[float, ...]]:
        ratios = [table.entries[key].estimate(cache, clock) / measured[key].estimate(cache, clock) for key in anchors]
        factor = float(np.median(ratios)) if ratios else 1.0
        return {key: tuple(ms * factor for ms in measured[key].samples(cache, clock)) for key in missing}

    cold_wall, cold_cpu = scaled("cold", "wall"), scaled("cold", "cpu")
    warm_wall, warm_cpu = scaled("warm", "wall"), scaled("warm", "cpu")
    return {
        key: Measurement(
            cold_wall=cold_wall[key], cold_cpu=cold_cpu[key], warm_wall=warm_wall[key], warm_cpu=warm_cpu[key]
        )
        for key in missing
    }


def measure_networks(
    graphs: Sequence[bytes], device: Device, protocol: Protocol, progress: Progress | None = None
) -> list[Measurement]:
    """Whole networks, interleaved with each other."""
    measured = measure(dict(enumerate(graphs)), device, protocol, progress)
    return [measured[index] for index in range(len(graphs))]
