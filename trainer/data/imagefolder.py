"""A person's own photos: folders of classes, with or without train/, val/ and test/ above them.

Nothing outside the given folder is ever read: a symbolic link that leaves it is refused.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from space.errors import DataError
from space.paths import unfit_name
from trainer.data.dataset import REWARD, TEST, TRAIN
from trainer.data.pictures import NAMES, picture_or_kind

# What people call the folders of the splits, whatever the case.
_SPLIT_NAMES = {
    TRAIN: ("train",),
    REWARD: ("val", "valid", "validation", "dev"),
    TEST: ("test",),
}

# Of one folder of classes, these shares become the reward split and the test split.
HELD_OUT_FRACTION = 0.15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PictureFiles:
    """The files of an image folder: labels int64 N, roles uint8 N (TRAIN, REWARD or TEST), ordered by name.

    `splits` holds the files of each class (by its name in NFC) of each split folder, `left_out` what was found beside
    them and is not used, in words.
    """

    root: Path
    splits: Mapping[int, Mapping[str, tuple[Path, ...]]]
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: np.ndarray
    roles: np.ndarray
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls, root: Path, splits: Mapping[int, Mapping[str, tuple[Path, ...]]], left_out: tuple[str, ...] = ()
    ) -> Self:
        """Check that the splits have the same classes with enough pictures each.

        Raises:
            DataError: they do not.
        """
        classes = _common_classes(root, splits)
        needed = {1: 3, 2: 2, 3: 1}[len(splits)]  # one picture for each split that is taken from this one
        files: list[Path] = []
        labels: list[int] = []
        roles: list[int] = []
        for role, found in splits.items():
            for label, name in enumerate(classes):
                count = len(found[name])
                wanted = needed if role == TRAIN else 1
                if count < wanted:
                    raise DataError(_too_few(root, name, count, wanted, left_out))
                files += found[name]
                labels += [label] * count
                roles += hold_out(count, label).tolist() if len(splits) == 1 else [role] * count
        return cls(
            root=root,
            splits=splits,
            classes=classes,
            files=tuple(files),
            labels=np.array(labels, dtype=np.int64),
            roles=np.array(roles, dtype=np.uint8),
            left_out=left_out,
        )

    def without(self, files: Container[Path]) -> Self:
        """The same as if these files were not there.

        Raises:
            DataError: a class has too few pictures then.
        """
        kept = {
            role: {name: tuple(path for path in paths if path not in files) for name, paths in found.items()}
            for role, found in self.splits.items()
        }
        damaged = sum(path in files for path in self.files)
        return self.of(self.root, kept, (*self.left_out, f"{damaged:,} damaged pictures"))

    @property
    def stamp(self) -> bytes:
        """Every file's name, role, size and modification time, so that a changed folder is noticed."""
        return b"\n".join(_stamp(file, self.root, role) for file, role in zip(self.files, self.roles, strict=True))


def list_imagefolder(root: Path) -> PictureFiles:
    """Find the pictures of ROOT/train/CLASS, ROOT/val/CLASS, ROOT/test/CLASS, or of ROOT/CLASS.

    val may also be called valid, validation or dev, and all of them be in capitals. With test, that is the test split
    and val, if there, the reward split; with val alone, val is the test split; a single folder of classes is split
    70/15/15 by class, the same way each time. Pictures are known by their content, whatever their suffix.

    Raises:
        DataError: the folder is missing, has fewer than two classes, a class has too few pictures for its splits,
            the splits have different classes, two folders have the same job or, but for the form of their letters, the
            same name, a name is not Unicode or has control characters, or a link leads out of the folder.
    """
    splits, left_out = find_pictures(root)
    return PictureFiles.of(root, splits, left_out)


