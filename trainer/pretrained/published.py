"""Files of weights as others have trained them: which network they are of, by what is in them, and the tensors as ours.

Strict: a file is of a known network when it has all of its tensors, in their shapes, and no other. What no tensor says
comes from its project: the strides and activations, BatchNorm's epsilon, how pictures are normalised.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from space.arch import Architecture
from space.errors import DataError, NotExpressible
from space.reference import REFERENCES
from trainer.data.preprocess import IMAGENET, Preprocess
from trainer.pretrained.dialects import Dialect, dialect_of, epsilon_in, names_in
from trainer.training.networks import shapes_of
from trainer.training.torch_files import MAX_BYTES, read_torch_file

# As timm evaluates its MobileNetV1.
_HALF = replace(IMAGENET, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
_MOST_CLASSES, _MOST_CHANNELS = 100_000, 16
# Once-for-All's, which `mobilenas supernet import` reads.
_OFA_MARK = "first_conv.conv.weight"
# Tensors that quantised networks have beside their weights.
_QUANTISED = ("scale", "zero_point", "_packed_params")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """Weights of a network as a state dict of ours, and what is known of them.

    `network` and `width` are those of `space.reference.REFERENCES`, None for a network that was found by a search.
    `preprocess` is how its project says that pictures are to be put in, at its resolution, and `classes` what it tells
    apart; None where nobody says.
    """

    architecture: Architecture
    weights: dict[str, Tensor]
    dialect: Dialect
    network: str | None
    width: float | None
    preprocess: Preprocess | None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    network: str
    width: float
    architecture: Architecture
    names: dict[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By the names of the dialect."""
        return _shapes(self.architecture, self.names)


