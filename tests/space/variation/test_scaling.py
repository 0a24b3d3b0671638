"""The reference at smaller width multipliers."""

from itertools import pairwise

from space.choices import SearchSpace
from space.cost import cost_of
from space.preset import load_preset
from space.reference import mobilenet_v3_small_32px
from space.variation.scaling import scaled_references, widened_references


def test_each_scaled_reference_comes_once() -> None:
    """All widths below the space's in steps of 0.01, wider ones first, rounded as the reference is."""
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=28, in_channels=1, num_classes=10
    )
    found = scaled_references(space)
    assert len(set(found.values())) == len(found) > 5
    assert space.reference not in found.values()
    for width, arch in found.items():
        assert arch == mobilenet_v3_small_32px(width=width, resolution=28, in_channels=1, num_classes=10)
    costs = [cost_of(arch).madds for arch in found.values()]
    assert all(wider >= narrower for wider, narrower in pairwise(costs))
    for step in range(5, 50):
        scaled = mobilenet_v3_small_32px(width=step / 100, resolution=28, in_channels=1, num_classes=10)
        assert scaled in {space.reference, *found.values()}


def test_each_widened_reference_comes_once() -> None:
    """All widths above the space's up to the widest, wider ones first, none of which is the reference."""
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=28, in_channels=1, num_classes=10
    )
    found = widened_references(space, 0.8)
    assert len(set(found.values())) == len(found) > 5
    assert space.reference not in found.values()
    assert next(iter(found)) == 0.8
    assert list(found) == sorted(found, reverse=True)
    assert all(width > 0.5 for width in found)
    costs = [cost_of(arch).madds for arch in found.values()]
    assert all(wider >= narrower for wider, narrower in pairwise(costs))
    assert widened_references(space, 0.5) == {}
