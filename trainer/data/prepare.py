"""A data set is found and decoded once, and is a memory map from then on."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image

from space.arch import MAX_RESOLUTION
from space.errors import DataError
from space.paths import expanded
from trainer.data import sources
from trainer.data.dataset import CHUNK, META_VERSION, TEST, Dataset, content_digest
from trainer.data.imagefolder import PictureFiles, list_imagefolder
from trainer.data.pictures import load_picture
from trainer.data.preprocess import Preprocess, add_padding, fit
from trainer.data.sources import RawImages

MAX_PREPARED_BYTES = 512 * 2**30
SHOWN_DAMAGED = 20
"""So many damaged files are named in a message."""

IMAGE_FOLDER = "imagefolder:"
_NATURAL_RESOLUTION = 32
Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preparation:
    """What is prepared from where, and all that makes it another data set."""

    spec: str
    plan: Preprocess
    stamp: bytes
    read: Callable[[], RawImages | PictureFiles]
    skip_damaged: bool = False

    def folder(self, cache: Path) -> Path:
        """The place in the cache that belongs to it alone."""
        named = [META_VERSION, self.spec, self.plan.to_json(), self.skip_damaged]
        key = hashlib.sha256(json.dumps(named).encode() + self.stamp).hexdigest()[:16]
        return cache / "prepared" / f"{self.spec.partition(':')[0]}-{key}"


@dataclass(slots=True, kw_only=True)
class _Decoded:
    """How many images have been decoded so far, and what could not be."""

    total: int
    progress: Progress | None
    done: int = 0
    damaged: dict[Path, str] = field(default_factory=dict)

    def advance(self) -> None:
        """One more is decoded or given up."""
        self.done += 1
        if self.progress and (self.done % CHUNK == 0 or self.done == self.total):
            self.progress(self.done, self.total)


def prepare(
    spec: str,
    *,
    resolution: int | None,
    data_dir: Path | None,
    cache: Path | None = None,
    skip_damaged: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Find the data set `spec` (fashion-mnist, cifar10 or imagefolder:PATH) and decode it once.

    The result lies in CACHE/prepared and is found there the next time, as long as the source files have not changed.
    `resolution` is in pixels; None means 32 for the two known sets and is refused for photos. `progress` hears of the
    decoding, where there is any. Photos that cannot be read are an error, or with `skip_damaged` as if not there.

    Raises:
        DataError: the data set is unknown, missing, damaged, unfit for training or larger than 512 GiB prepared.
    """
    cache = cache or sources.cache_dir()
    if resolution is not None and not 8 <= resolution <= MAX_RESOLUTION:
        raise DataError(f"resolution is {resolution}; it must lie between 8 and {MAX_RESOLUTION}")
    known = resolution or _NATURAL_RESOLUTION
    if spec == "fashion-mnist":
        pad = known // 16  # 28 px padded to 32, and in that proportion at any other resolution
        files = sources.find_fashion_mnist(data_dir, cache)
        plan, read = _fitting(known, pad, "L"), lambda: sources.read_fashion_mnist(files)
        return _once(_Preparation(spec=spec, plan=plan, stamp=_file_stamp(*files), read=read), cache, progress)
    if spec == "cifar10":
        source = sources.find_cifar10(data_dir, cache)
        plan, read = _fitting(known, 0, "RGB"), lambda: sources.read_cifar10(source)
        return _once(_Preparation(spec=spec, plan=plan, stamp=_file_stamp(source), read=read), cache, progress)
    if spec.startswith(IMAGE_FOLDER):
        if resolution is None:
            raise DataError(f"{spec} has no resolution of its own; set `resolution:`, for example 96")
        pictures = list_imagefolder(image_folder(spec))
        preparation = _Preparation(
            spec=spec,
            plan=_fitting(resolution, 0, "RGB"),
            stamp=os.fsencode(pictures.root.resolve()) + b"\n" + pictures.stamp,
            read=lambda: pictures,
            skip_damaged=skip_damaged,
        )
        return replace(_once(preparation, cache, progress), left_out=pictures.left_out)
    raise DataError(f"data set {spec!r} is not known; use fashion-mnist, cifar10 or imagefolder:PATH")


def image_folder(spec: str) -> Path:
    """The folder that the spec of a person's photos names.

    Raises:
        DataError: it names none.
    """
    if spec == IMAGE_FOLDER:
        raise DataError(f"{spec} names no folder; give imagefolder:PATH a folder with one folder of pictures per class")
    return expanded(spec.removeprefix(IMAGE_FOLDER))


def _fitting(resolution: int, pad: int, channels: Literal["L", "RGB"]) -> Preprocess:
    """The recipe without its statistics, which are known once the pictures are decoded."""
    side, none, one = resolution - 2 * pad, (0.0,) * len(channels), (1.0,) * len(channels)
    return Preprocess(resolution=resolution, resize=side, crop=side, pad=pad, channels=channels, mean=none, std=one)


def _file_stamp(*files: Path) -> bytes:
    return "\n".join(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files).encode()


def _once(preparation: _Preparation, cache: Path, progress: Progress | None) -> Dataset:
    """Prepare into a folder named by what goes in, unless it is there; a rename makes it appear whole or not at all."""
    folder = preparation.folder(cache)
    if (folder / "meta.json").is_file():
        return Dataset.open(folder)
    raw = preparation.read()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(unfinished, preparation, raw, progress)
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


