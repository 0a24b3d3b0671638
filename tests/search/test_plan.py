"""What a space reaches by a latency that only a function knows."""

import numpy as np
import pytest

from search.plan import sampled_range
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.preset import load_preset, preset_names
from tests.search.madds import Madds


@pytest.mark.parametrize("name", preset_names())
def test_the_smallest_network_bounds_a_space(name: str) -> None:
    """No member costs less than that of the smallest choices, and the range that is found by asking begins with it."""
    space = SearchSpace(preset=load_preset(name), width=1.0, resolution=224, in_channels=3, num_classes=1000)
    encoding, smallest = Encoding(space), cost_of(space.smallest)
    costs = encoding.cost(encoding.sample(3000, np.random.default_rng(1)))
    assert costs.madds.min() >= smallest.madds
    assert costs.params.min() >= smallest.params
    assert costs.peak_bytes.min() >= smallest.peak_bytes
    reach = sampled_range(Madds(), space, None)
    assert reach.fastest_ms == pytest.approx(smallest.madds / 1e6)
    assert reach.slowest_ms >= cost_of(space.largest).madds / 1e6
