"""The published checkpoints of Once-for-All's MobileNetV3 (Cai et al. 2020) as a supernet of the space `ofa-mbv3`."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from space.choices import SearchSpace
from space.errors import DataError
from space.preset import load_preset
from trainer.supernet.sharing import TRANSFORM_SHAPES, Supernet
from trainer.training.networks import shapes_of
from trainer.training.torch_files import read_torch_file

_WIDTHS = (1.0, 1.2)
_STAGES, _DEEPEST = 5, 4
# Its modules are nested more deeply where they are elastic, and older files call a block's layers otherwise.
_SAME = (
    (".mobile_inverted_conv.", ".conv."),
    (".conv.conv.", ".conv."),
    (".bn.bn.", ".bn."),
    (".linear.linear.", ".linear."),
)
_LAYERS = {
    "inverted_bottleneck.conv": "expand.conv",
    "inverted_bottleneck.bn": "expand.bn",
    "depth_conv.conv": "depthwise.conv",
    "depth_conv.bn": "depthwise.bn",
    "depth_conv.se.fc.reduce": "se.squeeze",
    "depth_conv.se.fc.expand": "se.excite",
    "point_linear.conv": "project.conv",
    "point_linear.bn": "project.bn",
}
_FRAME = {
    "first_conv.conv": "stem.conv.conv",
    "first_conv.bn": "stem.conv.bn",
    "final_expand_layer.conv": "head.conv.conv",
    "final_expand_layer.bn": "head.conv.bn",
    "feature_mix_layer.conv": "head.hidden.linear",
    "classifier.linear": "head.classifier.linear",
}
_MATRIX = re.compile(r"(7to5|5to3)_matrix")


def read_once_for_all(path: Path, *, resolution: int = 224) -> Supernet:
    """The supernet of a file as Once-for-All publishes it, e.g. `ofa_mbv3_d234_e346_k357_w1.0`.

    Raises:
        DataError: it cannot be read, holds more than tensors, or lacks or adds one.
    """
    read = read_torch_file(path)
    tensors = {_our_name(name, path): tensor for name, tensor in read.items()}
    if len(tensors) < len(read):
        raise _unfit(path, "it names a tensor twice, in two ways")
    transforms = {name: tensor for name, tensor in tensors.items() if " " in name}
    weights = {name: tensor for name, tensor in tensors.items() if " " not in name}
    space = _space_of(weights, path, resolution)
    expected = shapes_of(space.largest)
    sizes = {name: tuple(shape) for name, shape in expected.items()} | _transforms_of(expected)
    if weights.keys() | transforms.keys() != sizes.keys():
        wrong = min((weights.keys() | transforms.keys()) ^ sizes.keys())
        said = "lacks" if wrong in sizes else "has one too many"
        raise _unfit(path, f"of the tensors of '{space.preset.name}' it {said}: {wrong}")
    for name, tensor in tensors.items():
        if tensor.numel() != torch.Size(sizes[name]).numel() or not bool(torch.isfinite(tensor).all()):
            raise _unfit(path, f"{name} has shape {tuple(tensor.shape)}, or values that are no numbers")
    shaped = {name: tensor.reshape(sizes[name]) for name, tensor in tensors.items()}
    shaped = {name: each.float() if each.is_floating_point() else each for name, each in shaped.items()}
    return Supernet(
        space=space,
        weights={name: shaped[name] for name in expected},
        transforms={name: shaped[name] for name in transforms},
    )


def _unfit(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no checkpoint of Once-for-All's MobileNetV3: {why}; give one as it is published")


def _our_name(name: str, path: Path) -> str:
    for theirs, ours in _SAME:
        name = name.replace(theirs, ours)
    block, _, rest = name.removeprefix("blocks.").partition(".conv.")
    if name.startswith("blocks.") and block.isdecimal() and len(block) <= 2:
        index = int(block)
        stage, position = (1, 1) if index == 0 else (2 + (index - 1) // _DEEPEST, 1 + (index - 1) % _DEEPEST)
        layer, _, what = rest.rpartition(".")
        if layer in _LAYERS and stage <= 1 + _STAGES:
            unit = f"stage{stage}_block{position}"
            matrix = _MATRIX.fullmatch(what)
            return f"{unit}.depthwise.conv.weight {matrix[1]}" if matrix else f"{unit}.{_LAYERS[layer]}.{what}"
    layer, _, what = name.rpartition(".")
    if layer in _FRAME:
        return f"{_FRAME[layer]}.{what}"
    raise _unfit(path, f"there is no {name[:200]!r} in one")


def _space_of(weights: Mapping[str, Tensor], path: Path, resolution: int) -> SearchSpace:
    stem, classifier = (weights.get(f"{name}.weight") for name in ("stem.conv.conv", "head.classifier.linear"))
    if stem is None or classifier is None:
        raise _unfit(path, "it has no first convolution, or no classifier")
    spaces = {
        space.stem.out_channels: space
        for width in _WIDTHS
        for space in [
            SearchSpace(
                preset=load_preset("ofa-mbv3"),
                width=width,
                resolution=resolution,
                in_channels=3,
                num_classes=len(classifier),
            )
        ]
    }
    if len(stem) not in spaces:
        raise _unfit(path, f"its first convolution has {len(stem)} channels; the published ones have {sorted(spaces)}")
    return spaces[len(stem)]


def _transforms_of(shapes: Mapping[str, torch.Size]) -> dict[str, tuple[int, ...]]:
    """The transformations that every elastic depthwise kernel has, and their shapes."""
    elastic = [name for name, shape in shapes.items() if name.endswith("depthwise.conv.weight") and shape[-1] == 7]
    return {f"{name} {sizes}": shape for name in elastic for sizes, shape in TRANSFORM_SHAPES.items()}