def _write(folder: Path, preparation: _Preparation, raw: RawImages | PictureFiles, progress: Progress | None) -> None:
    plan = preparation.plan
    shape = (len(raw.labels), len(plan.mean), plan.resolution, plan.resolution)
    if math.prod(shape) > MAX_PREPARED_BYTES:
        size, most = math.prod(shape) / 2**30, MAX_PREPARED_BYTES / 2**30
        raise DataError(
            f"{preparation.spec} at {plan.resolution} px takes {size:.1f} GiB once prepared; at most {most:.0f} are "
            "accepted, so lower `resolution`"
        )
    decoded = _Decoded(total=len(raw.labels), progress=progress)
    # Written in sequence and not through a memory map: a full disk is then an error and not a bus error.
    with (folder / "images.npy").open("wb") as file:
        _write_header(file, shape)
        for images in _fitted(raw, plan, decoded):
            file.write(np.ascontiguousarray(add_padding(images, plan)).data)
        if decoded.damaged:
            if not preparation.skip_damaged:
                raise DataError(told_damaged(decoded.damaged))
            assert isinstance(raw, PictureFiles)
            skipped = tuple(str(path.relative_to(raw.root)) for path in decoded.damaged)
            raw = raw.without(decoded.damaged)
            body = file.tell()
            file.seek(0)
            _write_header(file, (len(raw.labels), *shape[1:]))  # of the same length: it leaves room for the count
            file.seek(body)
        else:
            skipped = ()
    labels, roles = raw.labels.astype("<i8"), raw.roles.astype(np.uint8)
    np.save(folder / "labels.npy", labels, allow_pickle=False)
    np.save(folder / "fixed_splits.npy", roles, allow_pickle=False)
    images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
    content, digests, counts = _read_back(images, plan, raw.classes, labels, roles)
    np.save(folder / "digests.npy", digests, allow_pickle=False)
    meta = {
        "version": META_VERSION,
        "name": preparation.spec,
        "content_hash": content,
        "classes": raw.classes,
        "preprocess": asdict(_with_statistics(plan, counts)),
        "skipped": [printable(name) for name in skipped],
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")


def _read_back(
    images: np.ndarray, plan: Preprocess, classes: tuple[str, ...], labels: np.ndarray, roles: np.ndarray
) -> tuple[str, np.ndarray, np.ndarray]:
    """The content hash, a digest of each image, and how often each of the 256 values occurs per channel.

    Values are counted within the padding, and not in the test split. Once it is known which images there are, all is
    read once more, mostly from the system's cache.
    """
    whole = content_digest(images.shape, classes, labels, roles)
    digests = np.empty(len(images), dtype=np.uint64)
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    inside = slice(plan.pad, plan.resolution - plan.pad)
    for start in range(0, len(images), CHUNK):
        some = np.ascontiguousarray(images[start : start + CHUNK])
        whole.update(some.data)
        for index, image in enumerate(some):
            digest = hashlib.blake2b(image.data, digest_size=8).digest()
            digests[start + index] = int.from_bytes(digest, "little")
        known = some[roles[start : start + CHUNK] != TEST][:, :, inside, inside]
        counts += np.stack([np.bincount(known[:, channel].ravel(), minlength=256) for channel in range(len(counts))])
    return whole.hexdigest()[:16], digests, counts


def told_damaged(damaged: dict[Path, str]) -> str:
    """What is wrong with pictures, of the first twenty in full, and what to do."""
    named = "; ".join(list(damaged.values())[:SHOWN_DAMAGED])
    if len(damaged) == 1:
        return f"{named}, or go on without it: --skip-damaged"
    more = f"; and {len(damaged) - SHOWN_DAMAGED:,} more" if len(damaged) > SHOWN_DAMAGED else ""
    return f"{len(damaged):,} pictures are damaged: {named}{more}; or go on without them: --skip-damaged"


def printable(name: str) -> str:
    """A file's name as one line of text that can be stored, whatever bytes it has."""
    text = os.fsencode(name).decode(errors="backslashreplace")
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in text)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _fitted(raw: RawImages | PictureFiles, plan: Preprocess, decoded: _Decoded) -> Iterator[np.ndarray]:
    """Images resized and cropped but not padded, uint8 N×C×crop×crop, some at a time; damaged ones are left out."""
    unpadded = replace(plan, pad=0, resolution=plan.crop)
    for start in range(0, len(raw.labels), CHUNK):
        chunk = slice(start, start + CHUNK)
        if isinstance(raw, PictureFiles):
            if readable := list(_readable(raw.files[chunk], unpadded, decoded)):
                yield np.stack(readable)
            continue
        images = raw.images[chunk]
        if images.shape[2:] == (plan.crop, plan.crop):
            yield images
        else:
            yield np.stack([fit(as_picture(image), unpadded) for image in images])
        for _ in images:
            decoded.advance()


def _readable(files: tuple[Path, ...], plan: Preprocess, decoded: _Decoded) -> Iterator[np.ndarray]:
    for path in files:
        try:
            yield load_picture(path, plan)
        except DataError as error:
            decoded.damaged[path] = str(error)
        decoded.advance()


def as_picture(image: np.ndarray) -> Image.Image:
    """Of uint8 C×H×W, one channel or three."""
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)))


def _with_statistics(plan: Preprocess, counts: np.ndarray) -> Preprocess:
    """Exact mean and deviation of pixels scaled to 0–1 from how often each of the 256 values occurs (C×256)."""
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    # Blank images have no deviation; one grey level instead keeps the division sound.
    return replace(plan, mean=tuple(map(float, mean)), std=tuple(max(float(value), 1 / 255) for value in std))
