"""Weights for a network, taken over from another one: narrowed from it, or related to it.

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
from trainer.training.networks import Weights, load_model, new_model

# The gate of a squeeze-and-excite layer that its network did not have before: open, and not yet at the flat end of the
# hard sigmoid, beyond 3, from where nothing is learnt.
_OPEN = 2.0
_NEW = -1


@dataclass(frozen=True, slots=True)
class _Part:
    """Which channels of a layer's, of the network that it is taken from, it writes and reads; `_NEW`: none of them.

    `reads` is None where each channel reads itself alone, as in a depthwise convolution.
    """

    writes: Tensor
    reads: Tensor | None


Choose = Callable[[np.ndarray, int], Tensor]
"""From norms per channel, and how many are wanted, the indices of those."""


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


def _padded(channels: Tensor, count: int) -> Tensor:
    """The first `count` of them, and new ones where there are no more."""
    new = torch.full((max(0, count - len(channels)),), _NEW)
    return torch.cat([channels[:count], new])


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
    return channel_order(arch, weights)(weights)


def channel_order(arch: Architecture, weights: Weights) -> Callable[[Weights], dict[str, Tensor]]:
    """What brings tensors of a network's shapes, by name, into the order that its own weights have by importance."""
    parts = _parts(arch, weights, arch, _descending)
    return lambda tensors: {name: _sliced(tensor, parts[_layer_of(name)]) for name, tensor in tensors.items()}


def _taken(wide: Architecture, weights: Weights, narrow: Architecture, choose: Choose) -> dict[str, Tensor]:
    """The channels that `choose` takes of each width by their norms, so many as `narrow` has; none of them is new."""
    parts = _parts(wide, weights, narrow, choose)
    return {name: _sliced(tensor, parts[_layer_of(name)]) for name, tensor in weights.items()}


def _sliced(tensor: Tensor, part: _Part) -> Tensor:
    if tensor.ndim == 0:
        return tensor.clone()
    written = tensor[part.writes]
    return written.clone() if tensor.ndim == 1 or part.reads is None else written[:, part.reads].clone()


def adapted(source: Architecture, weights: Weights, target: Architecture, seed: int) -> dict[str, Tensor]:
    """A state dict for `target` from that of a network of the same form, such as one that others have trained.

    Where it is narrower it has the channels of largest norm, where kernels are smaller their centres, where stages are
    shorter their first blocks. What is new is drawn by `seed`, and as far as it can be without effect: channels that
    nobody reads, margins of kernels that are zero, blocks whose residual sum is that of nothing, gates that are open. A
    network that has more of everything computes what `source` does, until it is trained.

    Raises:
        InvalidArchitecture: the networks have different numbers of stages, heads, channels or classes.
    """
    check_comparable(source, target)
    weights = with_epsilon(weights, source.batch_norm_epsilon, target.batch_norm_epsilon)
    source = replace(source, batch_norm_epsilon=target.batch_norm_epsilon)
    parts = _parts(source, weights, target, _largest)
    made = {name: tensor.clone() for name, tensor in new_model(target, seed).state_dict().items()}
    for name, tensor in made.items():
        part, of_source = parts.get(_layer_of(name)), weights.get(name)
        if part is not None and of_source is not None:
            _place(tensor, of_source, part)
        elif part is not None:
            tensor.zero_()  # the bias of a layer that had none
    for name, key in named_keys(target).items():
        if isinstance(key, StageBlockKey):
            _without_effect(name, key, parts, made)
    return made


def check_comparable(source: Architecture, target: Architecture) -> None:
    """See that one network can begin with weights of another, as `adapted` makes them.

    Raises:
        InvalidArchitecture: it cannot.
    """

    def form(arch: Architecture) -> list[object]:
        head = (arch.head.conv_channels is None, arch.head.hidden_channels is None)
        return [len(arch.stages), head, arch.in_channels, arch.num_classes]

    if form(source) != form(target):
        raise InvalidArchitecture(
            f"{target.arch_id} cannot begin with weights of {source.arch_id}: both must have as many stages, the same "
            "layers in the head, and be for the same channels and classes"
        )


def _place(tensor: Tensor, of_source: Tensor, part: _Part) -> None:
    """Write into a new layer's tensor what it has in common with the source's; it reads nothing of new channels."""
    if tensor.ndim == 0:
        tensor.copy_(of_source)
        return
    rows = (part.writes != _NEW).nonzero().flatten()
    found = of_source[part.writes[rows]]
    if tensor.ndim == 4:
        found = _resized(found, tensor.shape[-1])
    if tensor.ndim == 1 or part.reads is None:
        tensor[rows] = found
        return
    tensor[:, part.reads == _NEW] = 0.0
    columns = (part.reads != _NEW).nonzero().flatten()
    tensor[rows[:, None], columns] = found[:, part.reads[columns]]


def _resized(filters: Tensor, side: int) -> Tensor:
    """The centres of filters, or filters in a margin of zeros; sides are odd."""
    margin = (side - filters.shape[-1]) // 2
    return torch.nn.functional.pad(filters, (margin,) * 4)  # a negative margin crops


