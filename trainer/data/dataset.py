"""Prepared data: every picture decoded once, kept as uint8 on disk, shared by all workers as a memory map."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from space.errors import DataError
from trainer.data.preprocess import Preprocess

# What an image may be used for; stored as one byte per image.
TRAIN, REWARD, TEST = 0, 1, 2

META_VERSION = 3
CHUNK = 256
"""Images that are in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A prepared data set: images.npy, labels.npy, fixed_splits.npy and meta.json in `folder`.

    `name` is the data spec as given, `content_hash` 16 hexadecimal digits of the SHA-256 over images, labels, class
    names and split roles, wherever they were read from. `skipped` names the files that were left out because they are
    damaged, and `left_out` what else was not used, in words.
    """

    name: str
    content_hash: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    folder: Path
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default=(), compare=False)

    def images(self) -> np.ndarray:
        """All images, uint8 N×C×R×R, memory-mapped and read-only."""
        return self._array("images")

    def labels(self) -> np.ndarray:
        """The class of each image as an index into `classes`, int64 N, read-only."""
        return self._array("labels")

    def fixed_splits(self) -> np.ndarray:
        """What the data set says each image is for: TRAIN, REWARD or TEST, uint8 N."""
        return self._array("fixed_splits")

    def digests(self) -> np.ndarray:
        """A hash of each image's pixels, uint64 N: equal images have equal ones, and hardly any others."""
        return self._array("digests")

    def measured_hash(self) -> str:
        """The content hash of what the files hold, which is `content_hash` unless they were damaged on a way."""
        images = self.images()
        digest = content_digest(images.shape, self.classes, self.labels(), self.fixed_splits())
        for start in range(0, len(images), CHUNK):
            digest.update(np.ascontiguousarray(images[start : start + CHUNK]).data)
        return digest.hexdigest()[:16]

    def _array(self, name: str) -> np.ndarray:
        try:
            array: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.folder}/{name}.npy cannot be read ({error}); {_again(self.folder)}") from error
        return array

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The data set that `prepare` wrote into `folder`.

        Raises:
            DataError: there is none, or it was written by another version.
        """
        try:
            meta = json.loads((folder / "meta.json").read_bytes())
            if meta["version"] != META_VERSION:
                raise DataError(f"{folder} has version {meta['version']!r}; {_again(folder)}")
            return cls(
                name=meta["name"],
                content_hash=meta["content_hash"],
                classes=tuple(meta["classes"]),
                preprocess=Preprocess.from_json(json.dumps(meta["preprocess"])),
                folder=folder,
                skipped=tuple(meta["skipped"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no prepared data set ({error}); {_again(folder)}") from error


def content_digest(
    shape: tuple[int, ...], classes: tuple[str, ...], labels: np.ndarray, roles: np.ndarray
) -> "hashlib._Hash":
    """The SHA-256 of what a data set holds, up to its images, which are to follow in their order."""
    return hashlib.sha256(json.dumps([shape, classes]).encode() + labels.tobytes() + roles.tobytes())


def _again(folder: Path) -> str:
    return f"remove the folder {folder} to have the data prepared again"
