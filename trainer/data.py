"""Prepared data: every picture decoded once, kept as uint8 on disk, shared by all workers as a memory map.

Three splits with three jobs: the train split fits weights, the reward split ranks architectures during a search,
the test split is looked at once, for the result. A data set's own test split is never used for anything else.
"""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal, Self

import numpy as np
from PIL import Image

from space.arch import MAX_RESOLUTION
from space.errors import DataError
from trainer import sources
from trainer.imagefolder import PictureFiles, list_imagefolder
from trainer.preprocess import Preprocess, add_padding, fit, load_picture, normalise
from trainer.sources import REWARD, TEST, TRAIN, RawImages

__all__ = [
    "Dataset",
    "Preprocess",
    "Splits",
    "images_per_class",
    "load_picture",
    "normalise",
    "prepare",
    "split",
    "subset",
]

MAX_PREPARED_BYTES = 8 * 2**30
META_VERSION = 1
_NATURAL_RESOLUTION = 32
Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""
_CHUNK = 256  # images held in memory between two writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A prepared data set: images.npy, labels.npy, fixed_splits.npy and meta.json in `folder`.

    `name` is the data spec as given, `content_hash` 16 hexadecimal digits of the SHA-256 over images, labels, class
    names and split roles, wherever they were read from.
    """

    name: str
    content_hash: str
    classes: tuple[str, ...]
    preprocess: Preprocess
    folder: Path

    def images(self) -> np.ndarray:
        """All images, uint8 N×C×R×R, memory-mapped and read-only."""
        return self._array("images")

    def labels(self) -> np.ndarray:
        """The class of each image as an index into `classes`, int64 N, read-only."""
        return self._array("labels")

    def fixed_splits(self) -> np.ndarray:
        """What the data set says each image is for: TRAIN, REWARD or TEST of `trainer.sources`, uint8 N."""
        return self._array("fixed_splits")

    def measured_hash(self) -> str:
        """The content hash of what the files hold, which is `content_hash` unless they were damaged on a way."""
        images = self.images()
        digest = _digest(images.shape, self.classes, self.labels(), self.fixed_splits())
        for start in range(0, len(images), _CHUNK):
            digest.update(np.ascontiguousarray(images[start : start + _CHUNK]).data)
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
            preprocess = Preprocess.from_json(json.dumps(meta["preprocess"]))
            name, content_hash, classes = meta["name"], meta["content_hash"], tuple(meta["classes"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} holds no prepared data set ({error}); {_again(folder)}") from error
        return cls(name=name, content_hash=content_hash, classes=classes, preprocess=preprocess, folder=folder)


def prepare(
    spec: str,
    *,
    resolution: int | None,
    data_dir: Path | None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Find the data set `spec` (fashion-mnist, cifar10 or imagefolder:PATH) and decode it once.

    The result lies in CACHE/prepared and is found there the next time, as long as the source files have not changed.
    `resolution` is in pixels; None means 32 for the two known sets and is refused for photos. `progress` hears of the
    decoding, where there is any.

    Raises:
        DataError: the data set is unknown, missing, damaged, unfit for training or larger than 8 GiB prepared.
    """
    cache = cache or sources.cache_dir()
    if resolution is not None and not 8 <= resolution <= MAX_RESOLUTION:
        raise DataError(f"resolution is {resolution}; it must lie between 8 and {MAX_RESOLUTION}")
    known = resolution or _NATURAL_RESOLUTION
    if spec == "fashion-mnist":
        pad = known // 16  # 28 px padded to 32, and in that proportion at any other resolution
        idx_files = sources.find_fashion_mnist(data_dir, cache)
        plan = _fitting(known, pad, "L")
        stamp = _file_stamp(*idx_files)
        return _once(spec, plan, stamp, cache, progress, lambda: sources.read_fashion_mnist(idx_files))
    if spec == "cifar10":
        source = sources.find_cifar10(data_dir, cache)
        plan = _fitting(known, 0, "RGB")
        return _once(spec, plan, _file_stamp(source), cache, progress, lambda: sources.read_cifar10(source))
    if spec.startswith("imagefolder:") and spec != "imagefolder:":
        if resolution is None:
            raise DataError(f"{spec} has no resolution of its own; set `resolution:`, for example 96")
        root = Path(spec.removeprefix("imagefolder:")).expanduser()
        pictures = list_imagefolder(root)
        stamp = f"{root.resolve()}\n{pictures.stamp}"
        return _once(spec, _fitting(resolution, 0, "RGB"), stamp, cache, progress, lambda: pictures)
    raise DataError(f"data set {spec!r} is not known; use fashion-mnist, cifar10 or imagefolder:PATH")


