"""How long measuring whole networks is expected to take."""

from hypothesis import given
from hypothesis import strategies as st

from latency.probe import Protocol
from search.config.load import parse_config
from search.protocols import CERTIFICATE, FINALISTS, SCREENING, finalists_seconds, measuring_seconds


@given(st.sampled_from([SCREENING, FINALISTS, CERTIFICATE]), st.integers(1, 60), st.floats(0.05, 500.0))
def test_more_networks_take_longer_up_to_the_limit(protocol: Protocol, networks: int, ms: float) -> None:
    """And slower ones, too; no measurement runs for much longer than its protocol allows."""
    seconds = measuring_seconds(protocol, networks, ms)
    assert measuring_seconds(protocol, networks + 1, ms) > seconds
    assert measuring_seconds(protocol, networks, 2 * ms) >= seconds
    assert protocol.seconds is not None
    assert seconds <= protocol.seconds + networks


def test_finalists_of_the_default_job_take_under_a_minute() -> None:
    """As was seen on two cores, where 20 networks of 0.3 ms took 47 s."""
    assert 30 < finalists_seconds(parse_config({}), 0.3) < 60
