"""Folders of small pictures, and what becomes of them."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from space.errors import DataError
from trainer.data.dataset import Dataset
from trainer.data.pictures import load_picture
from trainer.data.prepare import prepare as prepare_anywhere
from trainer.data.preprocess import Preprocess
from trainer.data.splits import Splits, images_per_class, split

PLAIN = Preprocess(resolution=16, resize=16, crop=16, pad=0, channels="RGB", mean=(0.0,) * 3, std=(1.0,) * 3)


def make_class(folder: Path, count: int, colour: tuple[int, int, int] = (200, 40, 90)) -> None:
    """`count` small pictures of one colour, 20×24 px."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("RGB", (20, 24), colour).save(folder / f"{index}.png")


def make_folders(root: Path, counts: Mapping[str, int]) -> str:
    """Folders of pictures; returns the data spec."""
    for name, count in counts.items():
        make_class(root / name, count)
    return f"imagefolder:{root}"


def prepare(spec: str, cache: Path, resolution: int | None = 16, *, skip_damaged: bool = False) -> Dataset:
    """Prepare without any data folder."""
    return prepare_anywhere(spec, resolution=resolution, data_dir=None, cache=cache, skip_damaged=skip_damaged)


def per_class(dataset: Dataset, splits: Splits | None = None) -> dict[str, tuple[int, int, int]]:
    """Images per class of the given or the default splits."""
    return images_per_class(dataset, splits or split(dataset))


def read_or_told(path: Path) -> np.ndarray | str:
    """The pixels of a picture, or in what words it is refused."""
    try:
        return load_picture(path, PLAIN)
    except DataError as error:
        return str(error)


def is_one_line(text: str) -> bool:
    """Whether a message is what a terminal shows as one line."""
    return len(text.splitlines()) == 1


def exif(*entries: bytes, tail: bytes = b"") -> bytes:
    """An EXIF block of directory entries, each of 12 bytes, and of the values behind them."""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0\0\0\0" + tail


def jpeg(pixels: np.ndarray, app1: bytes = b"") -> bytes:
    """A JPEG file, with metadata if there are any."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    content = file.getvalue()
    return content[:2] + (b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 if app1 else b"") + content[2:]


SHORT, TEXT, RATIONAL, UNDEFINED, FLOAT = 3, 2, 5, 7, 11
ORIENTED = struct.pack("<HHIHH", 0x0112, SHORT, 1, 6, 0)
BEHIND = 8 + 2 + 12 * 2 + 4  # where values lie behind two entries

# Tags with a wrong type or count, as editors and phones leave them.
ODD = {
    "make as rational": exif(
        struct.pack("<HHII", 0x010F, RATIONAL, 1, BEHIND), ORIENTED, tail=struct.pack("<II", 72, 1)
    ),
    "make as float": exif(struct.pack("<HHIf", 0x010F, FLOAT, 1, 1.5), ORIENTED),
    "make as short": exif(struct.pack("<HHIHH", 0x010F, SHORT, 1, 7, 0), ORIENTED),
    "two resolutions": exif(
        ORIENTED, struct.pack("<HHII", 0x011A, RATIONAL, 2, BEHIND), tail=struct.pack("<IIII", 72, 1, 72, 1)
    ),
    "resolution as text": exif(ORIENTED, struct.pack("<HHI4s", 0x011A, TEXT, 4, b"72\0\0")),
    "resolution as bytes": exif(ORIENTED, struct.pack("<HHI4s", 0x011A, UNDEFINED, 4, b"72\0\0")),
    "date as short": exif(ORIENTED, struct.pack("<HHIHH", 0x0132, SHORT, 1, 7, 0)),
    "directory as text": exif(ORIENTED, struct.pack("<HHI4s", 0x8769, TEXT, 4, b"abc\0")),
    "software as bytes": exif(ORIENTED, struct.pack("<HHI4s", 0x0131, UNDEFINED, 4, b"abc\0")),
    "unit as text": exif(ORIENTED, struct.pack("<HHI4s", 0x0128, TEXT, 4, b"in\0\0")),
    "unit as rational": exif(
        ORIENTED, struct.pack("<HHII", 0x0128, RATIONAL, 1, BEHIND), tail=struct.pack("<II", 5, 2)
    ),
    "width as text": exif(struct.pack("<HHI4s", 0x0100, TEXT, 4, b"40\0\0"), ORIENTED),
}
