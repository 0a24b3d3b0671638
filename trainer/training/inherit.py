"""Weights for a narrower network, taken over from the network that it was narrowed from.

NetAdapt (Yang et al. 2018, section 3.4) keeps the filters of largest l2 norm. Norms are taken after folding
BatchNorm into the filters, since a filter's scale alone says nothing; a width that several blocks share (a stage's
output, or that of stages joined by a residual connection) adds up the squared norms of all filters that write it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from space.arch import Architecture
from space.errors import InvalidArchitecture
from space.keys import StageBlockKey, named_keys
from space.networks.modules import build_model, folded_weights
from trainer.training.networks import Weights, load_model


@dataclass(frozen=True, slots=True)
class _Kept:
    """Which channels of one unit stay: indices into the wider network's input, inner and output channels."""

    inputs: Tensor
    inner: Tensor
    squeezed: Tensor
    outputs: Tensor


def _norms(filters: Iterable[np.ndarray]) -> np.ndarray:
    """Summed squared norms per output channel."""
    total: np.ndarray = sum(
        ((array.reshape(len(array), -1).astype(np.float64) ** 2).sum(1) for array in filters), start=np.zeros(1)
    )
    return total


def _largest(norms: np.ndarray, count: int) -> Tensor:
    """The indices of the `count` largest values, in ascending order; ties go to the lower index."""
    order = np.argsort(-norms, kind="stable")[:count]
    return torch.from_numpy(np.sort(order))


def _descending(norms: np.ndarray, count: int) -> Tensor:
    """The indices of the `count` largest values, the largest first; ties go to the lower index."""
    return torch.from_numpy(np.argsort(-norms, kind="stable")[:count])


def _check_related(wide: Architecture, narrow: Architecture) -> None:
    """Only widths may differ, and none may grow."""

    def widths(arch: Architecture) -> list[int]:
        inner = [block.expanded_channels or 0 for stage in arch.stages for block in stage.blocks]
        return [*inner, *(stage.out_channels for stage in arch.stages)]

    def form(arch: Architecture) -> list[object]:
        blocks = [
            replace(block, expanded_channels=None if block.expanded_channels is None else 1)
            for stage in arch.stages
            for block in stage.blocks
        ]
        strides = [(stage.stride, len(stage.blocks)) for stage in arch.stages]
        sizes = [arch.in_channels, arch.num_classes, arch.resolution, arch.batch_norm_epsilon]
        return [*blocks, *strides, arch.stem, arch.head, *sizes]

    if form(wide) != form(narrow) or any(b > a for a, b in zip(widths(wide), widths(narrow), strict=True)):
        raise InvalidArchitecture(
            f"{narrow.arch_id} cannot inherit weights from {wide.arch_id}: it must be the same network, narrowed"
        )


def _block_names(arch: Architecture, index: int) -> list[str]:
    return [f"stage{index + 1}_block{position}" for position in range(1, len(arch.stages[index].blocks) + 1)]


def _width_norms(arch: Architecture, folded: dict[str, np.ndarray]) -> dict[int, np.ndarray]:
    """Per stage the norms of its output channels, over everything that residual connections add into them."""
    norms: dict[int, np.ndarray] = {}
    for group in arch.residual_groups:
        names = [name for index in group for name in _block_names(arch, index)]
        writers = ("project", "conv")  # the layer that writes a block's output, by kind of block
        shared = _norms(
            folded[weight] for name in names for layer in writers if (weight := f"{name}.{layer}.weight") in folded
        )
        norms |= dict.fromkeys(group, shared)
    return norms


def inherit(wide: Architecture, weights: Weights, narrow: Architecture) -> dict[str, Tensor]:
    """A state dict for `narrow` from the state dict of `wide`.

    Raises:
        InvalidArchitecture: `narrow` is not `wide` with some expansions or stage widths reduced.
    """
    _check_related(wide, narrow)
    inherited = _taken(wide, weights, narrow, _largest)
    assert {name: tensor.shape for name, tensor in inherited.items()} == {
        name: tensor.shape for name, tensor in build_model(narrow).state_dict().items()
    }
    return inherited


def by_importance(arch: Architecture, weights: Weights) -> dict[str, Tensor]:
    """The same network with the channels of every layer in descending order of their norms: what it computes stays."""
    return _taken(arch, weights, arch, _descending)


def _taken(
    wide: Architecture, weights: Weights, narrow: Architecture, choose: Callable[[np.ndarray, int], Tensor]
) -> dict[str, Tensor]:
    """The channels that `choose` takes of each width by their norms, so many as `narrow` has."""
    folded = folded_weights(load_model(wide, weights))
    narrow_keys, wide_keys = named_keys(narrow), named_keys(wide)
    kept: dict[str, _Kept] = {}
    channels = torch.arange(wide.stem.out_channels)
    nothing = torch.arange(0)
    norms = _width_norms(wide, folded)
    for index, new in enumerate(narrow.stages):
        outputs = choose(norms[index], new.out_channels)
        first = wide_keys[f"stage{index + 1}_block1"]
        if index == 0 and isinstance(first, StageBlockKey) and first.has_residual and len(outputs) == len(channels):
            outputs = channels  # what the stem puts out is added to them as it is
        for name in _block_names(wide, index):
            block, was = narrow_keys[name], wide_keys[name]
            assert isinstance(block, StageBlockKey)
            assert isinstance(was, StageBlockKey)
            inner = channels
            if block.block.expanded_channels is not None:
                inner = choose(_norms([folded[f"{name}.expand.weight"]]), block.depthwise_channels)
            squeezed = nothing
            if block.block.use_se:
                squeezed = choose(_norms([folded[f"{name}.se.squeeze.weight"]]), block.squeeze_channels)
            kept[name] = _Kept(channels, inner, squeezed, outputs)
            channels = outputs
    reader = "conv" if wide.head.conv_channels else "hidden" if wide.head.hidden_channels else "classifier"
    return {name: _slice(name, tensor, kept, reader, channels) for name, tensor in weights.items()}


def _slice(name: str, tensor: Tensor, kept: dict[str, _Kept], reader: str, last: Tensor) -> Tensor:
    """The part of one parameter or buffer that stays; `reader` is the head's layer that reads the `last` channels."""
    unit, layer, *rest = name.split(".")
    if tensor.ndim == 0 or unit == "stem" or (unit == "head" and layer != reader):
        return tensor.clone()
    if unit == "head":
        return tensor[:, last].clone() if tensor.ndim > 1 else tensor.clone()
    keep = kept[unit]
    rows, columns = {
        "expand": (keep.inner, keep.inputs),
        "depthwise": (keep.inner, None),
        "project": (keep.outputs, keep.inner),
        "conv": (keep.outputs, keep.inputs),
        "squeeze": (keep.squeezed, keep.inner),
        "excite": (keep.inner, keep.squeezed),
    }[rest[0] if layer == "se" else layer]
    part = tensor[rows]
    return part[:, columns].clone() if tensor.ndim == 4 and columns is not None else part.clone()
