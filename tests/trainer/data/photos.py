"""Folders of small pictures, and what becomes of them."""

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
