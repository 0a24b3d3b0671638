"""The pictures of a prepared data set once more, as another network takes them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from space.errors import DataError
from trainer.data import sources
from trainer.data.dataset import Dataset
from trainer.data.imagefolder import PictureFiles, list_imagefolder
from trainer.data.pictures import load_picture
from trainer.data.prepare import IMAGE_FOLDER, as_picture, image_folder, printable
from trainer.data.preprocess import Preprocess, fit
from trainer.data.sources import RawImages


def pictures_for(
    dataset: Dataset, indices: Sequence[int], preprocess: Preprocess, data_dir: Path | None
) -> Iterator[np.ndarray]:
    """The pictures at some indices of a data set, in their order, each from its source: uint8 C×R×R, not normalised.

    `preprocess` is that of the other network, `data_dir` where the source was looked for when it was prepared.

    Raises:
        DataError: the source is not there, has changed since, or a picture cannot be read.
    """
    raw = _source(dataset, data_dir)
    if not np.array_equal(raw.labels, dataset.labels()):
        raise DataError(f"{dataset.name} has changed since it was prepared; put back what was there")
    for index in indices:
        if isinstance(raw, PictureFiles):
            yield load_picture(raw.files[index], preprocess)
        else:
            yield fit(as_picture(raw.images[index]).convert(preprocess.channels), preprocess)


def _source(dataset: Dataset, data_dir: Path | None) -> RawImages | PictureFiles:
    cache = sources.cache_dir()
    if dataset.name == "fashion-mnist":
        return sources.read_fashion_mnist(sources.find_fashion_mnist(data_dir, cache))
    if dataset.name == "cifar10":
        return sources.read_cifar10(sources.find_cifar10(data_dir, cache))
    assert dataset.name.startswith(IMAGE_FOLDER), dataset.name
    pictures, skipped = list_imagefolder(image_folder(dataset.name)), set(dataset.skipped)
    if not skipped:
        return pictures
    return pictures.without(
        {path for path in pictures.files if printable(str(path.relative_to(pictures.root))) in skipped}
    )
