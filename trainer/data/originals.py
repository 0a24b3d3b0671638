"""The pictures of a prepared data set once more, as another network takes them."""

from pathlib import Path

import numpy as np

from space.errors import DataError
from trainer.data import sources
from trainer.data.dataset import Dataset
from trainer.data.imagefolder import PictureFiles, list_imagefolder
from trainer.data.pictures import load_picture
from trainer.data.prepare import IMAGE_FOLDER, as_picture, image_folder, prepare, printable
from trainer.data.preprocess import Preprocess, fit
from trainer.data.sources import RawImages


class Originals:
    """The pictures of a data set at their source.

    `data_dir` is where that was looked for when it was prepared, and `skip_damaged` whether damaged ones were left out.

    Raises:
        DataError: the source is not there, or has changed since.
    """

    def __init__(self, dataset: Dataset, data_dir: Path | None, *, skip_damaged: bool = False) -> None:
        # What is as it was is found prepared, by the name, size and time of each file.
        resolution = dataset.preprocess.resolution
        now = prepare(dataset.name, resolution=resolution, data_dir=data_dir, skip_damaged=skip_damaged)
        if now.content_hash != dataset.content_hash:
            raise DataError(f"{dataset.name} has changed since it was prepared; put back what was there")
        self._raw = _source(now, data_dir)

    def picture(self, index: int, preprocess: Preprocess) -> np.ndarray:
        """The picture at an index of the data set as a network takes it: uint8 C×R×R, not normalised.

        Raises:
            DataError: it cannot be read, or is too narrow to be made so large.
        """
        if isinstance(self._raw, PictureFiles):
            return load_picture(self._raw.files[index], preprocess)
        return fit(as_picture(self._raw.images[index]).convert(preprocess.channels), preprocess)


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
