"""A trained network as a teacher: one of a run folder in torch, any of an ONNX file by ONNX Runtime."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search.config.present import PresentConfig
from search.present import TEACHER, PresentModel
from search.run_folder import LABELS, PREPROCESS, SPEC, WEIGHTS
from space.errors import DataError
from space.formats import read_spec_file
from space.networks.modules import fused
from trainer.data.dataset import Dataset
from trainer.data.preprocess import Preprocess
from trainer.training.networks import DeviceKind, channels_last, load_model
from trainer.training.train import Teacher
from trainer.training.weight_files import read_weights, weights_digest


def teacher_from(
    path: Path,
    dataset: Dataset,
    device: DeviceKind = "cpu",
    *,
    labels: str | None = None,
    preprocess: str | None = None,
) -> Teacher:
    """The network in a run folder, or any classifier in an ONNX file, to be asked about images of a data set.

    `labels` and `preprocess` are what an ONNX file does not say, as `PresentConfig` has them.

    Raises:
        DataError: it has other classes or another input than the data set, or cannot be read.
        RunError: there is none.
    """
    if path.is_dir() and (path / WEIGHTS).is_file():
        if labels or preprocess:
            raise DataError(f"teacher {path} is a run folder, which says its labels and preprocessing; leave them out")
        return _of_folder(path, dataset, device)
    wanted = PresentConfig(model=str(path), labels=labels, preprocess=preprocess, sha256=None)
    model = PresentModel.named(wanted, TEACHER)
    order = model.order_of(dataset.classes)
    _require_same_input(path, model.preprocess, dataset)
    change = _Normalisation(dataset.preprocess, model.preprocess)

    def answer(images: Tensor) -> Tensor:
        # Such a graph takes one image at a time. Probabilities differ from logits by what no softmax sees.
        each = change(images).cpu().numpy()
        said = np.stack([model.probabilities_of_normalised(image)[order] for image in each])
        logits = np.log(np.maximum(said, np.finfo(np.float32).tiny)).astype(np.float32)
        return torch.from_numpy(logits).to(images.device)

    # Other labels or another preprocessing make another teacher of the same file.
    said = f"{model.sha256} {order.tolist()} {model.preprocess.to_json()}"
    return Teacher(answer=answer, identity=hashlib.sha256(said.encode()).hexdigest()[:16])


def _of_folder(folder: Path, dataset: Dataset, device: DeviceKind) -> Teacher:
    arch = read_spec_file(folder / SPEC)
    try:
        labels = (folder / LABELS).read_text(encoding="utf-8").splitlines()
        preprocess = Preprocess.from_json((folder / PREPROCESS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"teacher {folder} cannot be read ({error}); give a run folder or a model.onnx") from error
    _require_same_classes(folder, labels, dataset)
    _require_same_input(folder, preprocess, dataset)
    weights = read_weights(folder / WEIGHTS)
    model = channels_last(fused(load_model(arch, weights))).to(device)
    change = _Normalisation(dataset.preprocess, preprocess)
    return Teacher(answer=lambda images: model(change(images)), identity=weights_digest(weights))


def _require_same_classes(path: Path, labels: Sequence[str], dataset: Dataset) -> None:
    if list(labels) != list(dataset.classes):
        raise DataError(
            f"teacher {path} knows {len(labels)} classes ({', '.join(labels[:3])}, ...), {dataset.name} has "
            f"{len(dataset.classes)} ({', '.join(dataset.classes[:3])}, ...); give one of the same classes"
        )


def _require_same_input(path: Path, preprocess: Preprocess, dataset: Dataset) -> None:
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
