"""A trained network as a teacher: one of a run folder in torch, one of an ONNX file by ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search.run_folder import LABELS, PREPROCESS, SPEC, WEIGHTS
from search.stages.exported import ExportedNetwork
from space.errors import DataError
from space.formats import read_spec_file
from space.networks.modules import fused
from trainer.data.dataset import Dataset
from trainer.data.preprocess import Preprocess
from trainer.training.networks import DeviceKind, channels_last, load_model
from trainer.training.train import Teacher
from trainer.training.weight_files import read_weights, weights_digest


def teacher_from(path: Path, dataset: Dataset, device: DeviceKind = "cpu") -> Teacher:
    """The network that was exported into a folder or an ONNX file, to be asked about images of a data set.

    Raises:
        DataError: it has other classes or another input than the data set.
        RunError: there is none, or it was not exported by mobilenas.
    """
    if path.is_dir() and (path / WEIGHTS).is_file():
        return _of_folder(path, dataset, device)
    exported = ExportedNetwork(path)
    _require_same(path, exported.labels, exported.preprocess, dataset)
    change = _Normalisation(dataset.preprocess, exported.preprocess)

    def answer(images: Tensor) -> Tensor:
        # An exported graph takes one image at a time.
        each = change(images).cpu().numpy()
        return torch.from_numpy(np.stack([exported.network.logits(image[None]) for image in each])).to(images.device)

    return Teacher(answer=answer, identity=exported.network.sha256[:16])


def _of_folder(folder: Path, dataset: Dataset, device: DeviceKind) -> Teacher:
    arch = read_spec_file(folder / SPEC)
    try:
        labels = (folder / LABELS).read_text(encoding="utf-8").splitlines()
        preprocess = Preprocess.from_json((folder / PREPROCESS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"teacher {folder} cannot be read ({error}); give a run folder or a model.onnx") from error
    _require_same(folder, labels, preprocess, dataset)
    weights = read_weights(folder / WEIGHTS)
    model = channels_last(fused(load_model(arch, weights))).to(device)
    change = _Normalisation(dataset.preprocess, preprocess)
    return Teacher(answer=lambda images: model(change(images)), identity=weights_digest(weights))


def _require_same(path: Path, labels: Sequence[str], preprocess: Preprocess, dataset: Dataset) -> None:
    if list(labels) != list(dataset.classes):
        raise DataError(
            f"teacher {path} knows {len(labels)} classes ({', '.join(labels[:3])}, ...), {dataset.name} has "
            f"{len(dataset.classes)} ({', '.join(dataset.classes[:3])}, ...); give one of the same classes"
        )
    ours, theirs = dataset.preprocess, preprocess
    if (ours.resolution, ours.channels) != (theirs.resolution, theirs.channels):
        raise DataError(
            f"teacher {path} takes {theirs.resolution} px {theirs.channels} images, the training {ours.resolution} px "
            f"{ours.channels}; give one that takes the same"
        )


class _Normalisation:
    """From images normalised for one network to those for another."""

    def __init__(self, have: Preprocess, want: Preprocess) -> None:
        mean, std, new_mean, new_std = (
            torch.tensor(values, dtype=torch.float32)[:, None, None]
            for values in (have.mean, have.std, want.mean, want.std)
        )
        self._scale, self._shift = std / new_std, (mean - new_mean) / new_std

    def __call__(self, images: Tensor) -> Tensor:
        return images * self._scale.to(images.device) + self._shift.to(images.device)
