"""The finalists: how the baseline is chosen among scaled references that were measured with an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from search.stages.race.finalists import _span, non_decreasing


@given(st.lists(st.floats(0.1, 100), max_size=30))
def test_luck_is_taken_out_of_what_must_rise(values: list[float]) -> None:
    """As SciPy does it."""
    expected = isotonic_regression(values).x if values else []
    assert non_decreasing(values) == pytest.approx(list(expected))


@pytest.mark.parametrize(
    ("share", "madds"), [(0.6, 0.49), (0.8, 0.53), (1.0, 1.0), (1.14, 1.38), (1.27, 1.74), (1.51, 2.31), (1.92, 3.23)]
)
def test_the_widest_is_looked_for_where_it_was_measured_to_be(share: float, madds: float) -> None:
    """Latency and multiply-adds of MobileNetV3-Small's widths for 32 px, and of MobileNetV2's for 96 px at 60%."""
    for unsure in (0.0, 0.04):
        least, most = _span(share, unsure)
        assert least <= madds <= most


def test_what_rises_stays_as_it_is() -> None:
    """And a single one that was measured too fast does not let a wide network pass."""
    assert non_decreasing([1.0, 2.0, 3.0]) == [1.0, 2.0, 3.0]
    assert non_decreasing([1.0, 1.3, 0.9, 1.4]) == pytest.approx([1.0, 1.1, 1.1, 1.4])
