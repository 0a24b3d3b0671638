"""Rewards, against values worked out from their equations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objective.reward import HARD, Absolute, Own, Reward, make_reward, soft
from search.trial import Scores
from space.errors import InvalidConfig, RunError

shares = st.floats(0.01, 1)
latencies = st.floats(0.01, 100)
ALL = (HARD, soft(), soft(-0.15), Absolute(beta=-0.07))


def scores(top1: float | None, latency_ms: float) -> Scores:
    """Scores of which the rest does not matter."""
    return Scores(top1=top1, latency_ms=latency_ms, madds=1, params=1, peak_bytes=1)


def of(reward: Reward, top1: float, latency_ms: float, target_ms: float) -> float:
    """The reward of one network."""
    found = reward.of(scores(top1, latency_ms), target_ms)
    assert found is not None
    return found


@pytest.mark.parametrize(("latency_ms", "expected"), [(1.0, 0.8 * 2**-0.07), (0.25, 0.8 * 2**0.07), (0.5, 0.8)])
def test_soft_values(latency_ms: float, expected: float) -> None:
    """Soft with w = -0.07 costs 2^-0.07 at twice the target and gains as much at half of it."""
    assert of(soft(), 0.8, latency_ms, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(("latency_ms", "expected"), [(1.0, 0.4), (0.25, 0.8), (0.5, 0.8)])
def test_hard_values(latency_ms: float, expected: float) -> None:
    """Hard leaves the top-1 alone up to the target and divides it by the overrun above."""
    assert of(HARD, 0.8, latency_ms, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(("latency_ms", "expected"), [(1.0, 0.73), (0.25, 0.765), (0.5, 0.8)])
def test_absolute_values(latency_ms: float, expected: float) -> None:
    """Absolute with beta = -0.07 takes 0.07 per target's worth of distance, from either side."""
    assert of(Absolute(beta=-0.07), 0.8, latency_ms, 0.5) == pytest.approx(expected)


@given(shares, latencies, latencies)
def test_slower_is_never_better(top1: float, latency_ms: float, target_ms: float) -> None:
    """At equal top-1 no MnasNet reward prefers the slower network; the absolute one does, below the target."""
    for reward in ALL[:3]:
        assert of(reward, top1, latency_ms * 1.1, target_ms) <= of(reward, top1, latency_ms, target_ms) * (1 + 1e-12)
    below = of(ALL[3], top1, target_ms * 0.5, target_ms), of(ALL[3], top1, target_ms, target_ms)
    assert below[0] < below[1]


@given(shares, shares, latencies, latencies)
def test_more_accurate_is_never_worse(one: float, other: float, latency_ms: float, target_ms: float) -> None:
    """At equal latency every reward ranks as top-1 does."""
    for reward in ALL:
        low, high = (of(reward, top1, latency_ms, target_ms) for top1 in sorted((one, other)))
        assert low <= high


@given(st.lists(st.tuples(shares, latencies), min_size=1, max_size=5), latencies)
def test_many_are_as_each(networks: list[tuple[float, float]], target_ms: float) -> None:
    """The rewards of many networks are those of each, a user's own among them."""
    own = Own(name="mine:f", function=lambda found, target: (found.top1 or 0) - found.latency_ms / target)
    costs = np.array([scores(None, latency).costs() for _, latency in networks])
    for reward in (*ALL, own):
        many = reward.of_many(np.array([top1 for top1, _ in networks]), costs, target_ms)
        assert many.tolist() == [of(reward, top1, latency, target_ms) for top1, latency in networks]


def test_untrained_has_no_reward() -> None:
    """Scores without a top-1 have no reward rather than a zero that would rank."""
    for reward in ALL:
        assert reward.of(scores(None, 1.0), 1.0) is None


def test_names() -> None:
    """Kinds by name; a user's own by module and callable, a wrong one with a sentence."""
    assert make_reward("hard", -0.07) == HARD
    assert make_reward("soft", -0.15) == soft(-0.15)
    assert make_reward("absolute", -0.2) == Absolute(beta=-0.2)
    assert isinstance(make_reward("math:fsum", -1), Own)
    with pytest.raises(InvalidConfig, match="nowhere:f cannot be imported"):
        make_reward("nowhere:f", -1)


@pytest.mark.parametrize("gives", [math.nan, math.inf, "much", None])
def test_a_wrong_reward_is_told(gives: object) -> None:
    """A user's reward that gives no finite number ends the search with its name, not with a wrong ranking."""
    own = Own(name="mine:f", function=lambda _scores, _target: gives)  # type: ignore[arg-type, return-value]
    with pytest.raises(RunError, match="mine:f"):
        own.of(scores(0.5, 1.0), 1.0)
