"""Predicting many networks at once is predicting each."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.calibration import Calibration
from latency.predict import Predictor
from latency.table import LatencyTable
from space.choices import SearchSpace
from space.encoding import Encoding
from space.errors import MissingBlock
from space.preset import load_preset, preset_names
from tests.strategies import free_space, minute_space, random_table, small_space

WALL = Calibration(
    warm=0.9,
    cold=0.05,
    per_block_ms=-0.02,
    per_input_mb_ms=0.3,
    per_weight_mb_ms=0.2,
    constant_ms=0.1,
    networks=40,
    error=0.01,
)
CPU = replace(WALL, warm=0.8, constant_ms=0.05)


def table_of(space: SearchSpace, seed: int) -> LatencyTable:
    """A made-up table with a calibration for each clock."""
    return replace(random_table(space, seed, WALL), cpu_calibration=CPU)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([small_space(), free_space(), minute_space()]), st.integers(0, 2**32 - 1))
def test_rows_cost_what_their_networks_cost(space: SearchSpace, seed: int) -> None:
    """For any table, each row's prediction is the estimate of the network that it stands for, on both clocks."""
    table, encoding = table_of(space, seed), Encoding(space)
    codes = encoding.sample(40, np.random.default_rng(seed))
    for clock in ("wall", "cpu"):
        found = Predictor(table, encoding, clock).estimate(codes)
        expected = [table.estimate(encoding.decode(code), clock) for code in codes]
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_space_can_be_predicted(name: str) -> None:
    """The reachable blocks are all that a predictor asks for, in every shipped space."""
    preset = load_preset(name)
    space = SearchSpace(preset=preset, width=0.5, resolution=32, in_channels=3, num_classes=10)
    table, encoding = table_of(space, 0), Encoding(space)
    codes = encoding.sample(5, np.random.default_rng(0))
    assert Predictor(table, encoding).estimate(codes) == pytest.approx(
        [table.estimate(encoding.decode(c)) for c in codes]
    )


def test_a_hole_in_the_table_is_an_error() -> None:
    """A missing block is named before anything is predicted."""
    table = table_of(small_space(), 0)
    holed = replace(table, entries=dict(list(table.entries.items())[:-1]))
    with pytest.raises(MissingBlock, match="is not measured on 'pi4'"):
        Predictor(holed, Encoding(small_space()))