def _fitting(resolution: int, pad: int, channels: Literal["L", "RGB"]) -> Preprocess:
    """The recipe without its statistics, which are known once the pictures are decoded."""
    side, none, one = resolution - 2 * pad, (0.0,) * len(channels), (1.0,) * len(channels)
    return Preprocess(resolution=resolution, resize=side, crop=side, pad=pad, channels=channels, mean=none, std=one)


def _file_stamp(*files: Path) -> str:
    return "\n".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


def _again(folder: Path) -> str:
    return f"remove the folder {folder} to have the data prepared again"


def _once(
    spec: str,
    plan: Preprocess,
    stamp: str,
    cache: Path,
    progress: Progress | None,
    read: Callable[[], RawImages | PictureFiles],
) -> Dataset:
    """Prepare into a folder named by what goes in, unless it is there; a rename makes it appear whole or not at all."""
    key = hashlib.sha256(json.dumps([META_VERSION, spec, plan.to_json(), stamp]).encode()).hexdigest()[:16]
    folder = cache / "prepared" / f"{spec.partition(':')[0]}-{key}"
    if (folder / "meta.json").is_file():
        return Dataset.open(folder)
    raw = read()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(unfinished, spec, plan, raw, progress)
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error}); set MOBILENAS_CACHE_DIR to another folder") from error
    return Dataset.open(folder)


def _publish(unfinished: Path, folder: Path) -> None:
    unfinished.chmod(0o755)  # mkdtemp makes it private; a cache may be shared
    try:
        os.rename(unfinished, folder)
    except OSError:
        # Another process was faster: its copy has the same content.
        if not (folder / "meta.json").is_file():
            raise


def _write(folder: Path, spec: str, plan: Preprocess, raw: RawImages | PictureFiles, progress: Progress | None) -> None:
    labels, roles = raw.labels.astype("<i8"), raw.roles.astype(np.uint8)
    shape = (len(labels), len(plan.mean), plan.resolution, plan.resolution)
    if math.prod(shape) > MAX_PREPARED_BYTES:
        size = math.prod(shape) / 2**30
        raise DataError(
            f"{spec} at {plan.resolution} px takes {size:.1f} GiB once prepared; at most 8 are accepted, so lower "
            "`resolution`"
        )
    digest = _digest(shape, raw.classes, labels, roles)
    counts = np.zeros((shape[1], 256), dtype=np.int64)
    # Written in sequence and not through a memory map: a full disk is then an error and not a bus error.
    with (folder / "images.npy").open("wb") as file:
        _write_header(file, shape)
        start = 0
        for images in _fitted(raw, plan):
            padded = np.ascontiguousarray(add_padding(images, plan))
            file.write(padded.data)
            digest.update(padded.data)
            counts += _histogram(images[roles[start : start + len(images)] != TEST])
            start += len(images)
            if progress:
                progress(start, len(labels))
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    np.save(folder / "fixed_splits.npy", roles, allow_pickle=False)
    meta = {
        "version": META_VERSION,
        "name": spec,
        "content_hash": digest.hexdigest()[:16],
        "classes": raw.classes,
        "preprocess": asdict(_with_statistics(plan, counts)),
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")


def _digest(shape: tuple[int, ...], classes: tuple[str, ...], labels: np.ndarray, roles: np.ndarray) -> "hashlib._Hash":
    """The hash of a data set's content, up to its images."""
    return hashlib.sha256(json.dumps([shape, classes]).encode() + labels.tobytes() + roles.tobytes())


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _fitted(raw: RawImages | PictureFiles, plan: Preprocess) -> Iterator[np.ndarray]:
    """Images resized and cropped but not padded, uint8 N×C×crop×crop, some at a time."""
    unpadded = replace(plan, pad=0, resolution=plan.crop)
    for start in range(0, len(raw.labels), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        if isinstance(raw, PictureFiles):
            yield np.stack([load_picture(path, unpadded) for path in raw.files[chunk]])
        elif raw.images.shape[2:] == (plan.crop, plan.crop):
            yield raw.images[chunk]
        else:
            yield np.stack([fit(_as_picture(image), unpadded) for image in raw.images[chunk]])


def _as_picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)))


def _histogram(images: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])])


def _with_statistics(plan: Preprocess, counts: np.ndarray) -> Preprocess:
    """Exact mean and deviation of pixels scaled to 0–1 from how often each of the 256 values occurs (C×256)."""
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    # Blank images have no deviation; one grey level instead keeps the division sound.
    return replace(plan, mean=tuple(map(float, mean)), std=tuple(max(float(value), 1 / 255) for value in std))


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
