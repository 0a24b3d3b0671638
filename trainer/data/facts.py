"""What is remembered of a data set, so that networks trained on it can be told of and exported without it."""

import base64
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from space.errors import DataError
from trainer.data.dataset import Dataset
from trainer.data.preprocess import Preprocess
from trainer.data.splits import Splits, images_per_class
from trainer.training.metrics import balanced_accuracy

# Of a class that has more than so many times its even share of the test split, people are told.
UNEVEN = 1.5
_MAX_IMAGES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """The facts of a data set and its splits.

    `images` has the number of train, reward and test images of each class, `test_labels` the class of each image of the
    test split in its order, as an index into `classes`. `repeated` counts the images of the reward and of the test
    split that are once more among those which networks are trained on; the rest is that of `Dataset`.
    """

    classes: tuple[str, ...]
    preprocess: Preprocess
    images: tuple[tuple[int, int, int], ...]
    test_labels: tuple[int, ...]
    repeated: int
    skipped: tuple[str, ...]
    left_out: tuple[str, ...]

    def __post_init__(self) -> None:
        tested = [test for *_, test in self.images]
        counts = Counter(self.test_labels)
        if (
            len(tested) != len(self.classes)
            or tested != [counts[label] for label in range(len(tested))]
            or sum(tested) != len(self.test_labels)
            or min((min(counts) for counts in self.images), default=0) < 1
        ):
            raise DataError("the classes of a recorded data set and its images do not fit together; record it again")

    @classmethod
    def of(cls, dataset: Dataset, splits: Splits) -> Self:
        """Those of a data set as it is now."""
        return cls(
            classes=dataset.classes,
            preprocess=dataset.preprocess,
            images=tuple(images_per_class(dataset, splits).values()),
            test_labels=tuple(np.asarray(dataset.labels())[splits.test].tolist()),
            repeated=_repeated(dataset.digests(), splits),
            skipped=dataset.skipped,
            left_out=dataset.left_out,
        )

    def to_plain(self) -> dict[str, Any]:
        """As JSON; the labels are packed, or ten thousand of them would be most of a record."""
        packed = zlib.compress(np.array(self.test_labels, dtype="<u4").tobytes())
        return asdict(self) | {"test_labels": base64.b64encode(packed).decode()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Read what `to_plain` wrote, wherever it comes from.

        Raises:
            DataError: it is something else.
        """
        try:
            unpacked = zlib.decompressobj().decompress(base64.b64decode(plain["test_labels"]), 4 * _MAX_IMAGES)
            labels = np.frombuffer(unpacked, dtype="<u4").tolist()
            fields = {name: tuple(map(str, plain[name])) for name in ("classes", "skipped", "left_out")}
            images = tuple((int(train), int(reward), int(test)) for train, reward, test in plain["images"])
            if max(labels, default=0) >= len(fields["classes"]):
                raise ValueError("a label without a class")
            return cls(
                **fields,
                preprocess=Preprocess.from_plain(plain["preprocess"]),
                images=images,
                test_labels=tuple(labels),
                repeated=int(plain["repeated"]),
            )
        except (ValueError, KeyError, TypeError, zlib.error) as error:
            raise DataError(f"the facts of a data set are not readable ({error}); record it again") from error

    @property
    def largest(self) -> tuple[str, float]:
        """The class with most images of the test split, and its share: the top-1 of always naming it."""
        tested = [test for *_, test in self.images]
        most = max(range(len(tested)), key=tested.__getitem__)
        return self.classes[most], tested[most] / sum(tested)

    @property
    def is_uneven(self) -> bool:
        """Whether always naming one class has a top-1 that misleads."""
        return self.largest[1] > UNEVEN / len(self.classes)

    def balanced_accuracy(self, right: np.ndarray) -> float:
        """The mean over the classes of the share of their images of the test split that a network got right, bool N.

        Raises:
            DataError: it was tested on other images.
        """
        labels = np.array(self.test_labels)
        if right.shape != labels.shape:
            raise DataError(f"{len(labels):,} test images are recorded, {right.size:,} were judged; record them again")
        count = len(self.classes)
        return balanced_accuracy(np.bincount(labels[right], minlength=count), np.bincount(labels, minlength=count))

    def warnings(self) -> list[str]:
        """What somebody should know before trusting a top-1 on these data, a sentence each."""
        found = []
        if self.left_out:
            found.append(f"not used: {', '.join(self.left_out)}")
        if self.skipped:
            found.append(f"damaged and left out: {_listed(self.skipped)}")
        if self.repeated:
            found.append(
                f"{self.repeated:,} images of the reward and test splits are also among those that networks are "
                "trained on, pixel by pixel: top-1 is too high by what is learnt by heart"
            )
        if self.is_uneven:
            name, share = self.largest
            found.append(f"class {name!r} has {share:.1%} of the test split: always naming it has that top-1")
        return found


def _repeated(digests: np.ndarray, splits: Splits) -> int:
    held_out = np.setdiff1d(np.concatenate([splits.reward, splits.test]), splits.train)
    # In folds the images that train judge, too: there each copy may be judged by what has seen another one.
    judging = digests[np.intersect1d(splits.reward, splits.train)]
    copies = len(judging) - len(np.unique(judging))
    return int(np.isin(digests[held_out], digests[splits.train]).sum()) + copies


def _listed(names: tuple[str, ...], shown: int = 5) -> str:
    """How many, and the first of them."""
    more = ", …" if len(names) > shown else ""
    return f"{len(names):,} ({', '.join(names[:shown])}{more})"
