"""Finding and reading raw data sets: Fashion-MNIST, CIFAR-10 and a person's own folders of photos.

Everything read here comes from outside, so sizes and magic numbers are checked before anything is allocated, and
nothing is ever unpickled or extracted to disk.
"""

import gzip
import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from space.errors import DataError
from space.paths import expanded, user_folder
from trainer.data.dataset import TEST, TRAIN

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# MD5 of the published files (github.com/zalandoresearch/fashion-mnist); distributions compress them anew, so this
# is checked for downloads only. Local copies are held together by gzip's own checksum.
FASHION_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_PACKAGE = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
FASHION_REMEDY = (
    "run tools/get-fashion-mnist.sh, or install the Debian package dataset-fashion-mnist, or put the four "
    "*-ubyte.gz files into DIR/fashion-mnist and pass --data-dir DIR, or connect to the network and try again"
)

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_PACK = "cifar10_jpeg_pack.npz"
CIFAR_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR_TEST = "test_batch.bin"
CIFAR_REMEDY = (
    f"put {CIFAR_ARCHIVE} (the binary version) into DIR/cifar10 and pass --data-dir DIR, or connect to the network "
    "and try again, or use fashion-mnist, which Debian has as the package dataset-fashion-mnist"
)

MAX_IMAGES = 1_000_000
_CIFAR_ROW = 1 + 3 * 32 * 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawImages:
    """A decoded data set: images uint8 N×C×H×W, labels int64 N, roles uint8 N (TRAIN, REWARD or TEST)."""

    classes: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    roles: np.ndarray


def cache_dir() -> Path:
    """The folder for downloads and prepared data: `MOBILENAS_CACHE_DIR`, else the user's cache folder.

    Raises:
        DataError: neither is known.
    """
    if named := os.environ.get("MOBILENAS_CACHE_DIR"):
        return expanded(named)
    if (folder := user_folder("cache")) is None:
        raise DataError("data sets are kept in the home folder, and HOME is not set; set MOBILENAS_CACHE_DIR")
    return folder


def find_fashion_mnist(data_dir: Path | None, cache: Path) -> tuple[Path, ...]:
    """The four IDX files in the order of `FASHION_MD5`, downloaded into the cache if they are nowhere.

    Raises:
        DataError: the files are neither here nor could be downloaded.
    """
    folders = [data_dir / "fashion-mnist", data_dir] if data_dir else []
    for folder in (*folders, cache / "fashion-mnist", FASHION_PACKAGE):
        files = [_plain_or_gz(folder / name) for name in FASHION_MD5]
        if None not in files:
            return tuple(file for file in files if file)
    return tuple(
        download(f"{FASHION_URL}{name}.gz", f"md5:{md5}", cache / "fashion-mnist", FASHION_REMEDY)
        for name, md5 in FASHION_MD5.items()
    )


def read_fashion_mnist(files: tuple[Path, ...]) -> RawImages:
    """Fashion-MNIST (Xiao et al. 2017) from the files of `find_fashion_mnist`; images are N×1×28×28.

    Raises:
        DataError: a file is truncated or not what its name says.
    """
    parts = []
    for image_file, label_file, role in ((files[0], files[1], TRAIN), (files[2], files[3], TEST)):
        images, labels = _read_idx(image_file, (28, 28)), _read_idx(label_file, ())
        if len(images) != len(labels):
            raise DataError(
                f"{image_file} has {len(images)} images, {label_file} {len(labels)} labels; fetch both again"
            )
        parts.append((images[:, None], labels, role))
    return _join(parts, FASHION_CLASSES, files[0].parent)


def find_cifar10(data_dir: Path | None, cache: Path) -> Path:
    """The JPEG pack or the original binary archive, downloaded into the cache if neither is here.

    Raises:
        DataError: nothing was found and the download failed, or several packs lie in one folder.
    """
    folders = [data_dir / "cifar10", data_dir] if data_dir else []
    if folders and (pack := _find_pack(folders[0])):
        return pack
    for folder in (*folders, cache / "cifar10", cache):
        if (folder / CIFAR_ARCHIVE).is_file():
            return folder / CIFAR_ARCHIVE
    return download(CIFAR_URL + CIFAR_ARCHIVE, f"md5:{CIFAR_MD5}", cache / "cifar10", CIFAR_REMEDY)


def read_cifar10(path: Path) -> RawImages:
    """CIFAR-10 (Krizhevsky 2009) from a file of `find_cifar10`; images are N×3×32×32, RGB.

    Raises:
        DataError: the file is damaged or is another format.
    """
    return _read_jpeg_pack(path) if path.suffix == ".npz" else _read_cifar_archive(path)


def _plain_or_gz(path: Path) -> Path | None:
    return next((file for file in (path.with_name(path.name + ".gz"), path) if file.is_file()), None)


