"""How long measuring whole networks is expected to take."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency.probe import Protocol
from search.config.load import parse_config
from search.protocols import CERTIFICATE, FINALISTS, SCREENING, measuring_seconds, screening_seconds


@given(st.sampled_from([SCREENING, FINALISTS, CERTIFICATE]), st.integers(1, 60), st.floats(0.05, 500.0))
def test_more_networks_take_longer_up_to_the_limit(protocol: Protocol, networks: int, ms: float) -> None:
    """And slower ones, too; beyond it each is still visited four times."""
    seconds = measuring_seconds(protocol, networks, ms)
    assert measuring_seconds(protocol, networks + 1, ms) > seconds
    assert measuring_seconds(protocol, networks, 2 * ms) >= seconds
    assert protocol.seconds is not None
    visited = 4 * networks * ((protocol.warm + 1) * ms / 1000 + 0.003)
    assert visited <= seconds <= protocol.seconds + 2 * visited + networks


def test_what_was_seen_is_expected() -> None:
    """Twenty finalists in 400 rounds took 47 s on two noisy cores, candidates 4 s, and opening one anew 12 ms.

    On a quieter machine 24 finalists of 0.13 ms took 28 s in up to 200 rounds.
    """
    long = replace(FINALISTS, most_rounds=400)
    assert measuring_seconds(long, 20, 0.3) == pytest.approx(47 + 20 * 400 / 4 * 0.012, rel=0.1)
    assert 28 <= measuring_seconds(FINALISTS, 24, 0.13) < 2 * 28
    assert measuring_seconds(SCREENING, 20, 0.3) == pytest.approx(4 + 20 * 32 / 4 * 0.012, rel=0.5)


def test_candidates_are_measured_in_batches() -> None:
    """Each of which has its own limit of time; along a front none is refused, so that fewer are measured."""
    rungs = [{"images": 6000, "networks": 100}, {"images": 12000, "networks": 10}]
    race = parse_config({"race": {"rungs": rungs}})
    front = parse_config({"race": {"rungs": rungs}, "blocks": {"objectives": ["top1", "latency_ms"]}})
    assert screening_seconds(race, 30.0) > 4 * 120
    assert screening_seconds(front, 30.0) < 0.7 * screening_seconds(race, 30.0)
