"""What a folder of photos holds: kinds, sizes, damaged files, and pictures that are there more than once."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from space.errors import DataError
from trainer.data.dataset import REWARD, TEST, TRAIN
from trainer.data.imagefolder import PictureFiles, find_pictures
from trainer.data.near import look_alike
from trainer.data.pictures import inspect_picture

SPLIT_NAMES = {TRAIN: "train", REWARD: "val", TEST: "test"}


@dataclass(slots=True, kw_only=True)
class DataCheck:
    """All that was found; `images` counts the sound pictures of each class by split, and `files` has them all.

    `damaged` has the reason of each file.

    `across_splits` and `across_classes` are groups of equal files (byte for byte) in several splits or classes, and
    `repeated` counts files that are there once more in their own split and class. `alike` are groups of pictures that
    look alike without being equal. `refusal` is why nothing can be trained on the folder as it is, if so.
    """

    root: Path
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    files: dict[str, list[Path]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    left_out: tuple[str, ...] = ()
    damaged: dict[Path, str] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    across_splits: list[list[Path]] = field(default_factory=list)
    across_classes: list[list[Path]] = field(default_factory=list)
    repeated: int = 0
    alike: list["Alike"] = field(default_factory=list)
    refusal: str | None = None

    @property
    def imbalance(self) -> float:
        """How many times as many pictures the largest class has as the smallest one that has any."""
        counts = [len(files) for files in self.files.values()]
        return max(counts) / min(counts) if counts else 1.0

    @property
    def splits(self) -> list[str]:
        """The splits that the folder has, as it names their jobs."""
        return [name for name in SPLIT_NAMES.values() if any(name in counts for counts in self.images.values())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Pictures that look alike, and how many splits and classes they are in."""

    paths: tuple[Path, ...]
    splits: int
    classes: int


def check_folder(root: Path, progress: Callable[[int, int], None] | None = None) -> DataCheck:
    """Decode every picture of an image folder once.

    Raises:
        DataError: there is no such folder, or a name or link in it is refused (see `list_imagefolder`).
    """
    splits, left_out = find_pictures(root)
    found = DataCheck(root=root, left_out=left_out)
    files = [
        (SPLIT_NAMES[role], name, path)
        for role, classes in splits.items()
        for name, paths in classes.items()
        for path in paths
    ]
    for role, classes in splits.items():
        for name in classes:
            found.images.setdefault(name, {})[SPLIT_NAMES[role]] = 0
    equal: dict[bytes, list[tuple[str, str, Path]]] = defaultdict(list)
    outlines: dict[bytes, np.ndarray] = {}
    for done, (split, name, path) in enumerate(files, 1):
        try:
            picture = inspect_picture(path)
        except DataError as error:
            found.damaged[path] = str(error)
        else:
            found.images[name][split] += 1
            found.files.setdefault(name, []).append(path)
            found.kinds[picture.kind] += 1
            found.sizes.append((picture.width, picture.height))
            equal[picture.digest].append((split, name, path))
            outlines[picture.digest] = picture.outline
        if progress:
            progress(done, len(files))
    for group in equal.values():
        _tell_equal(found, group)
    found.alike = list(_alike(equal, outlines))
    try:
        listed = PictureFiles.of(root, splits, left_out)
        if found.damaged:
            listed.without(found.damaged)
    except DataError as error:
        found.refusal = str(error)
    return found


def _tell_equal(found: DataCheck, group: list[tuple[str, str, Path]]) -> None:
    paths = [path for *_, path in group]
    if len({split for split, *_ in group}) > 1:
        found.across_splits.append(paths)
    if len({name for _, name, _ in group}) > 1:
        found.across_classes.append(paths)
    found.repeated += sum(count - 1 for count in Counter((split, name) for split, name, _ in group).values())


def _alike(equal: dict[bytes, list[tuple[str, str, Path]]], outlines: dict[bytes, np.ndarray]) -> Iterator[Alike]:
    """Of files that are equal one is enough, since those are told of."""
    digests = list(outlines)
    if not digests:
        return
    for group in look_alike(np.stack([outlines[digest] for digest in digests])):
        files = [equal[digests[index]][0] for index in group]
        yield Alike(
            paths=tuple(path for *_, path in files),
            splits=len({split for split, *_ in files}),
            classes=len({name for _, name, _ in files}),
        )


def quantiles(values: list[int]) -> tuple[int, int, int]:
    """The least, the middle and the largest of some numbers."""
    ordered = sorted(values)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]
