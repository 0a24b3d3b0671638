"""The finalists: how the baseline is chosen among scaled references that were measured with an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from search.stages.race.finalists import non_decreasing


@given(st.lists(st.floats(0.1, 100), max_size=30))
def test_luck_is_taken_out_of_what_must_rise(values: list[float]) -> None:
    """As SciPy does it."""
    expected = isotonic_regression(values).x if values else []
    assert non_decreasing(values) == pytest.approx(list(expected))


def test_what_rises_stays_as_it_is() -> None:
    """And a single one that was measured too fast does not let a wide network pass."""
    assert non_decreasing([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert non_decreasing([1.0, 1.3, 0.9, 1.4]) == pytest.approx([1.0, 1.1, 1.1, 1.4])
