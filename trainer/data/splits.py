"""Three splits with three jobs.

The train split fits weights, the reward split ranks architectures during a search, the test split is looked at once,
for the result. A data set's own test split is never used for anything else.
"""

from dataclasses import dataclass

import numpy as np

from space.errors import DataError
from trainer.data.dataset import REWARD, TEST, TRAIN, Dataset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """Indices of images into the data set, int64, ascending, disjoint."""

    train: np.ndarray
    reward: np.ndarray
    test: np.ndarray


def split(dataset: Dataset, *, reward_fraction: float = 0.15, seed: int = 0) -> Splits:
    """Keep the data set's own test split, and take `reward_fraction` of each class of the rest as the reward split.

    Where the data set has a reward split of its own, that one is used and `reward_fraction` and `seed` change nothing.

    Raises:
        DataError: the fraction is not between 0 and 1, or a class would be missing from a split.
    """
    if not 0 < reward_fraction < 1:
        raise DataError(f"reward_fraction is {reward_fraction}; it must lie between 0 and 1, for example 0.15")
    labels, roles = np.asarray(dataset.labels()), np.asarray(dataset.fixed_splits())
    train, reward, test = (np.flatnonzero(roles == role) for role in (TRAIN, REWARD, TEST))
    if not len(reward):
        reward = _take(train, labels, reward_fraction, seed)
        train = np.setdiff1d(train, reward, assume_unique=True)
    splits = Splits(train=train, reward=reward, test=test)
    for name, counts in images_per_class(dataset, splits).items():
        if min(counts) == 0:
            raise DataError(
                f"class {name!r} of {dataset.name} has {counts[0]} train, {counts[1]} reward and {counts[2]} test "
                "images; every split needs one, so add images or remove the class"
            )
    return splits


def pooled(splits: Splits) -> Splits:
    """The same where networks are judged in turn: the images that train and those that rank are all of both."""
    pool = np.union1d(splits.train, splits.reward)
    return Splits(train=pool, reward=pool, test=splits.test)


def folds_of(pool: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """A pool of images in so many parts, disjoint, ascending, each with its share of every class to within an image.

    `labels` are the whole data set's.
    """
    parts: list[list[np.ndarray]] = [[] for _ in range(folds)]
    dealt = 0
    for label in np.unique(labels[pool]):
        members = np.random.default_rng([seed, int(label)]).permutation(pool[labels[pool] == label])
        for number in range(folds):  # classes begin with different parts, so that those are of one size
            parts[(number + dealt) % folds].append(members[number::folds])
        dealt += len(members)
    return [np.sort(np.concatenate(part)) for part in parts]


def _take(indices: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """`fraction` of each class, at least one image taken and one left where the class has two."""
    taken = [indices[:0]]
    for label in np.unique(labels[indices]):
        members = indices[labels[indices] == label]
        count = max(1, min(len(members) - 1, round(fraction * len(members))))
        taken.append(np.random.default_rng([seed, int(label)]).permutation(members)[:count])
    return np.sort(np.concatenate(taken))


def subset(indices: np.ndarray, labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` of `indices`, stratified by class (`labels` are the whole data set's), ascending.

    With the same seed a smaller subset lies within a larger one, and every class is in it once `count` reaches the
    number of classes.

    Raises:
        DataError: `count` is below 1.
    """
    if count < 1:
        raise DataError(f"a subset of {count} images was asked for; ask for at least 1")
    # Image k of a class with n images comes k / n of the way, so that each prefix of the order is stratified.
    rng = np.random.default_rng(seed)
    order = rng.permutation(indices)
    position = np.empty(len(order))
    for label in np.unique(labels[order]):
        members = labels[order] == label
        position[members] = np.arange(members.sum()) / members.sum()
    return np.sort(order[np.argsort(position, kind="stable")][:count])


def images_per_class(dataset: Dataset, splits: Splits) -> dict[str, tuple[int, int, int]]:
    """Class name → number of train, reward and test images."""
    labels = np.asarray(dataset.labels())
    train, reward, test = (
        np.bincount(labels[indices], minlength=len(dataset.classes))
        for indices in (splits.train, splits.reward, splits.test)
    )
    return {name: (int(train[i]), int(reward[i]), int(test[i])) for i, name in enumerate(dataset.classes)}
