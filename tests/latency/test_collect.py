"""Measuring blocks for real, calibrating on networks, and adding blocks later."""

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from latency import collect as collecting
from latency.collect import (
    USELESS_CALIBRATION,
    block_graph,
    calibrate,
    collect,
    measure_missing,
    measure_networks,
    network_graph,
)
from latency.device import Device
from latency.extremes import fastest, slowest
from latency.measure import Protocol, local_device, measure
from latency.measurement import Measurement
from latency.table import Calibration, LatencyTable
from space.arch import Architecture
from space.errors import InvalidTable
from space.keys import BlockKey, keys_of
from tests.strategies import constant, default_space, minute_space, random_table, small_space

QUICK = Protocol(rounds=3, warm=2)
KNOWN = Calibration(scale=0.83, per_block_ms=-0.021, constant_ms=0.17, networks=60, error=0.0)


def check_samples(found: Measurement, protocol: Protocol) -> None:
    """One cold and `warm` warm samples a round on both clocks, all positive."""
    assert len(found.cold_wall) == len(found.cold_cpu) == protocol.rounds
    assert len(found.warm_wall) == len(found.warm_cpu) == protocol.rounds * protocol.warm
    assert min(*found.cold_wall, *found.cold_cpu, *found.warm_wall, *found.warm_cpu) > 0


def test_collecting_measures_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of this machine holds every reachable block, measured as often as the protocol says, and its scope."""
    given: dict[Architecture, Measurement] = {}

    def keep(_: LatencyTable, networks: Mapping[Architecture, Measurement]) -> Calibration:
        given.update(networks)  # three rounds are too few to fit anything
        return KNOWN

    monkeypatch.setattr(collecting, "calibrate", keep)
    space, rounds = minute_space(), []
    table = collect(space, local_device("here"), QUICK, lambda done, total: rounds.append((done, total)))
    assert set(table.entries) == set(space.reachable_keys())
    for found in (*table.entries.values(), *given.values()):
        check_samples(found, QUICK)
    assert rounds == [(1, 3), (2, 3), (3, 3)]
    assert table.scope == space.scope
    assert table.calibration == KNOWN
    assert space.reference in given
    assert all(arch in space for arch in given if arch != space.reference)
    assert len(given) >= 10
    assert table.estimate(space.reference) == pytest.approx(
        0.17 + sum(0.83 * table.entries[key].estimate("warm", "cpu") - 0.021 for key in keys_of(space.reference))
    )


def test_a_poor_calibration_measures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where networks left out of the fit are missed by 20 %, all is measured once more and the samples joined."""
    fits = iter([replace(KNOWN, error=0.2), KNOWN])
    monkeypatch.setattr(collecting, "calibrate", lambda _table, _networks: next(fits))
    rounds: list[tuple[int, int]] = []
    table = collect(minute_space(), local_device("here"), QUICK, lambda done, total: rounds.append((done, total)))
    for found in table.entries.values():
        check_samples(found, Protocol(rounds=2 * QUICK.rounds, warm=QUICK.warm))
    assert rounds == [(1, 3), (2, 3), (3, 3), (4, 6), (5, 6), (6, 6)]
    assert table.calibration == KNOWN


def test_networks_come_back_in_order() -> None:
    """A far larger network measured between two small ones is the slowest by far."""
    small, large = minute_space().sample(random.Random(0)), default_space(resolution=96).reference
    graphs = [network_graph(small), network_graph(large), network_graph(small)]
    found = measure_networks(graphs, local_device("here"), QUICK)
    times = [each.estimate("warm", "cpu") for each in found]
    assert times[1] > 3 * max(times[0], times[2])
    for each in found:
        check_samples(each, QUICK)


def synthetic(table: LatencyTable, networks: list[Architecture], noise: float = 0.0) -> dict[Architecture, Measurement]:
    """Whole networks that follow KNOWN exactly, or up to some relative noise."""
    rng = np.random.default_rng(0)
    exact = replace(table, calibration=KNOWN)
    return {arch: constant(exact.estimate(arch) * (1 + noise * rng.standard_normal())) for arch in networks}


def networks_of(count: int) -> list[Architecture]:
    """Different members of the small space."""
    rng = random.Random(0)
    found: dict[Architecture, None] = {}
    while len(found) < count:
        found[small_space().sample(rng)] = None
    return list(found)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_recovers_known_coefficients(seed: int) -> None:
    """From networks that follow the model exactly, the fit finds scale, cost per block and constant, and no error."""
    table = random_table(small_space(), seed)
    found = calibrate(table, synthetic(table, networks_of(60)))
    assert found.scale == pytest.approx(KNOWN.scale)
    assert found.per_block_ms == pytest.approx(KNOWN.per_block_ms)
    assert found.constant_ms == pytest.approx(KNOWN.constant_ms)
    assert found.networks == 60
    assert found.error == pytest.approx(0, abs=1e-9)


