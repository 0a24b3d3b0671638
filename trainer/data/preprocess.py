"""From a picture to the network's input: a recipe as a value, and what follows it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from space.arch import MAX_RESOLUTION
from space.errors import DataError

# More than any network takes, so that what is resized before it is cropped fits, too.
_LARGEST = 2 * MAX_RESOLUTION
MAX_PICTURE_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a GiB as RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """How a picture becomes the network's input; a search exports it as preprocess.json.

    In order: convert to `channels`, resize the shorter side to `resize` px (bilinear, antialiased), crop the centre
    to `crop` px, add `pad` px of zeros on each side, scale to 0–1, subtract `mean`, divide by `std`.
    `mean` and `std` are per channel, of the cropped train images (reward split included, padding excluded).
    """

    resolution: int
    resize: int
    crop: int
    pad: int
    channels: Literal["L", "RGB"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = (self.resolution, self.resize, self.crop, self.pad)
        if not all(type(size) is int and 0 <= size <= _LARGEST for size in sizes):
            raise DataError(f"sizes are {sizes}; they must be whole numbers of px, at most {_LARGEST}")
        if self.channels not in ("L", "RGB"):
            raise DataError(f"channels is {self.channels!r}; it must be L or RGB")
        if not 1 <= self.crop <= self.resize or self.pad < 0 or self.crop + 2 * self.pad != self.resolution:
            raise DataError(
                f"resize {self.resize}, crop {self.crop} and pad {self.pad} px do not make {self.resolution} px; "
                "crop + 2 * pad must be the resolution and crop at most resize"
            )
        numbers = all(isinstance(value, (int, float)) and isfinite(value) for value in (*self.mean, *self.std))
        if not numbers or {len(self.mean), len(self.std)} != {len(self.channels)} or min(self.std) <= 0:
            raise DataError(f"mean and std need one value per channel of {self.channels}, and std above 0")

    def to_json(self) -> str:
        """JSON with sorted keys, one field a line."""
        return json.dumps(asdict(self), sort_keys=True, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises:
            DataError: the text is no JSON, or a field is missing, unknown or wrong.
        """
        try:
            return cls.from_plain(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise DataError(f"the preprocessing is not readable ({error}); export it again") from error

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The recipe of its fields as JSON has them.

        Raises:
            DataError: a field is missing, unknown or wrong.
        """
        try:
            return cls(**{**plain, "mean": tuple(map(float, plain["mean"])), "std": tuple(map(float, plain["std"]))})
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DataError(f"the preprocessing is not readable ({error}); export it again") from error


IMAGENET = Preprocess(
    resolution=224,
    resize=256,
    crop=224,
    pad=0,
    channels="RGB",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
"""How torchvision evaluates networks that it has trained on ImageNet: the middle 7/8 of a picture, at 224 px."""


def normalise(images: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Scale uint8 images N×C×R×R to 0–1, subtract the mean and divide by the deviation: float32 N×C×R×R."""
    shape = (1, -1, 1, 1)
    mean = np.array(preprocess.mean, dtype=np.float32).reshape(shape)
    std = np.array(preprocess.std, dtype=np.float32).reshape(shape)
    scaled: np.ndarray = images.astype(np.float32) / np.float32(255)
    scaled -= mean
    scaled /= std
    return scaled


def fit(image: Image.Image, preprocess: Preprocess) -> np.ndarray:
    """An image in the mode `preprocess.channels`, resized, cropped and padded: uint8 C×R×R.

    Raises:
        DataError: the image is so long and narrow that resizing its shorter side would make it huge.
    """
    shorter = min(image.size)
    width, height = (max(preprocess.resize, round(side * preprocess.resize / shorter)) for side in image.size)
    if width * height > MAX_PICTURE_PIXELS:
        raise DataError(f"an image of {image.width}×{image.height} px is too narrow to resize; crop it")
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - preprocess.crop) // 2, (height - preprocess.crop) // 2
    cropped = np.asarray(image.crop((left, top, left + preprocess.crop, top + preprocess.crop)))
    return add_padding(np.atleast_3d(cropped).transpose(2, 0, 1), preprocess)


def add_padding(images: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    """Images …×crop×crop with `pad` px of zeros on each side, …×R×R."""
    around = (preprocess.pad, preprocess.pad)
    padded: np.ndarray = np.pad(images, [(0, 0)] * (images.ndim - 2) + [around, around])
    return padded
