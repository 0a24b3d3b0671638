"""The fastest and slowest member against all members."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.calibration import Calibration
from latency.extremes import fastest, slowest
from space.choices import SearchSpace
from space.errors import MissingBlock
from tests.strategies import free_space, members, random_table, small_space

SPACE = small_space()
MEMBERS = tuple(members(SPACE))
FREE = free_space()
FREE_MEMBERS = tuple(set(members(FREE)))


@settings(max_examples=60)
@given(
    st.sampled_from((SPACE, FREE)),
    st.integers(0, 2**32),
    st.floats(0.2, 3),
    st.floats(-0.3, 0.3),
    st.floats(-1, 1),
)
def test_extremes_are_exact(space: SearchSpace, seed: int, scale: float, per_block: float, constant: float) -> None:
    """Over any table, negative block costs included, fastest and slowest are the extremes of all members."""
    calibration = Calibration(warm=scale, per_block_ms=per_block, constant_ms=constant, networks=40, error=0.0)
    table = random_table(space, seed, calibration)
    latencies = [table.estimate(arch) for arch in (MEMBERS if space is SPACE else FREE_MEMBERS)]
    fast, slow = fastest(table, space), slowest(table, space)
    assert fast in space
    assert slow in space
    assert table.estimate(fast) == pytest.approx(min(latencies))
    assert table.estimate(slow) == pytest.approx(max(latencies))


def test_a_dear_width_is_avoided() -> None:
    """A choice that is cheap in its own stage but dear in the next is not taken: the search is not greedy."""
    table = random_table(SPACE, 0)
    wide = {arch.stages[0].out_channels for arch in MEMBERS}
    for avoided in wide:
        entries = {
            key: replace(found, warm_cpu=(100.0,))
            if getattr(key, "resolution", 0) == 8 and key.in_channels == avoided
            else found
            for key, found in table.entries.items()
        }
        assert fastest(replace(table, entries=entries), SPACE).stages[0].out_channels != avoided


def test_a_hole_in_the_table_is_an_error() -> None:
    """Where a reachable block was not measured, there is no fastest network to name."""
    table = random_table(SPACE, 0)
    holed = replace(table, entries=dict(list(table.entries.items())[:-1]))
    with pytest.raises(MissingBlock):
        fastest(holed, SPACE)
