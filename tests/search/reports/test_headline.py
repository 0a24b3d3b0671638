"""The sentence that every report begins with: it says no more than the test split does."""

from hypothesis import given
from hypothesis import strategies as st

from search.reports.headline import in_words
from trainer.training.metrics import Difference

SHARES = st.floats(-1, 1)


@given(st.lists(SHARES, min_size=3, max_size=3).map(sorted))
def test_only_what_is_clear_is_called_more_or_less(ends: list[float]) -> None:
    """An interval that holds zero makes no network more accurate than another."""
    low, middle, high = ends
    said = in_words(Difference(difference=middle, low=low, high=high), "the reference")
    assert ("more accurate" in said) == (low > 0)
    assert ("less accurate" in said) == (high < 0)
    assert ("as accurate as the reference, as far as" in said) == (low <= 0 <= high)
    assert f"95% interval {100 * low:+.2f} to {100 * high:+.2f}" in said
