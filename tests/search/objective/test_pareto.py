"""Pareto fronts and hypervolumes, against their definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.objective.pareto import along_front, hypervolume, losses, non_dominated


@st.composite
def losses_of_networks(draw: st.DrawFn, most: int = 7) -> np.ndarray:
    """Small integers, so that there are ties and equal networks; one to four objectives."""
    objectives = draw(st.integers(1, 4))
    row = st.lists(st.integers(0, 5), min_size=objectives, max_size=objectives)
    rows = draw(st.lists(row, max_size=most))
    return np.array(rows, dtype=np.float64).reshape(len(rows), objectives)


def beats(one: np.ndarray, other: np.ndarray) -> bool:
    """The definition: nowhere worse, somewhere better."""
    return bool((one <= other).all() and (one < other).any())


def inclusion_exclusion(points: np.ndarray, reference: np.ndarray) -> float:
    """The volume of a union of boxes, by adding and taking away those of all intersections."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for chosen in combinations(points, size):
            sides = np.maximum(reference - np.max(chosen, axis=0), 0)
            total += (-1) ** (size + 1) * float(sides.prod())
    return total


@given(losses_of_networks(most=30))
def test_front_is_what_nobody_beats(points: np.ndarray) -> None:
    """A network is on the front exactly if no other one beats it."""
    expected = [not any(beats(other, one) for other in points) for one in points]
    assert non_dominated(points).tolist() == expected


@given(losses_of_networks(most=20))
def test_a_front_is_kept_before_what_it_beats(points: np.ndarray) -> None:
    """Front by front, each network once; of two objectives the two ends of a front before what lies between them."""
    order = along_front(points).tolist()
    assert sorted(order) == list(range(len(points)))
    while order:
        left = points[order]
        size = int(non_dominated(left).sum())
        front = left[:size]
        assert non_dominated(left)[:size].all()
        if points.shape[1] == 2 and size >= 2:
            first, second = front[:2]
            assert {first[0], second[0]} == {front[:, 0].min(), front[:, 0].max()}
        order = order[size:]


def test_of_a_front_the_far_ones_are_kept_first() -> None:
    """Of five on a line the ends, then the one with the widest gap around it; what is beaten comes last."""
    points = np.array([[0, 10], [1, 9], [2, 8], [6, 4], [10, 0], [7, 7]], dtype=np.float64)
    assert along_front(points).tolist() == [0, 4, 3, 2, 1, 5]


@given(losses_of_networks(), st.integers(2, 6))
def test_hypervolume_is_that_of_the_union(points: np.ndarray, corner: int) -> None:
    """It equals the volume by inclusion and exclusion, in any number of objectives."""
    reference = np.full(points.shape[1], float(corner))
    assert hypervolume(points, reference) == pytest.approx(inclusion_exclusion(points, reference))


@given(losses_of_networks(), st.randoms(use_true_random=False))
def test_hypervolume_asks_for_the_front_alone(points: np.ndarray, rng: object) -> None:
    """Neither order nor beaten networks matter, and one more network never takes anything away."""
    assert hasattr(rng, "shuffle")
    reference = np.full(points.shape[1], 6.0)
    order = list(range(len(points)))
    rng.shuffle(order)
    whole = hypervolume(points, reference)
    assert hypervolume(points[order], reference) == pytest.approx(whole)
    assert hypervolume(points[non_dominated(points)], reference) == pytest.approx(whole)
    assert hypervolume(points[:-1], reference) <= whole + 1e-9


def test_losses_of_top1_and_latency() -> None:
    """Top-1 counts from above: 0.9 within 2 ms covers 0.9 · 1 of a rectangle of 1 · 3 ms."""
    found = losses(np.array([0.9]), np.array([2.0]))
    assert hypervolume(found, np.array([1.0, 3.0])) == pytest.approx(0.9)
    assert hypervolume(found, np.array([1.0, 2.0])) == 0, "on the edge of the rectangle is outside"


def test_random_fronts_agree_with_sampling() -> None:
    """Three objectives, twenty networks: the share of random points that some network beats."""
    rng = np.random.default_rng(0)
    points, samples = rng.random((20, 3)), rng.random((200_000, 3))
    beaten = np.zeros(len(samples), dtype=bool)
    for point in points:
        beaten |= (point <= samples).all(axis=1)
    assert hypervolume(points, np.ones(3)) == pytest.approx(beaten.mean(), abs=0.005)
