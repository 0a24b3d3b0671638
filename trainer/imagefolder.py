"""A person's own photos: folders of classes, with or without train/, val/ and test/ above them.

Nothing outside the given folder is ever read: a symbolic link that leaves it is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from space.errors import DataError
from trainer.sources import REWARD, TEST, TRAIN

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif"})

# Of one folder of classes, these shares become the reward split and the test split.
HELD_OUT_FRACTION = 0.15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureFiles:
    """The files of an image folder: labels int64 N, roles uint8 N (TRAIN, REWARD or TEST), ordered by name.

    `stamp` names every file with its size and modification time, so that a changed folder is noticed.
    """

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray
    roles: np.ndarray
    stamp: str


def list_imagefolder(root: Path) -> PictureFiles:
    """Find the pictures of ROOT/train/CLASS, ROOT/val/CLASS, ROOT/test/CLASS, or of ROOT/CLASS.

    With test/, that is the test split and val/, if there, the reward split; with val/ alone, val/ is the test
    split; a single folder of classes is split 70/15/15 by class, the same way each time.

    Raises:
        DataError: the folder is missing, has fewer than two classes, a class has too few pictures for its splits,
            the splits have different classes, or a link leads out of the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give imagefolder:PATH a folder with one folder of pictures per class")
    splits = {role: _list_classes(folder, root) for role, folder in _split_folders(root).items()}
    classes = _common_classes(root, splits)
    needed = {1: 3, 2: 2, 3: 1}[len(splits)]  # one picture for each split that is taken from this one
    files: list[Path] = []
    labels: list[int] = []
    roles: list[int] = []
    for role, found in splits.items():
        for label, name in enumerate(classes):
            wanted = needed if role == TRAIN else 1
            if len(found[name]) < wanted:
                raise DataError(_too_few(root, name, len(found[name]), wanted))
            files += found[name]
            labels += [label] * len(found[name])
            roles += _hold_out(len(found[name]), label) if len(splits) == 1 else [role] * len(found[name])
    return PictureFiles(
        classes=classes,
        files=tuple(files),
        labels=np.array(labels, dtype=np.int64),
        roles=np.array(roles, dtype=np.uint8),
        stamp="\n".join(_stamp(file, root, role) for file, role in zip(files, roles, strict=True)),
    )


def _split_folders(root: Path) -> dict[int, Path]:
    names = {folder.name for folder in _entries(root, root) if folder.is_dir()}
    # A class may be called "train" too (of a photo set of vehicles): a split has folders in it, a class has pictures.
    if "train" not in names or not any(entry.is_dir() for entry in _entries(root / "train", root)):
        return {TRAIN: root}
    if "test" in names:
        held_out = {REWARD: "val", TEST: "test"} if "val" in names else {TEST: "test"}
    else:
        held_out = {TEST: "val"} if "val" in names else {}
    return {TRAIN: root / "train"} | {role: root / name for role, name in held_out.items()}


def _entries(folder: Path, root: Path) -> Iterator[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error}); check its permissions") from error
    for entry in entries:
        if entry.is_symlink() and not _inside(entry, root):
            raise DataError(f"{entry} is a link that leaves {root}; copy what it points to into the folder")
        yield entry


def _inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _list_classes(folder: Path, root: Path) -> dict[str, list[Path]]:
    return {entry.name: list(_pictures(entry, root)) for entry in _entries(folder, root) if entry.is_dir()}


def _pictures(folder: Path, root: Path) -> Iterator[Path]:
    for entry in _entries(folder, root):
        if entry.suffix.lower() in SUFFIXES:
            if not entry.is_file():
                raise DataError(f"{entry} is not a regular file; remove it")
            yield entry


def _common_classes(root: Path, splits: dict[int, dict[str, list[Path]]]) -> tuple[str, ...]:
    first = splits[TRAIN].keys()
    for found in splits.values():
        if differing := sorted(first ^ found.keys()):
            raise DataError(
                f"class {differing[0]!r} is not in every split folder of {root}; "
                "train, val and test need the same classes"
            )
    if len(first) < 2:
        names = ", ".join(map(repr, first)) or "none"
        raise DataError(f"{root} needs at least two classes, one folder each with pictures in it; found: {names}")
    return tuple(sorted(first))


def _too_few(root: Path, name: str, count: int, wanted: int) -> str:
    kinds = ", ".join(sorted(SUFFIXES))
    return (
        f"class {name!r} of {root} has too few pictures directly in its folder: {count}, at least {wanted} needed "
        f"({kinds}); add some or remove the class"
    )


def _hold_out(count: int, label: int) -> list[int]:
    """Roles for the pictures of one class, in name order; a fixed seed, so that the test split is the same for all."""
    held_out = max(1, round(HELD_OUT_FRACTION * count))
    order = np.random.default_rng([0, label]).permutation(count)
    roles = np.full(count, TRAIN)
    roles[order[:held_out]] = REWARD
    roles[order[held_out : 2 * held_out]] = TEST
    return [int(role) for role in roles]


def _stamp(file: Path, root: Path, role: int) -> str:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}); check its permissions") from error
    return f"{role} {file.relative_to(root).as_posix()} {status.st_size} {status.st_mtime_ns}"