def test_calibration_reports_its_error() -> None:
    """With 2 % noise the mean left-out error is that of the noise, sqrt(2 / pi) · 2 % or somewhat above."""
    table = random_table(small_space(), 0)
    found = calibrate(table, synthetic(table, networks_of(120), noise=0.02))
    assert 0.8 * 0.016 < found.error < 1.3 * 0.016
    assert found.scale == pytest.approx(KNOWN.scale, rel=0.05)


def test_calibration_needs_ten_networks() -> None:
    """Nine networks are refused, ten are enough."""
    table = random_table(small_space(), 0)
    with pytest.raises(InvalidTable, match="at least 10 whole networks, got 9"):
        calibrate(table, synthetic(table, networks_of(9)))
    assert calibrate(table, synthetic(table, networks_of(10))).networks == 10


def test_an_implausible_calibration_only_scales() -> None:
    """Networks that get faster the more their blocks take are a busy machine's work: a plain scale, a large error."""
    table = random_table(small_space(), 0)
    networks = networks_of(40)
    backwards = {arch: constant(10 / table.estimate(arch)) for arch in networks}
    found = calibrate(table, backwards)
    assert (found.per_block_ms, found.constant_ms) == (0.0, 0.0)
    assert found.scale > 0
    assert found.error > USELESS_CALIBRATION


class SlowedClock:
    """Stands in for measuring: every block takes what `truth` says, times `factor`."""

    def __init__(self, truth: LatencyTable, factor: float) -> None:
        self.truth, self.factor = truth, factor
        self.asked: list[BlockKey] = []

    def __call__(
        self, graphs: Mapping[BlockKey, bytes], _: Device, protocol: Protocol, progress: object = None
    ) -> dict[BlockKey, Measurement]:
        """As `measure`."""
        del protocol, progress
        self.asked = list(graphs)
        return {key: constant(self.factor * self.truth.entries[key].warm_cpu[0]) for key in graphs}


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_missing_blocks_come_at_the_scale_of_the_table(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that has become twice as slow, or fast, new blocks get the latency they would have had."""
    truth = random_table(small_space(), 1)
    keys = list(truth.entries)
    absent = set(keys[::7])
    table = replace(truth, entries={key: truth.entries[key] for key in keys if key not in absent})
    clock = SlowedClock(truth, factor)
    monkeypatch.setattr(collecting, "measure", clock)
    found = measure_missing(table, keys, QUICK)
    assert set(found) == absent
    for key, each in found.items():
        for ms in (*each.cold_wall, *each.cold_cpu, *each.warm_wall, *each.warm_cpu):
            assert ms == pytest.approx(truth.entries[key].warm_cpu[0])
    anchors = [key for key in clock.asked if key not in absent]
    assert len(anchors) == min(collecting.ANCHORS, len(table.entries))
    assert {**table.entries, **found}.keys() == truth.entries.keys()


def test_some_disturbed_anchors_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale is a median: a third of the anchors measured ten times too slow does not move it."""
    truth = random_table(small_space(), 1)
    keys = sorted(truth.entries, key=str)
    disturbed = set(keys[::3])
    seen = replace(
        truth,
        entries={key: constant((10 if key in disturbed else 1) * e.warm_cpu[0]) for key, e in truth.entries.items()},
    )
    absent = next(key for key in keys if key not in disturbed)
    table = replace(truth, entries={key: e for key, e in truth.entries.items() if key != absent})
    monkeypatch.setattr(collecting, "measure", SlowedClock(seen, 2.0))
    found = measure_missing(table, keys, QUICK)
    assert found[absent].warm_cpu[0] == pytest.approx(truth.entries[absent].warm_cpu[0])


def test_nothing_missing_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete table is left alone."""
    table = random_table(small_space(), 0)
    monkeypatch.setattr(collecting, "measure", None)
    assert measure_missing(table, table.entries, QUICK) == {}


def test_blocks_are_really_measured_when_missing() -> None:
    """Without a fake clock just the missing block comes back, with positive samples."""
    keys = small_space().reachable_keys()[:4]
    device = local_device("here")
    entries = measure({key: block_graph(key) for key in keys[1:]}, device, QUICK)
    table = LatencyTable(device=device, scope="", entries=entries)
    found = measure_missing(table, keys, QUICK)
    assert list(found) == [keys[0]]
    check_samples(found[keys[0]], QUICK)


@pytest.mark.slow
def test_predictions_order_real_networks() -> None:
    """The networks that the table calls fastest and slowest are so when measured whole, the reference in between.

    How close predictions come is a benchmark's question; these three differ several times over on any machine.
    """
    space, device = default_space(width=0.5, in_channels=1), local_device("here")
    table = collect(space, device, Protocol())
    networks = [fastest(table, space), space.reference, slowest(table, space)]
    found = measure_networks([network_graph(arch) for arch in networks], device, Protocol())
    fast, middle, slow = (each.estimate("warm", "wall") for each in found)
    assert fast < middle < slow