def read_pretrained(
    path: Path, *, epsilon: float | None = None, spec: Architecture | None = None, preprocess: Preprocess | None = None
) -> Pretrained:
    """The network in a file of weights: torchvision's, timm's or ours, as torch or safetensors write it.

    Ours are those of `spec`, for pictures as `preprocess` normalises them; without one, of a published network.
    `epsilon` is BatchNorm's where it is not what the project's networks have: timm's `tf_` variants have 1e-3, and
    nothing in their files tells them from the others.

    Raises:
        DataError: it cannot be read, is too large, holds no float32 weights, or those of no network that is known.
    """
    tensors = _checked(path, _without_prefix(_tensors(path)))
    dialect = dialect_of(tensors)
    if dialect is None:
        if _OFA_MARK in tensors:
            raise DataError(
                f"{path} is a checkpoint of Once-for-All; bring it by `mobilenas supernet import NAME {path}`"
            )
        first = next(iter(tensors), "nothing")
        raise _unfit(
            path, f"its tensors are named as neither torchvision, timm nor mobilenas name them ({_shown(first)})"
        )
    if dialect == "mobilenas" and spec is not None:
        spec = replace(spec, **_data_sizes(path, tensors))
        names = names_in(spec, dialect)
        if (wrong := _difference(tensors, _shapes(spec, names))) is not None:
            raise _unfit(path, f"they are not those of the spec {spec.arch_id}: {wrong}")
        found = _Known(network="", width=1.0, architecture=spec, names=names)
    else:
        found = _identified(path, tensors, dialect)
    arch = replace(found.architecture, batch_norm_epsilon=epsilon or found.architecture.batch_norm_epsilon)
    shapes = shapes_of(arch)
    return Pretrained(
        architecture=arch,
        weights={ours: tensors[theirs].reshape(shapes[ours]) for ours, theirs in found.names.items()},
        dialect=dialect,
        network=found.network or None,
        width=found.width if found.network else None,
        preprocess=preprocess if dialect == "mobilenas" else _published(found.network, arch, dialect),
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    """Of either kind of file, by what it begins with."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            begin = file.read(9)
    except OSError as error:
        raise DataError(
            f"weights {path} cannot be read ({error.strerror or error}); give a file that can be"
        ) from error
    if size > MAX_BYTES:
        raise _unfit(path, f"it has {size:,} bytes, more than {MAX_BYTES:,}")
    if begin[8:] != b"{":
        return read_torch_file(path)
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise _unfit(path, f"it is a damaged safetensors file ({' '.join(str(error).split())[:100]})") from error


def _shown(name: str) -> str:
    """Of a name that comes from outside what one line can hold."""
    return name[:100] if name.isprintable() else ascii(name[:100])


def _without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a network that was trained on several GPUs is called without the wrapper around it."""
    prefix = "module."
    wrapped = bool(tensors) and all(name.startswith(prefix) for name in tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()} if wrapped else dict(tensors)


def _checked(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for full_name, tensor in tensors.items():
        name = _shown(full_name)
        if tensor.is_quantized or name.rpartition(".")[2] in _QUANTISED or tensor.dtype in (torch.int8, torch.uint8):
            raise _unfit(path, f"{name} is of a quantised network; give the weights that it was quantised from")
        counts = full_name.endswith("num_batches_tracked")
        if tensor.dtype != (torch.int64 if counts else torch.float32):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise _unfit(path, f"{name} is {kind}; give float32 weights (`model.float()` before they are saved)")
        # Nothing is computed of one that stands for more than the file holds.
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or tensor.numel() > tensor.untyped_storage().nbytes() // tensor.element_size():
            raise _unfit(path, f"{name} is no plain tensor; give weights as `state_dict()` has them")
        if not bool(torch.isfinite(tensor).all()):
            raise _unfit(path, f"{name} has values that are no numbers")
    return tensors


_CLASSIFIERS = ("classifier.weight", "classifier.1.weight", "classifier.3.weight", "head.classifier.linear.weight")
_FIRSTS = ("conv_stem.weight", "features.0.0.weight", "stem.conv.conv.weight")


class _DataSizes(TypedDict):
    num_classes: int
    in_channels: int


def _data_sizes(path: Path, tensors: Mapping[str, Tensor]) -> _DataSizes:
    """Of how many classes and channels a file's network is: those of ImageNet where no tensor says so."""
    classes = next((len(tensors[name]) for name in _CLASSIFIERS if name in tensors and tensors[name].ndim == 2), 1000)
    channels = next((tensors[name].shape[1] for name in _FIRSTS if name in tensors and tensors[name].ndim == 4), 3)
    if not (2 <= classes <= _MOST_CLASSES and 1 <= channels <= _MOST_CHANNELS):
        raise _unfit(
            path, f"{classes:,} classes of pictures with {channels} channels are none of a network that is known"
        )
    return {"num_classes": classes, "in_channels": channels}


def _known(sizes: _DataSizes, dialect: Dialect) -> Iterator[_Known]:
    """The published networks in a dialect, with the classes and the channels of a file's."""
    for reference in REFERENCES.values():
        if reference.resolution != IMAGENET.resolution:
            continue  # of the same tensors as that for 224 px, at other strides
        for width in reference.widths:
            for rounding in reference.roundings or (None,):
                arch = reference(width=width, rounding=rounding, **sizes)
                arch = replace(arch, batch_norm_epsilon=epsilon_in(arch, dialect))
                try:
                    names = names_in(arch, dialect)
                except NotExpressible:
                    continue
                yield _Known(network=reference.name, width=width, architecture=arch, names=names)


def _identified(path: Path, tensors: Mapping[str, Tensor], dialect: Dialect) -> _Known:
    every = list(_known(_data_sizes(path, tensors), dialect))
    names = set(tensors)
    for known in every:
        if set(known.names.values()) == names and _difference(tensors, known.shapes) is None:
            return known
    nearest = min(every, key=lambda known: _distance(tensors, known.shapes))
    raise _unfit(
        path,
        f"they are of no network that is known; the nearest is {nearest.network} at width {nearest.width:g} as "
        f"{dialect} has it, and the first tensor that differs: {_difference(tensors, nearest.shapes)}",
    )


def _shapes(arch: Architecture, names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    shapes = shapes_of(arch)
    return {theirs: tuple(shapes[ours]) for ours, theirs in names.items()}


def _is(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has a shape, sides of 1 at its end aside: timm's hidden layer is a convolution of one pixel."""
    return tuple(tensor.shape) in (shape, (*shape, 1, 1))


def _difference(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first tensor, in the order of the network, that a file has otherwise; None: none."""
    for name, shape in shapes.items():
        if name not in tensors:
            return f"{name} is missing"
        if not _is(tensors[name], shape):
            return f"{name} is {tuple(tensors[name].shape)}, not {shape}"
    extra = next((name for name in tensors if name not in shapes), None)
    return None if extra is None else f"{_shown(extra)} is one too many"


def _distance(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> int:
    different = sum(name not in tensors or not _is(tensors[name], shape) for name, shape in shapes.items())
    return different + sum(name not in shapes for name in tensors)


def _published(network: str, arch: Architecture, dialect: Dialect) -> Preprocess | None:
    """As torchvision and timm publish them; other channels than three are nobody's."""
    if arch.in_channels != 3:
        return None
    return _HALF if (dialect, network) == ("timm", "mobilenet_v1") else IMAGENET


def _unfit(path: Path, why: str) -> DataError:
    return DataError(f"{path} holds no weights that can be begun with: {why}")
