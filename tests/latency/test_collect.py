"""Building tables: what is measured, calibrating on networks, adding blocks later."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency import collect as collecting
from latency.calibration import BLOCK_TERMS, USELESS, Calibration, calibrate
from latency.collect import ANCHORS, campaign_for, collect, is_reliable, measure_missing, table_from
from latency.extremes import fastest, slowest
from latency.kit import Campaign
from latency.measurement import Measurement
from latency.meter import LocalMeter
from latency.probe import Protocol
from latency.table import LatencyTable
from space.arch import Architecture
from space.errors import InvalidResults, InvalidTable
from space.keys import BlockKey, keys_of
from space.reference import REFERENCES
from tests.latency.fakes import FakeMeter
from tests.strategies import DEVICE, constant, default_space, minute_space, random_table, small_space

QUICK = Protocol(rounds=3, most_rounds=3, warm=2)
KNOWN = Calibration(
    warm=0.83,
    cold=0.1,
    per_block_ms=-0.021,
    per_input_mb_ms=0.4,
    per_weight_mb_ms=0.7,
    constant_ms=0.17,
    networks=60,
    error=0.0,
)


def check_samples(found: Measurement, protocol: Protocol) -> None:
    """One cold and `warm` warm samples a visit on both clocks, all positive."""
    assert len(found.cold_wall) == len(found.cold_cpu) >= protocol.rounds
    assert len(found.warm_wall) == len(found.warm_cpu) == len(found.cold_wall) * protocol.warm
    assert min(*found.cold_wall, *found.cold_cpu, *found.warm_wall, *found.warm_cpu) > 0


def test_collecting_measures_every_block_for_real() -> None:
    """A table of this machine holds every reachable block, measured as often as the protocol says, and its scope."""
    space, steps = minute_space(), []
    found = collect(space, LocalMeter("here"), QUICK, progress=lambda done, total, _: steps.append((done, total)))
    table = found.table
    assert set(table.entries) == set(space.reachable_keys())
    assert found.measured == len(table.entries)
    for each in table.entries.values():
        check_samples(each, QUICK)
    assert steps[-1][0] == steps[-1][1]
    assert table.scope == space.scope
    assert 10 <= table.calibration.networks <= 13  # the space has twelve members, and there is the reference
    assert table.cpu_calibration is not None
    assert 0 < found.conditions["seconds_inside"] <= found.conditions["seconds"]
    assert {"kernel", "date", "reference_drift", "thread_clock"} <= set(found.conditions)


def small_truth(seed: int = 1) -> LatencyTable:
    """A made-up device with known blocks and networks that follow KNOWN exactly."""
    return replace(random_table(small_space(), seed, KNOWN), cpu_calibration=KNOWN)


def test_networks_of_a_campaign_are_members_and_the_reference() -> None:
    """A table is calibrated on the reference and on members; a kit has networks to hold out and published ones too."""
    space = small_space()
    campaign = campaign_for(space, QUICK, {})
    assert campaign.blocks == space.reachable_keys()
    assert campaign.networks["calibration-00"] == space.reference
    others = [arch for name, arch in campaign.networks.items() if name != "calibration-00"]
    assert all(isinstance(arch, Architecture) and arch in space for arch in others)
    kit = campaign_for(space, QUICK, {}, for_kit=True)
    kinds = [name.partition("-")[0] for name in kit.networks]
    assert kinds.count("calibration") == len(set(collecting.calibration_networks(space, 0))) > 30
    assert kinds.count("holdout") == collecting.HOLD_OUT_NETWORKS
    assert kinds.count("reference") == len(collecting.SHOWN)
    sizes = {(arch.resolution, arch.num_classes) for arch in kit.networks.values() if isinstance(arch, Architecture)}
    assert sizes == {(space.resolution, space.num_classes)}


def test_enqueued_networks_are_measured_for_a_kit() -> None:
    """The blocks of a network outside of the space are asked for, and its table holds them; surplus ones stay out."""
    truth, foreign = (
        small_truth(),
        REFERENCES["mobilenet_v2_32px"](width=0.25, resolution=16, in_channels=1, num_classes=4),
    )
    blocks = {**truth.entries, **{key: constant(1.0) for key in keys_of(foreign)}}
    other = constant(0.5)  # of the published networks, nobody knows the blocks

    def network(arch: Architecture) -> float:
        return sum(blocks.get(key, other).warm_cpu[0] for key in keys_of(arch))

    meter = FakeMeter(lambda key: blocks[key].warm_cpu[0], network)
    campaign = campaign_for(small_space(), QUICK, {}, enqueued=(foreign,), for_kit=True)
    assert set(campaign.blocks) == set(blocks)
    results = meter.run(campaign)
    assert set(table_from(results).table.entries) == set(blocks)
    with pytest.raises(InvalidResults, match="blocks that the space lacks"):
        table_from(replace(results, purpose={**results.purpose, "enqueued": []}))
    wrongs: list[object] = [None, [1], [{}], [{}] * 1000]
    for wrong in wrongs:
        with pytest.raises(InvalidResults):
            table_from(replace(results, purpose={**results.purpose, "enqueued": wrong}))


def test_only_missing_blocks_are_measured() -> None:
    """What a table of this device holds is not measured again, but for anchors, and keeps its samples."""
    truth = small_truth()
    keys = list(truth.entries)
    known = replace(truth, entries={key: truth.entries[key] for key in keys[: len(keys) // 2]})
    meter = FakeMeter.of(truth, factor=1.5)
    found = collect(small_space(), meter, QUICK, known)
    asked = set(meter.asked[0].blocks)
    assert set(keys[len(keys) // 2 :]) <= asked
    assert len(asked & set(known.entries)) == min(ANCHORS, len(known.entries))
    assert found.measured == len(keys) - len(known.entries)
    for key in keys:  # the machine has become slower by half: new blocks come at the table's conditions
        assert found.table.alone_ms(key) == pytest.approx(truth.alone_ms(key))


def test_a_poor_calibration_measures_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where networks left out of the fit are missed by 20 %, all is measured once more and the samples joined."""
    fits = iter([replace(KNOWN, error=0.2), replace(KNOWN, error=0.2), KNOWN, KNOWN])
    monkeypatch.setattr(collecting, "calibrate", lambda *_: next(fits))
    truth = random_table(minute_space(), 0)
    meter = FakeMeter.of(truth)
    found = collect(minute_space(), meter, QUICK)
    first, second = meter.asked
    assert first.blocks == second.blocks
    assert first.protocol.seed != second.protocol.seed
    assert all(len(entry.warm_wall) == 2 for entry in found.table.entries.values())
    assert found.table.calibration.error == 0.0