def _without_effect(name: str, key: StageBlockKey, parts: dict[str, _Part], made: dict[str, Tensor]) -> None:
    """Give layers that are new in a block the weights by which they change least."""
    if f"{name}.depthwise" not in parts and f"{name}.conv" not in parts:  # the whole block is
        if key.has_residual:
            last = "conv" if key.block.kind == "conv" else "project"
            made[f"{name}.{last}.bn.weight"].zero_()
        return
    if key.block.use_se and f"{name}.se.excite" not in parts:
        made[f"{name}.se.excite.weight"].zero_()
        made[f"{name}.se.excite.bias"].fill_(_OPEN)
    if key.block.expanded_channels is not None and f"{name}.expand" not in parts:
        expand = made[f"{name}.expand.conv.weight"]
        passed = min(expand.shape[:2])
        expand[:passed] = torch.eye(passed, expand.shape[1])[:, :, None, None]


def with_epsilon(weights: Weights, of: float, to: float) -> Weights:
    """The same for BatchNorms of another epsilon: their variances make up for it, or where they are too small, factors.

    gamma / sqrt(var + eps) stays what it was.
    """
    if of == to:
        return weights
    changed = dict(weights)
    for name, variance in weights.items():
        if not name.endswith(".running_var"):
            continue
        factor = f"{name.removesuffix('running_var')}weight"
        wanted = variance.double() + (of - to)
        least = wanted.clamp(min=0.0)
        changed[name] = least.float()
        scale = torch.sqrt((least + to) / (wanted + to))
        changed[factor] = (weights[factor].double() * scale).float()
    return changed


def _layer_of(name: str) -> str:
    """The layer of a parameter or buffer: "stage1_block2.se.squeeze" and the like."""
    layer, _, _ = name.rpartition(".")
    return layer if ".se." in layer else layer.rpartition(".")[0]


def _parts(source: Architecture, weights: Weights, target: Architecture, choose: Choose) -> dict[str, _Part]:
    """Per layer of `target` that `source` has, too, what it takes of that."""
    folded = folded_weights(load_model(source, weights))

    def best(layer: str, count: int, *, reordered: bool = True) -> Tensor:
        norms = _norms([folded[f"{layer}.weight"]])
        whole = count >= len(norms) and not reordered
        return _padded(torch.arange(len(norms)) if whole else choose(norms, count), count)

    mine, theirs = named_keys(target), named_keys(source)
    norms = _width_norms(source, folded)
    widths = [
        _padded(choose(norms[index], each.out_channels), each.out_channels) for index, each in enumerate(target.stages)
    ]
    first = theirs["stage1_block1"]
    is_joined = isinstance(first, StageBlockKey) and first.has_residual
    narrows = target.stem.out_channels < source.stem.out_channels
    if is_joined and narrows and target.stem.out_channels == len(widths[0]):
        channels = widths[0]
    else:
        channels = best("stem.conv", target.stem.out_channels, reordered=False)
    if is_joined and len(widths[0]) == len(channels):
        widths[0] = channels  # what the stem puts out is added to them as it is
    parts = {"stem.conv": _Part(channels, torch.arange(source.in_channels))}
    for index, outputs in enumerate(widths):
        for name in _block_names(target, index):
            block, was = mine[name], theirs.get(name)
            assert isinstance(block, StageBlockKey)
            if isinstance(was, StageBlockKey) and _can_take(block, was):
                parts |= _parts_of_block(name, block, was, channels, outputs, best)
            channels = outputs
    for layer, count in (("conv", target.head.conv_channels), ("hidden", target.head.hidden_channels)):
        if count is not None:
            written = best(f"head.{layer}", count, reordered=False)
            parts[f"head.{layer}"] = _Part(written, channels)
            channels = written
    return parts | {"head.classifier": _Part(torch.arange(target.num_classes), channels)}


def _can_take(block: StageBlockKey, was: StageBlockKey) -> bool:
    """Whether a block's channels are any of the other one's: without an expansion they are those that it reads."""
    loses = was.block.expanded_channels is not None and block.block.expanded_channels is None
    return block.block.kind == was.block.kind and not loses


def _parts_of_block(
    name: str, block: StageBlockKey, was: StageBlockKey, channels: Tensor, outputs: Tensor, best: Callable[..., Tensor]
) -> dict[str, _Part]:
    if block.block.kind == "conv":
        return {f"{name}.conv": _Part(outputs, channels)}
    parts, inner = {}, channels
    if was.block.expanded_channels is not None:
        inner = best(f"{name}.expand", block.depthwise_channels)
        parts[f"{name}.expand"] = _Part(inner, channels)
    elif block.block.expanded_channels is not None:  # its first channels are passed on as they are
        inner = _padded(channels, block.depthwise_channels)
    parts[f"{name}.depthwise"] = _Part(inner, None)
    if block.block.use_se and was.block.use_se:
        squeezed = best(f"{name}.se.squeeze", block.squeeze_channels)
        parts |= {f"{name}.se.squeeze": _Part(squeezed, inner), f"{name}.se.excite": _Part(inner, squeezed)}
    parts[f"{name}.project"] = _Part(outputs, inner)
    return parts
