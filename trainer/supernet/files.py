"""A supernet's file: its weights as safetensors, and beside them what it is of as JSON."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from space.choices import SearchSpace
from space.errors import DataError, InvalidSpace
from trainer.data.dataset import Dataset
from trainer.data.preprocess import Preprocess
from trainer.pretrained.fitting import fitted
from trainer.pretrained.published import Pretrained
from trainer.supernet.sharing import Supernet
from trainer.training.batches import images_hash
from trainer.training.weight_files import write_tensors

# Raised when the file changes, or when its weights mean something else.
FILE_VERSION = 1
MAX_BYTES = 2 * 2**30
_WORDS = "supernet"
_WEIGHTS, _TRANSFORMS = "weights/", "transforms/"
_FIRST = "stem.conv.conv.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetFile:
    """A supernet with what it was trained for: how a picture becomes its input, and its classes, by `data`.

    `data` is the content hash of the data set, and `images` says which of its images it was trained on. None where it
    was trained elsewhere; `classes` are then unknown, too.
    """

    supernet: Supernet
    preprocess: Preprocess
    classes: tuple[str, ...] | None
    data: str | None
    images: str | None

    def fitted_to(self, dataset: Dataset, train: np.ndarray, what: str = "the supernet") -> Supernet:
        """The supernet for a data set, of which the images at `train` are to be trained on.

        One that was trained elsewhere takes images as they are normalised here: another deviation is the first
        convolution's to undo; another mean is BatchNorm's, which is measured anyway.

        Raises:
            DataError: it was trained on other data or other images of them, or for other classes or sizes.
        """
        space, preprocess = self.supernet.space, dataset.preprocess
        mine = (space.resolution, space.in_channels, space.num_classes)
        theirs = (preprocess.resolution, len(preprocess.mean), len(dataset.classes))
        if mine != theirs:
            raise DataError(
                f"{what} is for {mine[0]} px, {mine[1]} channels and {mine[2]} classes, {dataset.name} has "
                f"{theirs[0]}, {theirs[1]} and {theirs[2]}; give data that fit, or train another one"
            )
        if self.data is not None:
            if self.data != dataset.content_hash:
                raise DataError(
                    f"{what} was trained on data {self.data}, {dataset.name} is {dataset.content_hash}; give the same "
                    "data, or train another one"
                )
            if self.images != images_hash(train):
                raise DataError(
                    f"{what} was trained on other images of {dataset.name} than these are to be; give the same "
                    "data.reward_fraction and data.split_seed, or train another one"
                )
            return self.supernet
        scale = torch.tensor(preprocess.std) / torch.tensor(self.preprocess.std)
        first = self.supernet.weights[_FIRST] * scale[:, None, None]
        return replace(self.supernet, weights={**self.supernet.weights, _FIRST: first})

    def begun_for(self, dataset: Dataset, seed: int) -> Supernet:
        """What a supernet of the same space for other data begins with: its classifier is new where the classes are.

        Pictures of another side, other channels or another normalisation are taken as `trainer.pretrained.fitting`
        has it.

        Raises:
            DataError: pictures have other channels, which is neither one for three nor three for one.
        """
        known, preprocess = self.supernet.space, dataset.preprocess
        space = replace(
            known,
            resolution=preprocess.resolution,
            in_channels=len(preprocess.mean),
            num_classes=len(dataset.classes),
        )
        largest = Pretrained(
            architecture=known.largest,
            weights=self.supernet.weights,
            dialect="mobilenas",
            network=None,
            width=None,
            preprocess=self.preprocess,
            classes=self.classes,
        )
        weights = fitted(largest, space.largest, preprocess, dataset.classes, seed)
        return replace(self.supernet, space=space, weights=weights)

    @property
    def content_hash(self) -> str:
        """16 hexadecimal digits that tell it from others."""
        return self.supernet.digest

    def write(self, path: Path) -> None:
        """Write it; a reader sees the whole file or none.

        Raises:
            OSError: it cannot be written.
        """
        words = {
            "version": FILE_VERSION,
            "space": self.supernet.space.to_plain(),
            "preprocess": asdict(self.preprocess),
            "classes": self.classes,
            "data": self.data,
            "images": self.images,
        }
        parts = ((_WEIGHTS, self.supernet.weights), (_TRANSFORMS, self.supernet.transforms))
        tensors = {
            f"{part}{name}": tensor.detach().cpu().contiguous() for part, each in parts for name, tensor in each.items()
        }
        write_tensors(tensors, path, {_WORDS: json.dumps(words)})

    @classmethod
    def read(cls, path: Path) -> "SupernetFile":
        """What `write` wrote; the file may come from outside.

        Raises:
            DataError: there is none, it is too large or damaged, or another version wrote it.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise _unreadable(path, f"it has more than {MAX_BYTES:,} bytes")
            with safe_open(path, framework="pt") as opened:
                words = json.loads((opened.metadata() or {})[_WORDS])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no dictionary
            if words["version"] != FILE_VERSION:
                version = words["version"]
                raise DataError(f"supernet {path} has version {version!r}, not {FILE_VERSION}; train it anew")
            classes, data, images = words["classes"], words["data"], words["images"]
            if not (classes is None or all(isinstance(name, str) for name in classes)):
                raise _unreadable(path, "a class has no name")
            if not all(each is None or isinstance(each, str) for each in (data, images)):
                raise _unreadable(path, "its data set or images have no hash")
            weights, transforms = (_named(tensors, part) for part in (_WEIGHTS, _TRANSFORMS))
            if len(weights) + len(transforms) != len(tensors):
                raise _unreadable(path, "it holds tensors that are no supernet's")
            return cls(
                supernet=Supernet(space=SearchSpace.from_plain(words["space"]), weights=weights, transforms=transforms),
                preprocess=Preprocess.from_plain(words["preprocess"]),
                classes=None if classes is None else tuple(classes),
                data=data,
                images=images,
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError, InvalidSpace) as error:
            raise _unreadable(path, " ".join(str(error).split())[:200]) from error


def _named(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name.removeprefix(part): tensor for name, tensor in tensors.items() if name.startswith(part)}


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(f"supernet {path} cannot be read ({why}); give one that `mobilenas supernet` trained or imported")