def test_results_must_hold_the_space() -> None:
    """Results that lack a block of the space, or hold one that nobody asked for, make no table."""
    truth = small_truth()
    meter = FakeMeter.of(truth)
    results = meter.run(campaign_for(small_space(), QUICK, {}))
    first, *rest = results.blocks
    with pytest.raises(InvalidResults, match="lack 1 blocks of the space, such as"):
        table_from(replace(results, blocks={key: results.blocks[key] for key in rest}))
    foreign = next(key for key in default_space().reachable_keys() if key not in results.blocks)
    with pytest.raises(InvalidResults, match="hold 1 blocks that the space lacks"):
        table_from(replace(results, blocks={**results.blocks, foreign: results.blocks[first]}))
    with pytest.raises(InvalidResults, match="not of a kit for a whole table"):
        table_from(replace(results, purpose={"kind": "refine"}))
    with pytest.raises(InvalidResults, match="space cannot be read"):
        table_from(replace(results, purpose={"kind": "collect", "space": {"width": 1}}))


def networks_of(count: int) -> list[Architecture]:
    """Different members of the small space."""
    rng = random.Random(0)
    found: dict[Architecture, None] = {}
    while len(found) < count:
        found[small_space().sample(rng)] = None
    return list(found)


Blocks = dict[BlockKey, tuple[float, float]]


def blocks_of(seed: int) -> Blocks:
    """Made-up warm and cold estimates of all blocks of the small space."""
    rng = random.Random(seed)
    return {key: (rng.uniform(0.1, 1), rng.uniform(0.5, 1.5)) for key in small_space().reachable_keys()}


def following(known: Calibration, blocks: Blocks, networks: list[Architecture], noise: float = 0.0) -> list[float]:
    """Latencies of networks that follow a calibration exactly, or up to some relative noise."""
    rng = np.random.default_rng(0)
    exact = [known.constant_ms + sum(known.block_ms(key, *blocks[key]) for key in keys_of(arch)) for arch in networks]
    return [ms * (1 + noise * rng.standard_normal()) for ms in exact]


@pytest.mark.parametrize("seed", range(3))
def test_calibration_recovers_known_coefficients(seed: int) -> None:
    """From networks that follow the model exactly, the fit predicts every network exactly."""
    blocks, networks = blocks_of(seed), networks_of(100)
    measured = following(KNOWN, blocks, networks)
    found = calibrate(blocks, [keys_of(arch) for arch in networks[:60]], measured[:60])
    assert found.networks == 60
    assert found.error == pytest.approx(0, abs=1e-9)
    assert following(found, blocks, networks) == pytest.approx(measured)
    for name in BLOCK_TERMS[:2]:
        assert getattr(found, name) == pytest.approx(getattr(KNOWN, name))


@settings(max_examples=20)
@given(st.floats(0.3, 3))
def test_calibrations_scale_with_the_unit(factor: float) -> None:
    """A device that is so many times slower gets predictions so many times longer."""
    blocks, networks = blocks_of(0), networks_of(40)
    keys, measured = [keys_of(arch) for arch in networks], following(KNOWN, blocks, networks, noise=0.02)
    slower = {key: (warm * factor, cold * factor) for key, (warm, cold) in blocks.items()}
    one = calibrate(blocks, keys, measured)
    other = calibrate(slower, keys, [ms * factor for ms in measured])
    assert following(other, slower, networks) == pytest.approx([factor * ms for ms in following(one, blocks, networks)])


