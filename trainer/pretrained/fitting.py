"""Pretrained weights for other classes, other channels, and images that are normalised otherwise."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from space.arch import Architecture
from space.errors import DataError
from trainer.data.preprocess import Preprocess
from trainer.pretrained.published import Pretrained
from trainer.training.networks import new_model, shapes_of

_FIRST, _FIRST_MEAN = "stem.conv.conv.weight", "stem.conv.bn.running_mean"
_CLASSIFIER = "head.classifier."


def architecture_for(
    pretrained: Pretrained, preprocess: Preprocess, classes: int, spec: Architecture | None = None
) -> Architecture:
    """The pretrained network, or one of the same layers at other strides, for some data.

    Raises:
        DataError: `spec` has other layers.
    """
    if spec is not None and (difference := difference_from(pretrained, spec)) is not None:
        raise DataError(f"the weights are of another network than the spec, where {difference}; leave the spec out")
    return replace(
        pretrained.architecture if spec is None else spec,
        resolution=preprocess.resolution,
        in_channels=len(preprocess.mean),
        num_classes=classes,
        batch_norm_epsilon=pretrained.architecture.batch_norm_epsilon,
    )


def difference_from(pretrained: Pretrained, arch: Architecture) -> str | None:
    """The first tensor that a network has otherwise, in words; None: none, whatever the channels and the classes."""
    known = pretrained.architecture
    alike = replace(arch, in_channels=known.in_channels, num_classes=known.num_classes)
    theirs, ours = shapes_of(known), shapes_of(alike)
    for name in dict.fromkeys((*ours, *theirs)):
        if theirs.get(name) != ours.get(name):
            return f"{name} is {_said(ours.get(name))}, and {_said(theirs.get(name))} in the weights"
    return None


def _said(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))


def fitted(
    pretrained: Pretrained, arch: Architecture, preprocess: Preprocess, classes: Sequence[str], seed: int
) -> dict[str, Tensor]:
    """A state dict for what `architecture_for` gives; the classifier is a new one but where the same classes are known.

    What the pretrained network computes of a picture stays, though `preprocess` normalises it otherwise: the first
    convolution takes another deviation, and BatchNorm behind it another mean. Only at the picture's margin, where
    zeros stand for pixels, something changes.

    Raises:
        DataError: pictures have other channels, which is neither one for three nor three for one.
    """
    weights = dict(pretrained.weights)
    if pretrained.classes != tuple(classes):
        new = new_model(arch, seed).state_dict()
        weights |= {name: tensor for name, tensor in new.items() if name.startswith(_CLASSIFIER)}
    first = weights[_FIRST].double()
    theirs, ours = pretrained.architecture.in_channels, arch.in_channels
    if theirs != ours and {theirs, ours} != {1, 3}:
        raise DataError(
            f"the weights are for pictures of {theirs} channels, these have {ours}; give data of as many channels"
        )
    if theirs == 1 < ours:  # three channels say what one did
        first = first.expand(-1, ours, -1, -1) / ours
    if pretrained.preprocess is not None:
        mean, std = (torch.tensor(each, dtype=torch.float64) for each in (preprocess.mean, preprocess.std))
        their_mean, their_std = (
            torch.tensor(each, dtype=torch.float64) for each in (pretrained.preprocess.mean, pretrained.preprocess.std)
        )
        if theirs == 1 < ours:
            their_mean, their_std = their_mean.expand(ours), their_std.expand(ours)
        offset = (first * ((mean - their_mean) / their_std)[:, None, None]).sum((1, 2, 3))
        weights[_FIRST_MEAN] = (weights[_FIRST_MEAN].double() - offset).float()
        first = first * (std / their_std)[:, None, None]
    if ours == 1 < theirs:  # a grey picture has the same in each of three channels
        first = first.sum(1, keepdim=True)
    weights[_FIRST] = first.float().contiguous()
    return weights