def download(url: str, checksum: str | None, folder: Path, remedy: str) -> Path:
    """A file of this checksum, such as md5:…, fetched into the folder unless it is there; None: whoever asks checks.

    Raises:
        DataError: it cannot be fetched, or is another file.
    """
    import pooch  # brings in requests: 0.2 s that only a download needs to pay

    pooch.get_logger().setLevel("WARNING")  # it would tell of every file in its own way
    try:
        downloader = pooch.HTTPDownloader(timeout=30)
        name = url.rsplit("/", 1)[1]
        return Path(pooch.retrieve(url, checksum, fname=name, path=folder, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{url} could not be downloaded ({reason}); {remedy}") from error


def _read_idx(path: Path, item_shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of bytes: big-endian magic number 0x08 and rank, one 32-bit size per axis, then the values."""
    rank = 1 + len(item_shape)
    try:
        with _open(path) as file:
            header = np.frombuffer(file.read(4 * (1 + rank)).ljust(4 * (1 + rank), b"\0"), dtype=">u4")
            count, shape = int(header[1]), tuple(map(int, header[2:]))
            if header[0] != 0x800 + rank or shape != item_shape or not 0 < count <= MAX_IMAGES:
                raise DataError(
                    f"{path} is not an IDX file of {'×'.join(map(str, item_shape)) or 'label'} bytes; fetch it again"
                )
            size = count * int(np.prod(item_shape))
            body = file.read(size + 1)  # one more, so that gzip reaches the end and checks its sum
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    if len(body) != size:
        raise DataError(f"{path} is truncated or too long: {size} bytes announced, {len(body)} read; fetch it again")
    return np.frombuffer(body, dtype=np.uint8).reshape(count, *item_shape)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _join(parts: Iterable[tuple[np.ndarray, np.ndarray, int]], classes: tuple[str, ...], origin: Path) -> RawImages:
    images, labels, roles = zip(*parts, strict=True)
    all_labels = np.concatenate(labels).astype(np.int64)
    if all_labels.min() < 0 or all_labels.max() >= len(classes):
        raise DataError(
            f"{origin} has the label {all_labels.max()}, but there are {len(classes)} classes; fetch it again"
        )
    return RawImages(
        classes=classes,
        images=np.concatenate(images),
        labels=all_labels,
        roles=np.repeat(np.array(roles, dtype=np.uint8), [len(part) for part in labels]),
    )


def _read_cifar_archive(path: Path) -> RawImages:
    try:
        with tarfile.open(path, "r:gz") as archive:
            batches = {
                Path(member.name).name: _read_batch(archive, member, path) for member in archive if _is_batch(member)
            }
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    if missing := {*CIFAR_TRAIN, CIFAR_TEST} - batches.keys():
        raise DataError(f"{path} lacks {', '.join(sorted(missing))}; fetch the binary version of CIFAR-10")
    rows = [(batches[name], TEST if name == CIFAR_TEST else TRAIN) for name in (*CIFAR_TRAIN, CIFAR_TEST)]
    return _join([(row[:, 1:].reshape(-1, 3, 32, 32), row[:, 0], role) for row, role in rows], CIFAR_CLASSES, path)


def _is_batch(member: tarfile.TarInfo) -> bool:
    return member.isfile() and Path(member.name).name in (*CIFAR_TRAIN, CIFAR_TEST)


def _read_batch(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> np.ndarray:
    if member.size == 0 or member.size % _CIFAR_ROW or member.size > 10_000 * _CIFAR_ROW:
        raise DataError(
            f"{member.name} in {path} has {member.size} bytes, not 1 to 10,000 rows of 3,073; fetch it again"
        )
    file = archive.extractfile(member)
    assert file is not None, "regular members have content"
    return np.frombuffer(file.read(), dtype=np.uint8).reshape(-1, _CIFAR_ROW)


def _find_pack(folder: Path) -> Path | None:
    if (folder / CIFAR_PACK).is_file():
        return folder / CIFAR_PACK
    packs = sorted(folder.glob("*.npz"))
    if len(packs) > 1:
        names = ", ".join(pack.name for pack in packs)
        raise DataError(f"{folder} holds several packs ({names}); keep one, or name it {CIFAR_PACK}")
    return packs[0] if packs else None


def _read_jpeg_pack(path: Path) -> RawImages:
    """A pack of JPEG files: `blob` holds them end to end, image i is blob[offsets[i]:offsets[i + 1]]."""
    arrays = _load_pack(path)
    blob, offsets, labels = arrays["blob"], arrays["offsets"].astype(np.int64), arrays["labels"].astype(np.int64)
    count = len(labels)
    fits = blob.dtype == np.uint8 and blob.ndim == 1 and len(arrays["is_test"]) == count and len(offsets) == count + 1
    if (
        not fits
        or not 0 < count <= MAX_IMAGES
        or offsets[0] != 0
        or offsets[-1] != len(blob)
        or np.diff(offsets).min() < 1
    ):
        raise DataError(f"{path}: blob, offsets, labels and is_test do not fit together; fetch it again")
    images = np.empty((count, 3, 32, 32), dtype=np.uint8)
    for index in range(count):
        images[index] = _decode_jpeg(blob[offsets[index] : offsets[index + 1]].tobytes(), f"image {index} of {path}")
    classes = tuple(map(str, arrays["classes"]))
    joined = _join([(images, labels, TRAIN)], classes, path)
    roles = np.where(arrays["is_test"].astype(bool), TEST, TRAIN).astype(np.uint8)
    return RawImages(classes=classes, images=joined.images, labels=joined.labels, roles=roles)


def _load_pack(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as pack:
            return {name: np.atleast_1d(pack[name]) for name in ("blob", "offsets", "labels", "is_test", "classes")}
    except (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not a JPEG pack ({error}); it needs blob, offsets, labels, is_test, classes"
        ) from error


def _decode_jpeg(content: bytes, name: str) -> np.ndarray[Any, Any]:
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if image.size != (32, 32):
                raise DataError(f"{name} is {image.width}×{image.height} px, not 32×32; fetch it again")
            return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name} cannot be decoded ({error}); fetch it again") from error