def find_pictures(root: Path) -> tuple[dict[int, dict[str, tuple[Path, ...]]], tuple[str, ...]]:
    """The pictures of each class of each split, whether or not they are fit for training, and what is left out.

    Raises:
        DataError: the folder is missing, or a name or a link is refused; see `list_imagefolder`.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give imagefolder:PATH a folder with one folder of pictures per class")
    _check_name(root.resolve())
    kinds: Counter[str] = Counter()
    folders, beside = _split_folders(root, kinds)
    splits = {role: _list_classes(folder, root, kinds) for role, folder in folders.items()}
    left_out = [f"{count:,} {kind}" for kind, count in sorted(kinds.items()) if count]
    if beside:
        left_out.append(f"the folder{'s' if len(beside) > 1 else ''} {', '.join(beside)} beside {folders[TRAIN].name}/")
    return splits, tuple(left_out)


def _split_folders(root: Path, kinds: Counter[str]) -> tuple[dict[int, Path], list[str]]:
    """The folder of each split, and the names of the folders beside them; files beside those are counted."""
    folders = [folder for folder in _entries(root, root, kinds) if folder.is_dir()]
    named = {
        role: [folder for folder in folders if folder.name.lower() in names] for role, names in _SPLIT_NAMES.items()
    }
    # A class may be called "train" too (of a photo set of vehicles): a split has folders in it, a class has pictures.
    if not any(entry.is_dir() for folder in named[TRAIN] for entry in _entries(folder, root)):
        if len(folders) > 1 and set(folders) == {folder for found in named.values() for folder in found}:
            names = ", ".join(f"{folder.name}/" for folder in folders)
            raise DataError(
                f"the folders {names} of {root} are splits without classes; put their pictures into a folder per class"
            )
        return {TRAIN: root}, []
    for entry in _entries(root, root):
        if not entry.is_dir():
            kinds[_beside(entry)] += 1
    for found in named.values():
        if len(found) > 1:
            names = " and ".join(f"{folder.name}/" for folder in found)
            raise DataError(f"{root} has {names}, which are the same split; keep one of them, or rename the others")
    splits = {role: found[0] for role, found in named.items() if found}
    if TEST not in splits and REWARD in splits:
        splits[TEST] = splits.pop(REWARD)
    return splits, [f"{folder.name}/" for folder in folders if folder not in splits.values()]


# What systems leave in folders of their own accord.
_OF_SYSTEMS = (
    ".DS_Store",
    ".directory",
    ".ipynb_checkpoints",
    ".thumbnails",
    ".Trashes",
    ".Spotlight-V100",
    ".fseventsd",
)


def _beside(entry: Path) -> str:
    """What to call a file that is in no class."""
    is_picture, kind = picture_or_kind(entry)
    return f"{'pictures' if is_picture or 'pictures' in kind else 'files'} beside the folders of classes"


def _entries(folder: Path, root: Path, kinds: Counter[str] | None = None) -> Iterator[Path]:
    """What is in a folder, by name; hidden files and folders of people's are left out, and counted."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error}); check its permissions") from error
    hidden = {entry for entry in found if entry.name.startswith(".")}
    if kinds is not None:
        counted = [entry for entry in hidden if not entry.name.startswith("._") and entry.name not in _OF_SYSTEMS]
        kinds["hidden files and folders"] += len(counted)
    for entry in (entry for entry in found if entry not in hidden):
        if entry.is_symlink() and not _inside(entry, root):
            raise DataError(f"{entry} is a link that leaves {root}; copy what it points to into the folder")
        yield entry


def _inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _list_classes(folder: Path, root: Path, kinds: Counter[str]) -> dict[str, tuple[Path, ...]]:
    """The pictures of each class; other files are counted by their kind."""
    found: dict[str, tuple[Path, ...]] = {}
    origin: dict[str, Path] = {}
    # Hidden ones of the root have been counted.
    for entry in _entries(folder, root, None if folder == root else kinds):
        if not entry.is_dir():
            kinds[_beside(entry)] += 1
            continue
        _check_name(entry)
        name = unicodedata.normalize("NFC", entry.name)
        if name in origin:
            raise DataError(
                f"{entry} and {origin[name]!s} have the same name in different forms of Unicode; put their pictures "
                "into one folder"
            )
        origin[name] = entry
        found[name] = tuple(_pictures(entry, root, kinds))
    return found


def _check_name(folder: Path) -> None:
    """Class names go into labels.txt, a line each, and into records and models."""
    if (reason := unfit_name(folder)) is not None:
        raise DataError(f"the name of folder {os.fsencode(folder)!r} {reason}")


def _pictures(folder: Path, root: Path, kinds: Counter[str]) -> Iterator[Path]:
    for entry in _entries(folder, root, kinds):
        if entry.is_dir():
            kinds["folders inside those of classes"] += 1
        elif not entry.is_file():
            raise DataError(f"{entry} is not a regular file; remove it")
        else:
            is_picture, kind = picture_or_kind(entry)
            if is_picture:
                yield entry
            else:
                kinds[kind] += 1


def _common_classes(root: Path, splits: Mapping[int, Mapping[str, tuple[Path, ...]]]) -> tuple[str, ...]:
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


def _too_few(root: Path, name: str, count: int, wanted: int, left_out: tuple[str, ...]) -> str:
    beside = f"; not used are {', '.join(left_out)}" if left_out else ""
    return (
        f"class {name!r} of {root} has too few pictures directly in its folder: {count}, at least {wanted} needed "
        f"({', '.join(NAMES)}){beside}; add some or remove the class"
    )


def hold_out(count: int, label: int) -> np.ndarray:
    """Roles for the pictures of one class, in name order; a fixed seed, so that the test split is the same for all."""
    held_out = max(1, round(HELD_OUT_FRACTION * count))
    order = np.random.default_rng([0, label]).permutation(count)
    roles = np.full(count, TRAIN)
    roles[order[:held_out]] = REWARD
    roles[order[held_out : 2 * held_out]] = TEST
    return roles


def _stamp(file: Path, root: Path, role: int) -> bytes:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}); check its permissions") from error
    return f"{role} {status.st_size} {status.st_mtime_ns} ".encode() + os.fsencode(file.relative_to(root))
