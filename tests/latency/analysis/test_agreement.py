"""The figures of agreement, against SciPy's and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import kendalltau, spearmanr

from latency.analysis.agreement import agreement, kendall_tau, spearman

# Few different values, so that there are ties.
VALUES = st.integers(2, 40).flatmap(lambda n: st.tuples(*[arrays(np.float64, n, elements=st.integers(0, 12))] * 2))


@given(VALUES)
def test_rank_correlations_are_scipys(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Kendall's τ-b and Spearman's ρ, ties included, are what SciPy says; nan where one side is constant."""
    one, other = pair
    constant = len(set(one)) == 1 or len(set(other)) == 1
    if constant:
        assert math.isnan(kendall_tau(one, other))
        assert math.isnan(spearman(one, other))
        return
    assert kendall_tau(one, other) == pytest.approx(kendalltau(one, other).statistic, abs=1e-9)
    assert spearman(one, other) == pytest.approx(spearmanr(one, other).statistic, abs=1e-9)


def test_errors_are_relative_to_what_was_measured() -> None:
    """Predictions of 104, 90, 100 and 120 % are off by 8.5 % on average; half are within 5 %, three within 10 %."""
    measured = np.array([1.0, 2.0, 3.0, 4.0])
    found = agreement(measured * np.array([1.04, 0.9000001, 1.0, 1.2]), measured)
    assert found.networks == 4
    assert found.mape == pytest.approx(0.085, abs=1e-6)
    assert found.bias == pytest.approx(0.035, abs=1e-6)
    assert (found.within_5, found.within_10) == (0.5, 0.75)
    assert (found.kendall_tau, found.spearman) == pytest.approx((1, 1))


def test_equal_values_agree_wholly() -> None:
    """A prediction of itself has no error, and reversing the order gives -1."""
    values = np.linspace(1, 2, 50)
    found = agreement(values, values)
    assert (found.mape, found.within_5, found.kendall_tau) == pytest.approx((0, 1, 1))
    assert kendall_tau(values, values[::-1]) == pytest.approx(-1)
    assert spearman(values, values[::-1]) == pytest.approx(-1)
