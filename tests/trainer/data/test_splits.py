"""The three splits, and subsets of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from space.errors import DataError
from tests.trainer.data.photos import PLAIN, per_class
from trainer.data.dataset import REWARD, TEST, TRAIN, Dataset
from trainer.data.splits import folds_of, split, subset


def stored(folder: Path, labels: np.ndarray, roles: np.ndarray, classes: int) -> Dataset:
    """A data set without images, for what concerns only labels."""
    np.save(folder / "labels.npy", labels)
    np.save(folder / "fixed_splits.npy", roles.astype(np.uint8))
    names = tuple(f"class {index}" for index in range(classes))
    return Dataset(name="made", content_hash="0" * 16, classes=names, preprocess=PLAIN, folder=folder)


@st.composite
def label_sets(draw: st.DrawFn) -> np.ndarray:
    """Shuffled labels of 2–6 classes with 2–40 images each."""
    counts = draw(st.lists(st.integers(2, 40), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)


@settings(deadline=None)  # a busy neighbour is no failure
@given(labels=label_sets(), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**32))
def test_splits_are_disjoint_complete_stratified_and_reproducible(
    labels: np.ndarray, fraction: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every image is in one split, each class gives its share within one image, and a seed repeats its split."""
    classes = int(labels.max()) + 1
    labels = np.concatenate([labels, np.arange(classes)])
    roles = np.where(np.arange(len(labels)) < len(labels) - classes, TRAIN, TEST)
    dataset = stored(tmp_path_factory.mktemp("made"), labels, roles, classes)
    splits = split(dataset, reward_fraction=fraction, seed=seed)
    together = np.concatenate([splits.train, splits.reward, splits.test])
    assert np.sort(together).tolist() == list(range(len(labels)))
    assert splits.test.tolist() == np.flatnonzero(roles == TEST).tolist()
    for train, reward, test in per_class(dataset, splits).values():
        assert min(train, reward, test) >= 1
        assert abs(reward - fraction * (train + reward)) <= 1
    assert split(dataset, reward_fraction=fraction, seed=seed).reward.tolist() == splits.reward.tolist()


@settings(deadline=None)  # a busy neighbour is no failure
@given(labels=label_sets(), seed=st.integers(0, 2**32), counts=st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_subsets_are_nested_and_stratified(labels: np.ndarray, seed: int, counts: tuple[int, int]) -> None:
    """A smaller subset lies in a larger one; no class is further ahead of another than one image."""
    indices = np.flatnonzero(np.arange(len(labels)) % 7)
    small, large = (subset(indices, labels, count, seed) for count in sorted(counts))
    assert set(small) <= set(large) <= set(indices)
    assert len(large) == min(max(counts), len(indices))
    total, taken = (np.bincount(labels[part], minlength=labels.max() + 1) for part in (indices, large))
    shares = [(count - 1) / size for count, size in zip(taken, total, strict=True) if count]
    assert all((count / size) >= max(shares) for count, size in zip(taken, total, strict=True) if size)


def test_a_subset_of_everything_is_everything() -> None:
    """Asking for more images than there are gives all of them; asking for none is an error."""
    labels = np.array([0, 1, 0, 1])
    assert subset(np.array([0, 1, 3]), labels, 10, 0).tolist() == [0, 1, 3]
    with pytest.raises(DataError, match="at least 1"):
        subset(np.array([0]), labels, 0, 0)


def test_seeds_change_the_reward_split_only(tmp_path: Path) -> None:
    """Two seeds share the test split; a data set's own reward split is kept whatever the seed."""
    labels = np.arange(60) % 2
    dataset = stored(tmp_path, labels, np.where(np.arange(60) < 50, TRAIN, TEST), 2)
    first, second = split(dataset, seed=0), split(dataset, seed=1)
    assert first.reward.tolist() != second.reward.tolist()
    assert first.test.tolist() == second.test.tolist()
    own = stored(tmp_path, labels, np.repeat([TRAIN, REWARD, TEST], 20), 2)
    assert split(own, seed=0).reward.tolist() == split(own, seed=1).reward.tolist()
    assert split(own).reward.tolist() == list(range(20, 40))


def test_impossible_splits_are_refused(tmp_path: Path) -> None:
    """A fraction beyond 0–1 and a class that would be missing from a split are named."""
    dataset = stored(tmp_path, np.array([0, 0, 0, 1, 1]), np.array([TRAIN, TRAIN, TEST, TRAIN, TEST]), 2)
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="reward_fraction"):
            split(dataset, reward_fraction=fraction)
    with pytest.raises(DataError, match="'class 1' of made has 0 train, 1 reward and 1 test"):
        split(dataset)


@given(st.lists(st.integers(0, 3), min_size=5, max_size=80), st.integers(1, 5), st.integers(0, 5))
def test_folds_are_disjoint_parts_with_their_share_of_every_class(labels: list[int], folds: int, seed: int) -> None:
    """Together they are the pool; sizes differ by one image at most, in all and of each class."""
    every = np.array(labels)
    pool = np.flatnonzero(every != 3)  # not all of the data set are in the pool
    assume(len(pool) > 0)
    parts = folds_of(pool, every, folds, seed)
    assert len(parts) == folds
    assert np.array_equal(np.sort(np.concatenate(parts)), pool)
    for counts in ([len(part) for part in parts], *([np.sum(every[part] == c) for part in parts] for c in range(3))):
        assert max(counts) - min(counts) <= 1
    assert all(np.array_equal(one, other) for one, other in zip(parts, folds_of(pool, every, folds, seed), strict=True))