def test_calibration_reports_its_error() -> None:
    """With 2 % noise the mean left-out error is that of the noise, sqrt(2 / pi) · 2 % or somewhat above."""
    blocks, networks = blocks_of(0), networks_of(120)
    found = calibrate(blocks, [keys_of(arch) for arch in networks], following(KNOWN, blocks, networks, noise=0.02))
    assert 0.8 * 0.016 < found.error < 1.3 * 0.016


def test_calibration_needs_ten_networks() -> None:
    """Nine networks are refused, ten are enough."""
    blocks, networks = blocks_of(0), networks_of(10)
    keys, measured = [keys_of(arch) for arch in networks], following(KNOWN, blocks, networks)
    with pytest.raises(InvalidTable, match="at least 10 whole networks, got 9"):
        calibrate(blocks, keys[:9], measured[:9])
    assert calibrate(blocks, keys, measured).networks == 10


def test_an_implausible_calibration_only_scales() -> None:
    """Networks that get faster the more their blocks take are a busy machine's work: a plain scale, a large error."""
    blocks, networks = blocks_of(0), networks_of(40)
    keys = [keys_of(arch) for arch in networks]
    backwards = [10 / sum(blocks[key][0] for key in each) for each in keys]
    found = calibrate(blocks, keys, backwards)
    assert (found.cold, found.per_block_ms, found.constant_ms) == (0.0, 0.0, 0.0)
    assert found.warm > 0
    assert found.error > USELESS


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_missing_blocks_come_at_the_scale_of_the_table(factor: float) -> None:
    """On a machine that has become twice as slow, or fast, new blocks get the latency they would have had."""
    truth = random_table(small_space(), 1)
    keys = list(truth.entries)
    absent = set(keys[::7])
    table = replace(truth, entries={key: truth.entries[key] for key in keys if key not in absent})
    meter = FakeMeter.of(truth, factor)
    found = measure_missing(table, keys, meter, QUICK)
    assert set(found) == absent
    for key, each in found.items():
        for ms in (*each.cold_wall, *each.cold_cpu, *each.warm_wall, *each.warm_cpu):
            assert ms == pytest.approx(truth.entries[key].warm_cpu[0])
    anchors = [key for key in meter.asked[0].blocks if key not in absent]
    assert len(anchors) == min(ANCHORS, len(table.entries))


def test_some_disturbed_anchors_change_nothing() -> None:
    """The scale is a median: a third of the anchors measured ten times too slow does not move it."""
    truth = random_table(small_space(), 1)
    keys = sorted(truth.entries, key=str)
    disturbed = set(keys[::3])
    meter = FakeMeter(lambda key: 2 * truth.alone_ms(key) * (10 if key in disturbed else 1))
    absent = next(key for key in keys if key not in disturbed)
    table = replace(truth, entries={key: e for key, e in truth.entries.items() if key != absent})
    found = measure_missing(table, keys, meter, QUICK)
    assert found[absent].warm_cpu[0] == pytest.approx(truth.alone_ms(absent))


def test_nothing_missing_measures_nothing() -> None:
    """A complete table is left alone."""
    table = random_table(small_space(), 0)
    meter = FakeMeter.of(table)
    assert measure_missing(table, table.entries, meter, QUICK) == {}
    assert not meter.asked


def test_blocks_are_really_measured_when_missing() -> None:
    """Without a fake just the missing block comes back, with positive samples."""
    keys, meter = small_space().reachable_keys()[:4], LocalMeter("here")
    entries = meter.run(Campaign(blocks=keys[1:], protocol=QUICK)).blocks
    table = LatencyTable(device=meter.device, scope="", entries=entries)
    found = measure_missing(table, keys, meter, QUICK)
    assert list(found) == [keys[0]]
    check_samples(found[keys[0]], QUICK)


def test_a_table_is_reliable_or_not() -> None:
    """It needs a calibration that predicts, and as many samples as the protocol takes."""
    table = small_truth()
    once = Protocol(rounds=1, warm=1)
    assert is_reliable(table, once)
    assert not is_reliable(table, Protocol(rounds=2, warm=1))
    assert not is_reliable(replace(table, calibration=replace(KNOWN, error=2 * USELESS)), once)
    assert table.device == DEVICE


@pytest.mark.slow
def test_predictions_order_real_networks() -> None:
    """The networks that the table calls fastest and slowest are so when measured whole, the reference in between.

    How close predictions come is a benchmark's question; these three differ several times over on any machine.
    """
    space, meter = default_space(width=0.5, in_channels=1), LocalMeter("here")
    table = collect(space, meter, Protocol()).table
    networks = {"fast": fastest(table, space), "middle": space.reference, "slow": slowest(table, space)}
    found = meter.run(Campaign(networks=networks, protocol=Protocol())).networks
    fast, middle, slow = (found[name].measurement.estimate("warm", "wall") for name in networks)
    assert fast < middle < slow
