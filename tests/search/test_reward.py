"""MnasNet's reward, against values worked out from its equation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.reward import HARD, soft
from search.trial import Scores

shares = st.floats(0.01, 1)
latencies = st.floats(0.01, 100)


@pytest.mark.parametrize(("latency_ms", "expected"), [(1.0, 0.8 * 2**-0.07), (0.25, 0.8 * 2**0.07), (0.5, 0.8)])
def test_soft_values(latency_ms: float, expected: float) -> None:
    """Soft with w = -0.07 costs 2^-0.07 at twice the target and gains as much at half of it."""
    assert soft()(0.8, latency_ms, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(("latency_ms", "expected"), [(1.0, 0.4), (0.25, 0.8), (0.5, 0.8)])
def test_hard_values(latency_ms: float, expected: float) -> None:
    """Hard leaves the top-1 alone up to the target and divides it by the overrun above."""
    assert HARD(0.8, latency_ms, 0.5) == pytest.approx(expected)


@given(shares, latencies, latencies)
def test_slower_is_never_better(top1: float, latency_ms: float, target_ms: float) -> None:
    """At equal top-1 neither reward prefers the slower network."""
    for reward in (HARD, soft(), soft(-0.15)):
        assert reward(top1, latency_ms * 1.1, target_ms) <= reward(top1, latency_ms, target_ms) * (1 + 1e-12)


def test_untrained_has_no_reward() -> None:
    """Scores without a top-1 have no reward rather than a zero that would rank."""
    assert HARD.of(Scores(top1=None, latency_ms=1.0, madds=1, params=1), 1.0) is None
