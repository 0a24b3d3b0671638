"""Whole networks at the conditions of a table: what the device has become since then cancels out."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.collect import anchors_of
from latency.kit import Campaign
from latency.measurement import Measurement
from latency.probe import Protocol
from latency.results import Network, Results
from latency.table import LatencyTable
from latency.whole import campaign_for_whole, whole_from
from space.arch import Architecture
from space.keys import keys_of
from space.reference import mobilenet_v3_small_32px
from tests.search.makers import latency_table

REFERENCE, NETWORK = mobilenet_v3_small_32px(width=0.5), mobilenet_v3_small_32px(width=0.3)
KEYS = sorted({*keys_of(REFERENCE), *keys_of(NETWORK)}, key=str)


def taking(ms: float) -> Measurement:
    """Sixteen visits that differ a little."""
    samples = tuple(ms * (1 + 0.001 * visit) for visit in range(16))
    return Measurement(cold_wall=samples, cold_cpu=samples, warm_wall=samples, warm_cpu=samples)


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    """A table of both networks' blocks."""
    return latency_table(entries={key: taking(0.01 * (1 + number % 5)) for number, key in enumerate(KEYS)})


def results(networks: dict[str, tuple[Architecture, float]], table: LatencyTable, slower: float) -> Results:
    """What a device brings back that is so many times as slow as when the table was made."""
    found = {
        name: Network(architecture=arch, sha256="", measurement=taking(slower * ms))
        for name, (arch, ms) in networks.items()
    }
    beside = {key: taking(slower * table.alone_ms(key)) for key in anchors_of(table.entries)}
    return cast("Results", SimpleNamespace(networks=found, beside=beside))


@given(slower=st.floats(0.2, 5), share=st.floats(0.05, 3))
def test_a_share_of_the_reference_is_that_of_one_run(table: LatencyTable, slower: float, share: float) -> None:
    """A network that takes so much of the reference's time has that share of the table's prediction for it."""
    now = 0.7 * table.estimate(REFERENCE)  # whatever the table says of it
    measured = results({"one": (NETWORK, share * now), "reference": (REFERENCE, now)}, table, slower)
    (found,) = whole_from(table, measured, REFERENCE).values()
    assert found.ms / table.estimate(REFERENCE) == pytest.approx(share)
    assert found.low_ms <= found.ms <= found.high_ms
    assert found.measurement.estimate("warm", "wall") == pytest.approx(slower * share * now, rel=0.01)


@given(slower=st.floats(0.2, 5), ms=st.floats(0.01, 100))
def test_without_a_reference_known_blocks_tell_the_drift(table: LatencyTable, slower: float, ms: float) -> None:
    """And what they took among networks when the table was made is what they are compared with."""
    (found,) = whole_from(table, results({"one": (NETWORK, ms)}, table, slower), None).values()
    assert found.ms == pytest.approx(ms, rel=0.01)
    twice = replace(table, calibration=replace(table.calibration, beside=2.0), cpu_calibration=None)
    (again,) = whole_from(twice, results({"one": (NETWORK, ms)}, table, slower), None).values()
    assert again.ms == pytest.approx(2 * found.ms)


def test_the_interval_has_the_error_of_both(table: LatencyTable) -> None:
    """That of a share is wider than that of the network alone."""
    now = table.estimate(REFERENCE)
    networks = {"one": (NETWORK, 0.5), "reference": (REFERENCE, now)}
    shared = whole_from(table, results(networks, table, 1.0), REFERENCE)["one"]
    alone = whole_from(table, results({"one": (NETWORK, 0.5)}, table, 1.0), None)["one"]
    assert (shared.high_ms - shared.low_ms) / shared.ms == pytest.approx(
        2**0.5 * (alone.high_ms - alone.low_ms) / alone.ms, rel=0.01
    )


def test_a_campaign_interleaves_what_is_compared(table: LatencyTable) -> None:
    """The reference where there is one to be a share of, else blocks that the table knows."""
    campaign: Campaign = campaign_for_whole(table, {"one": NETWORK}, REFERENCE, Protocol(rounds=4), {})
    assert dict(campaign.networks) == {"one": NETWORK, "reference": REFERENCE}
    assert not campaign.beside
    campaign = campaign_for_whole(table, {"one": NETWORK}, None, Protocol(rounds=4), {})
    assert dict(campaign.networks) == {"one": NETWORK}
    assert set(campaign.beside) <= set(table.entries)
    assert campaign.beside
