"""Statistics of latency samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import expon

from latency.measurement import QUANTILE, Cache, Clock, Measurement
from tests.strategies import measurements

KINDS: list[tuple[Cache, Clock]] = [("cold", "wall"), ("cold", "cpu"), ("warm", "wall"), ("warm", "cpu")]


def warm(samples: tuple[float, ...]) -> Measurement:
    """A measurement with one warm sample a visit."""
    return Measurement(cold_wall=samples, cold_cpu=samples, warm_wall=samples, warm_cpu=samples)


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


def test_samples_of_one_visit_count_as_one() -> None:
    """Eight times the same samples per visit make the interval no narrower: they are not independent."""
    visits = tuple(1 + np.random.default_rng(0).random(40))
    once = warm(visits)
    eightfold = Measurement(
        cold_wall=visits, cold_cpu=visits, warm_wall=tuple(np.repeat(visits, 8)), warm_cpu=tuple(np.repeat(visits, 8))
    )
    widths = [high - low for low, high in (each.interval("warm", "wall") for each in (once, eightfold))]
    assert widths[1] == pytest.approx(widths[0], rel=0.35)


def test_disturbed_visits_are_left_out() -> None:
    """A third of the visits being slow changes nothing where they are marked; where most are marked, all count."""
    fast, slow = (1.0, 1.0, 1.1), (5.0, 5.0, 5.5)
    cold = (1.5,) * 6

    def found(disturbed: tuple[int, ...], rows: tuple[tuple[float, ...], ...]) -> Measurement:
        samples = tuple(ms for row in rows for ms in row)
        return Measurement(cold_wall=cold, cold_cpu=cold, warm_wall=samples, warm_cpu=samples, disturbed=disturbed)

    rows = (slow, fast, fast, slow, fast, fast)
    assert found((0, 3), rows).spread("warm", "wall") >= 0
    assert max(found((0, 3), rows).interval("warm", "wall")) <= 1.1
    most = found((1, 2, 4, 5), rows)
    assert most.estimate("warm", "wall") == 1.0


def test_joining_keeps_the_marks() -> None:
    """Of two measurements joined, the second one's disturbed visits are counted on."""
    one = Measurement(cold_wall=(1.0, 2.0), cold_cpu=(1.0, 2.0), warm_wall=(3.0,), warm_cpu=(4.0,), disturbed=(1,))
    joined = one.joined(one)
    assert joined.disturbed == (1, 3)
    assert joined.cold_wall == (1.0, 2.0, 1.0, 2.0)
    assert joined.visits == 4
