"""Statistics of latency samples."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import expon

from latency.measurement import QUANTILE, Cache, Clock, Measurement
from tests.strategies import constant, measurements

KINDS: list[tuple[Cache, Clock]] = [("cold", "wall"), ("cold", "cpu"), ("warm", "wall"), ("warm", "cpu")]


def warm(samples: tuple[float, ...]) -> Measurement:
    """A measurement of interest in its warm wall samples only."""
    return replace(constant(1.0), warm_wall=samples)


def test_the_estimate_is_the_ten_percent_quantile() -> None:
    """Of 0, 1, …, 100 ms a tenth lies below 10 ms, in whatever order they were measured."""
    samples = tuple(np.random.default_rng(0).permutation(101).astype(float))
    assert warm(samples).estimate("warm", "wall") == pytest.approx(10)


def test_disturbances_leave_the_estimate_alone() -> None:
    """Making the slower half of the samples a hundred times slower changes nothing."""
    quiet = tuple(np.linspace(1, 2, 100))
    disturbed = tuple(ms if ms < 1.5 else 100 * ms for ms in quiet)
    assert warm(disturbed).estimate("warm", "wall") == warm(quiet).estimate("warm", "wall")


def test_each_kind_has_its_own_samples() -> None:
    """Cold and warm, wall and CPU samples are not mixed up."""
    found = Measurement(cold_wall=(1.0,), cold_cpu=(2.0,), warm_wall=(3.0,), warm_cpu=(4.0,))
    assert [found.estimate(*kind) for kind in KINDS] == [1, 2, 3, 4]
    assert [found.samples(*kind) for kind in KINDS] == [(1,), (2,), (3,), (4,)]


@given(measurements())
def test_the_interval_contains_the_estimate(found: Measurement) -> None:
    """For any samples the interval lies within their range and around the estimate."""
    for kind in KINDS:
        low, high = found.interval(*kind)
        slack = 1e-9 * high  # the quantile is interpolated
        assert min(found.samples(*kind)) <= low <= found.estimate(*kind) + slack
        assert found.estimate(*kind) - slack <= high <= max(found.samples(*kind))


@pytest.mark.parametrize("count", [32, 64, 128, 400])
def test_the_interval_covers_the_true_quantile(count: int) -> None:
    """Of 1,000 simulated measurements of known distribution 90 to 99.5 % have the true quantile in their interval."""
    rng = np.random.default_rng(count)
    truth = 1 + expon.ppf(QUANTILE)
    intervals = [warm(tuple(1 + rng.exponential(size=count))).interval("warm", "wall") for _ in range(1000)]
    share = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.9 <= share <= 0.995


def test_the_interval_narrows() -> None:
    """A hundred times the samples give an interval about a tenth as wide."""
    rng = np.random.default_rng(0)

    def width(count: int) -> float:
        low, high = warm(tuple(1 + rng.random(count))).interval("warm", "wall")
        return high - low

    few, many = (np.mean([width(count) for _ in range(30)]) for count in (100, 10_000))
    assert 7 < few / many < 14


@given(st.floats(1e-3, 1e3), st.integers(1, 20))
def test_equal_samples_have_no_spread(ms: float, count: int) -> None:
    """Where every run took as long, spread is 0 and the interval is a point."""
    found = warm((ms,) * count)
    assert found.spread("warm", "wall") == pytest.approx(0, abs=1e-9)
    assert found.interval("warm", "wall") == (ms, ms)


def test_spread_is_relative() -> None:
    """0 to 100 ms above 10 ms: the median of 60 ms is twice the estimate of 20 ms above it."""
    samples = tuple(10.0 + np.arange(101))
    assert warm(samples).spread("warm", "wall") == pytest.approx(2)
