"""Shared weights: what a member has of them."""

import random
from dataclasses import replace

import pytest
import torch

from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import DataError, InvalidArchitecture
from space.networks.modules import build_model
from tests.space.networks.test_onnx_graph import made
from tests.space.test_presets import shipped
from tests.strategies import small_space
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.supernet.sharing import Supernet, part_of
from trainer.training.batches import Images
from trainer.training.networks import load_model, shapes_of
from trainer.training.train import measure_batch_norm

SPACE = small_space()


def supernet(space: SearchSpace = SPACE) -> Supernet:
    """One with random weights."""
    return Supernet(space=space, weights=made(space.largest).state_dict())


def member(space: SearchSpace, **params: float | str | bool) -> Architecture:
    """The largest member with other choices."""
    largest = {name: max(choices) for name, choices in space.parameters.items()}
    return space.architecture({**largest, **params})


@pytest.mark.parametrize(
    "space",
    [SPACE, *(shipped(name, resolution=64) for name in ("mobilenet-v3-small", "mnasnet", "ofa-mbv3"))],
    ids=lambda space: space.preset.name,
)
def test_every_member_has_its_part(space: SearchSpace) -> None:
    """Of everything that its own network has, and in the same shape; the largest has it all."""
    shared = supernet(space)
    networks = [space.smallest, space.largest, *(space.sample(random.Random(seed)) for seed in range(10))]
    for arch in networks:
        build_model(arch).load_state_dict(shared.weights_of(arch))
    whole = shared.weights_of(space.largest)
    assert all(torch.equal(whole[name], tensor) for name, tensor in shared.weights.items())


def test_a_part_is_the_first_channels_and_the_middle_of_kernels() -> None:
    """A narrower expansion has its first channels, a kernel of 3 the middle of one of 5, a stage its first blocks."""
    shared = supernet().weights
    arch = member(SPACE, **{"stage1.channels": 8, "stage1.kernel": 3, "stage1.depth": 2, "stage2.depth": 1})
    part = part_of(shared, shapes_of(arch))
    assert torch.equal(part["stage1_block2.expand.conv.weight"], shared["stage1_block2.expand.conv.weight"][:24, :8])
    kernels = "stage1_block2.depthwise.conv.weight"
    assert torch.equal(part[kernels], shared[kernels][:24, :, 1:4, 1:4])
    assert torch.equal(part["stage1_block2.project.bn.running_var"], shared["stage1_block2.project.bn.running_var"][:8])
    assert torch.equal(part["stage1_block2.se.squeeze.bias"], shared["stage1_block2.se.squeeze.bias"][:8])
    assert torch.equal(part["stage2_block1.expand.conv.weight"], shared["stage2_block1.expand.conv.weight"][:16, :8])
    assert not any(name.startswith("stage2_block2") for name in part)
    assert torch.equal(part["head.classifier.linear.weight"], shared["head.classifier.linear.weight"])


def test_parts_are_views_and_weights_are_copies() -> None:
    """Gradients reach the shared weights through a part; the weights of a member that is taken away are its own."""
    shared = supernet()
    arch = SPACE.smallest
    leaf = shared.weights["stage1_block1.depthwise.conv.weight"].requires_grad_()
    part_of(shared.weights, shapes_of(arch))["stage1_block1.depthwise.conv.weight"].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert leaf.grad.sum() == 8 * 9
    assert leaf.grad[:8, :, 1:4, 1:4].sum() == 8 * 9
    taken = shared.weights_of(arch)["stem.conv.conv.weight"]
    taken.zero_()
    assert shared.weights["stem.conv.conv.weight"].abs().sum() > 0


def test_a_members_statistics_are_its_own(stripes: Dataset, splits: Splits) -> None:
    """BatchNorm's statistics of a member are measured on images, as those of a network with the same weights are."""
    space = replace(SPACE, in_channels=3, num_classes=3)
    shared = supernet(space)
    arch, indices = space.sample(random.Random(1)), splits.train[:32]
    found = shared.model_of(arch, stripes, indices)
    alone = load_model(arch, shared.weights_of(arch))
    measure_batch_norm(alone, Images(stripes), indices)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], tensor)
    assert not found.training


def test_other_weights_and_other_networks_are_refused() -> None:
    """Weights of another space are no supernet's, and a network of another space has no part of one."""
    with pytest.raises(DataError, match=r"do not fit space 'small': .* give the space that it was trained for"):
        Supernet(space=SPACE, weights=made(SPACE.smallest).state_dict())
    weights = supernet().weights
    del weights["stem.conv.bn.bias"]
    with pytest.raises(DataError, match=r"stem\.conv\.bn\.bias has shape no shape, which should be 8"):
        Supernet(space=SPACE, weights=weights)
    halves = {name: each.half() if each.is_floating_point() else each for name, each in supernet().weights.items()}
    with pytest.raises(DataError, match=r"is torch\.float16; give weights of 32 bits"):
        Supernet(space=SPACE, weights=halves)
    other = replace(SPACE.largest, resolution=32)
    with pytest.raises(InvalidArchitecture, match="is no member of the supernet's space: resolution is 32"):
        supernet().weights_of(other)
