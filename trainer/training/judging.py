"""Judging a network on images whose classes are known."""

import numpy as np
import torch
from torch import Tensor, nn

from space.errors import Diverged
from space.networks.modules import fused
from trainer.data.dataset import Dataset
from trainer.training.batches import Images
from trainer.training.judgement import Judgement
from trainer.training.metrics import fitted_temperature
from trainer.training.networks import channels_last

EVALUATION_BATCH = 128


@torch.inference_mode()
def logits_of(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> Tensor:
    """What it says of the images at `indices`, with BatchNorm's running statistics: float32 N x classes, on the CPU."""
    model = channels_last(fused(model))
    images = Images(dataset, next(model.parameters()).device)
    parts = [
        model(images.batch(indices[start : start + EVALUATION_BATCH])[0]).float().cpu()
        for start in range(0, len(indices), EVALUATION_BATCH)
    ]
    return torch.cat(parts)


def predict(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """The predicted class of every image at `indices`."""
    return logits_of(model, dataset, indices).argmax(1).numpy()


def temperature_of(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> float:
    """See `fitted_temperature`; on images that the network was not trained on."""
    return fitted_temperature(logits_of(model, dataset, indices).numpy(), dataset.labels()[indices])


def judge(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> Judgement:
    """How well it classifies the images at `indices`.

    Raises:
        Diverged: what it says is infinite or not a number.
    """
    return judgement_of(logits_of(model, dataset, indices), dataset.labels()[indices])


def judgement_of(logits: Tensor, classes: np.ndarray) -> Judgement:
    """The same of what a network said: float32 N x classes; int N.

    Raises:
        Diverged: see `judge`.
    """
    labels = torch.from_numpy(classes)
    if not bool(torch.isfinite(logits).all()):
        raise Diverged("the network's outputs are no numbers; train it again with a lower learning rate")
    of_right_class = logits.double().log_softmax(1).gather(1, labels[:, None])[:, 0]
    return Judgement(right=(logits.argmax(1) == labels).numpy(), log_likelihoods=of_right_class.numpy())
