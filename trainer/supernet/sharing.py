"""Weights that all members of a search space share: those of its largest member, of which every other one has a part.

A narrower layer has the first channels of the widest, a smaller kernel the middle of the largest, a stage of fewer
blocks the first of them (Cai et al. 2020, sections 3.2 and 3.3; Yu et al. 2020, section 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import DataError, InvalidArchitecture
from trainer.data.dataset import Dataset
from trainer.training.batches import Images
from trainer.training.networks import Weights, channels_last, load_model, shapes_of
from trainer.training.train import measure_batch_norm
from trainer.training.weight_files import weights_digest

Transforms = Mapping[str, Tensor]
"""By the name of a depthwise layer's weight and the two sizes ("stage2_block1.depthwise.conv.weight 7to5"): the matrix
that makes the smaller kernel of the middle of the larger one, float32 (k², k²), row by row."""

STATISTICS_IMAGES = 1024
"""On as many a member's BatchNorm statistics are measured: they are no other member's."""
_KERNELS = (7, 5, 3)
TRANSFORM_SHAPES = {"7to5": (25, 25), "5to3": (9, 9)}


def part_of(
    shared: Weights, shapes: Mapping[str, torch.Size], transforms: Transforms | None = None
) -> dict[str, Tensor]:
    """What a member of such shapes has of the shared weights: views, or made of them where kernels are transformed."""
    return {name: _part(name, shared[name], shape, transforms or {}) for name, shape in shapes.items()}


def _part(name: str, tensor: Tensor, shape: torch.Size, transforms: Transforms) -> Tensor:
    for dimension, size in enumerate(shape[:2]):
        tensor = tensor.narrow(dimension, 0, size)
    for kernel in _KERNELS:
        if len(shape) == 4 and shape[-1] <= kernel < tensor.shape[-1]:
            tensor = _middle(tensor, kernel, transforms.get(f"{name} {kernel + 2}to{kernel}"))
    return tensor


def _middle(kernels: Tensor, side: int, transform: Tensor | None) -> Tensor:
    """The middle of some kernels, C x 1 x K x K to C x 1 x side x side, as a matrix makes it if there is one."""
    start = (kernels.shape[-1] - side) // 2
    middle = kernels.narrow(2, start, side).narrow(3, start, side)
    return middle if transform is None else functional.linear(middle.flatten(1), transform).view(middle.shape)


@dataclass(frozen=True, kw_only=True)
class Supernet:
    """A space whose members share `weights`, the state dict of the space's largest one."""

    space: SearchSpace
    weights: dict[str, Tensor]
    transforms: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected, found = shapes_of(self.space.largest), {name: each.shape for name, each in self.weights.items()}
        if found != expected:
            wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            raise DataError(
                f"the supernet's weights do not fit space '{self.space.preset.name}': {wrong[0]} has shape "
                f"{_shape(found.get(wrong[0]))}, which should be {_shape(expected.get(wrong[0]))}; give the space that "
                "it was trained for"
            )
        kinds = {name: each.dtype for name, each in {**self.weights, **self.transforms}.items()}
        for name, kind in kinds.items():
            if kind != (torch.int64 if name.endswith("num_batches_tracked") else torch.float32):
                raise DataError(f"the supernet's {name} is {kind}; give weights of 32 bits")
        for name, tensor in self.transforms.items():
            weight, _, sizes = name.rpartition(" ")
            if weight not in expected or tensor.shape != TRANSFORM_SHAPES.get(sizes):
                raise DataError(f"the supernet transforms a kernel that it does not have: {name}")

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell its tensors from others."""
        return weights_digest({**self.weights, **self.transforms})

    def weights_of(self, arch: Architecture) -> dict[str, Tensor]:
        """The state dict of a member; BatchNorm's statistics are those of other members.

        Raises:
            InvalidArchitecture: it is no member.
        """
        reason = self.space.why_not(arch)
        if reason is not None:
            raise InvalidArchitecture(f"network {arch.arch_id} is no member of the supernet's space: {reason}")
        return {name: each.clone() for name, each in part_of(self.weights, shapes_of(arch), self.transforms).items()}

    def model_of(self, arch: Architecture, dataset: Dataset, indices: np.ndarray) -> nn.Module:
        """A member in evaluation mode, its BatchNorm's statistics measured on some of the images at `indices`.

        Raises:
            InvalidArchitecture: it is no member.
        """
        model = channels_last(load_model(arch, self.weights_of(arch)))
        # Drawn, since folders are sorted by class.
        some = np.random.default_rng(0).permutation(indices)[:STATISTICS_IMAGES]
        measure_batch_norm(model, Images(dataset), some)
        return model.eval()


def _shape(shape: torch.Size | None) -> str:
    return "no shape" if shape is None else "x".join(map(str, shape)) or "none"
