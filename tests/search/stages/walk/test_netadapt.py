"""NetAdapt's proposals and its choice."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.stages.walk.netadapt import Judged, choose, proposals
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import cost_of
from space.keys import keys_of
from space.narrowing import SMALLEST_SHARE, narrowings
from space.preset import load_preset
from space.reference import mobilenet_v3_large, mobilenet_v3_small_32px


def madds(arch: Architecture) -> float:
    """Multiply-adds in millions, standing in for a latency: exact, and falling with every width."""
    return cost_of(arch).madds / 1e6


def sampled(seed: int) -> Architecture:
    """A member of the default space."""
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=1.0, resolution=32, in_channels=3, num_classes=10
    )
    return space.sample(random.Random(seed))


def test_choice_is_least_loss_per_ms() -> None:
    """Losing 2 % for 0.4 ms beats losing 1 % for 0.1 ms, though the latter network is more accurate."""
    current = Judged(score=0.90, latency_ms=2.0)
    cautious, bold = Judged(score=0.89, latency_ms=1.9), Judged(score=0.88, latency_ms=1.6)
    assert choose(current, [cautious, bold]) == 1


def test_choice_prefers_a_gain() -> None:
    """A proposal that gains accuracy beats any that loses some, and the larger gain per ms wins."""
    current = Judged(score=0.80, latency_ms=2.0)
    judged = [
        Judged(score=0.79, latency_ms=1.0),
        Judged(score=0.82, latency_ms=1.0),
        Judged(score=0.81, latency_ms=1.9),
    ]
    assert choose(current, judged) == 2


def test_places_of_the_large_network() -> None:
    """MobileNetV3-Large has 14 expansions and 6 stage widths to narrow (its first block expands by 1)."""
    places = list(narrowings(mobilenet_v3_large()))
    assert len(places) == 14 + 6


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.005, 0.1))
def test_proposals_save_enough_and_barely(seed: int, delta: float) -> None:
    """Each proposal saves at least delta, and the next wider one of its place would not have."""
    arch = sampled(seed)
    delta_ms = delta * madds(arch)
    found = {proposal.narrowed: proposal for proposal in proposals(arch, madds, delta_ms=delta_ms)}
    for place in narrowings(arch):
        chosen = [index for index, each in enumerate(place) if each.narrowed in found]
        for index, each in enumerate(place):
            saves = madds(arch) - madds(each.architecture) >= delta_ms
            assert saves == (bool(chosen) and index >= chosen[0])


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_narrowings_narrow_one_thing(seed: int) -> None:
    """Widths stay multiples of 8 of at least half, shape and depth stay, and multiply-adds fall along a place."""
    arch = sampled(seed)
    for place in narrowings(arch):
        for each in place:
            narrow = each.architecture
            assert len(keys_of(narrow)) == len(keys_of(arch))
            changed = [
                (old, new)
                for old_stage, new_stage in zip(arch.stages, narrow.stages, strict=True)
                for old, new in [
                    (old_stage.out_channels, new_stage.out_channels),
                    *(
                        (old_block.expanded_channels or 0, new_block.expanded_channels or 0)
                        for old_block, new_block in zip(old_stage.blocks, new_stage.blocks, strict=True)
                    ),
                ]
                if old != new
            ]
            assert len(changed) == 1 or "+" in each.narrowed
            ((was, now),) = set(changed)
            assert now % 8 == 0
            assert was > now >= was * SMALLEST_SHARE
        costs = [madds(each.architecture) for each in place]
        assert all(wider > narrower for wider, narrower in pairwise(costs))


def test_shared_width_moves_with_its_stage() -> None:
    """Narrowing a stage's width changes every block that shares it through the residual connections."""
    arch = mobilenet_v3_small_32px()
    narrow = next(
        proposal.architecture
        for place in narrowings(arch)
        for proposal in place
        if proposal.narrowed.startswith("stage5 width")
    )
    widths = [str(key) for key in keys_of(narrow)[-4:]]
    assert narrow.stages[-1].out_channels == 88
    assert all("88" in width for width in widths)


def test_stages_joined_by_a_residual_narrow_together() -> None:
    """At width 0.5 stages 3 and 4 of the reference both have 24 channels and are joined: they stay joined."""
    arch = mobilenet_v3_small_32px(width=0.5)
    names = {proposal.narrowed.split(" ")[0] for place in narrowings(arch) for proposal in place}
    assert "stage3+stage4" in names
    assert not {"stage3", "stage4"} & names
    for place in narrowings(arch):
        for proposal in place:
            assert proposal.architecture.residual_groups[2] == (2, 3)


def test_nothing_to_save() -> None:
    """A step larger than any place can give yields no proposal."""
    arch = mobilenet_v3_small_32px()
    assert proposals(arch, madds, delta_ms=madds(arch)) == ()


def test_ties_go_to_the_first() -> None:
    """Equal ratios are decided by order, so that a resumed iteration decides alike."""
    current = Judged(score=0.5, latency_ms=2.0)
    same = Judged(score=0.4, latency_ms=1.0)
    assert choose(current, [same, same]) == 0
    with pytest.raises(ValueError, match="empty"):
        choose(current, [])
