"""Weights of a narrower network, taken over from the wider one."""

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from space.arch import Architecture, Block, Stage
from space.errors import DataError, InvalidArchitecture
from space.networks.modules import ConvUnit, SqueezeExciteUnit, build_model, folded_weights
from space.reference import mobilenet_v3_small_32px
from tests.strategies import architectures, small_space
from trainer.training.inherit import by_importance, inherit
from trainer.training.networks import load_model, new_model


def made(arch: Architecture, seed: int = 0) -> nn.Sequential:
    """A network in evaluation mode whose BatchNorms are anything but the identity."""
    model = new_model(arch, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def output(model: nn.Module, arch: Architecture) -> Tensor:
    """The logits of four random pictures."""
    shape = (4, arch.in_channels, arch.resolution, arch.resolution)
    with torch.inference_mode():
        result: Tensor = model.eval()(torch.randn(shape, generator=torch.Generator().manual_seed(1)))
    return result


def with_block(arch: Architecture, stage: int, position: int, block: Block) -> Architecture:
    """The network with one block exchanged."""
    blocks = list(arch.stages[stage].blocks)
    blocks[position] = block
    return with_stage(arch, stage, replace(arch.stages[stage], blocks=tuple(blocks)))


def with_stage(arch: Architecture, index: int, stage: Stage) -> Architecture:
    """The network with one stage exchanged."""
    stages = list(arch.stages)
    stages[index] = stage
    return replace(arch, stages=tuple(stages))


def narrowed(wide: Architecture, data: st.DataObject) -> Architecture:
    """The network with some expansions and stage widths reduced."""
    stages = []
    for stage in wide.stages:
        blocks = tuple(
            replace(block, expanded_channels=data.draw(st.integers(1, block.expanded_channels)))
            if block.expanded_channels
            else block
            for block in stage.blocks
        )
        stages.append(replace(stage, out_channels=data.draw(st.integers(1, stage.out_channels)), blocks=blocks))
    return replace(wide, stages=tuple(stages))


@settings(max_examples=20)
@given(architectures(widest=24, largest=16, deepest=2), st.integers(0, 100))
def test_the_same_network_inherits_everything(arch: Architecture, seed: int) -> None:
    """Inheriting to an equal architecture is the identity."""
    weights = made(arch, seed).state_dict()
    found = inherit(arch, weights, arch)
    assert list(found) == list(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in found.items())


@settings(max_examples=40)
@given(architectures(widest=40, largest=16, deepest=3), st.data())
def test_any_narrowing_gets_all_its_tensors(wide: Architecture, data: st.DataObject) -> None:
    """Whatever expansions and stage widths shrink, every tensor has the narrower network's shape, and it runs."""
    narrow = narrowed(wide, data)
    weights = made(wide).state_dict()
    before = {name: tensor.clone() for name, tensor in weights.items()}
    found = inherit(wide, weights, narrow)
    expected = build_model(narrow).state_dict()
    assert {name: (t.shape, t.dtype) for name, t in found.items()} == {
        n: (t.shape, t.dtype) for n, t in expected.items()
    }
    assert output(load_model(narrow, found), narrow).isfinite().all()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before.items()), "the wide weights must stay"


NARROW = mobilenet_v3_small_32px(width=0.25, resolution=8, in_channels=1, num_classes=4)


def silence(unit: ConvUnit, channels: list[int]) -> None:
    """Make the channels of a convolution put out exactly zero."""
    assert unit.bn.running_mean is not None
    with torch.no_grad():
        for tensor in (unit.conv.weight, unit.bn.weight, unit.bn.bias, unit.bn.running_mean):
            tensor[channels] = 0


@pytest.mark.parametrize("use_se", [False, True])
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_removing_dead_expansion_channels_changes_nothing(use_se: bool, seed: int) -> None:
    """Expansion channels that put out zero are the ones removed, so the network's function stays."""
    rng = random.Random(seed)
    block = Block(kernel_size=3, expanded_channels=64, use_se=use_se, activation="hswish")
    wide = with_block(NARROW, 2, 1, block)
    narrow = with_block(wide, 2, 1, replace(block, expanded_channels=32))
    model = made(wide, seed)
    dead = rng.sample(range(64), 32)
    unit = model.get_submodule("stage3_block2")
    for name in ("expand", "depthwise"):
        conv = unit.get_submodule(name)
        assert isinstance(conv, ConvUnit)
        silence(conv, dead)
    if use_se:
        squeeze = unit.get_submodule("se")
        assert isinstance(squeeze, SqueezeExciteUnit)
        with torch.no_grad():  # the inner width shrinks from 16 to 8
            squeeze.squeeze.weight[rng.sample(range(16), 8)] = 0
            squeeze.squeeze.bias.zero_()  # type: ignore[union-attr]
    found = load_model(narrow, inherit(wide, model.state_dict(), narrow))
    torch.testing.assert_close(output(found, narrow), output(model, wide), rtol=1e-4, atol=1e-5)


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_removing_dead_stage_channels_changes_nothing(seed: int) -> None:
    """Stage channels that no block of the stage writes are the ones removed, so the network's function stays."""
    wide = NARROW
    narrow = with_stage(wide, 4, replace(wide.stages[4], out_channels=16))
    model = made(wide, seed)
    dead = random.Random(seed).sample(range(24), 8)
    for position in (1, 2, 3):
        project = model.get_submodule(f"stage5_block{position}.project")
        assert isinstance(project, ConvUnit)
        silence(project, dead)
    found = load_model(narrow, inherit(wide, model.state_dict(), narrow))
    torch.testing.assert_close(output(found, narrow), output(model, wide), rtol=1e-4, atol=1e-5)


def tiny(expanded: int, out: int) -> Architecture:
    """One block behind the stem."""
    arch = small_space().sample(random.Random(0))
    block = Block(kernel_size=3, expanded_channels=expanded, use_se=False, activation="relu")
    return replace(arch, stages=(Stage(out_channels=out, stride=2, blocks=(block,)),))


def test_the_largest_folded_norms_stay() -> None:
    """Of expansion filters scaled 1, 2, 3, 4 with BatchNorm scales 8, 1, 1, 1 the first and last stay, in order."""
    wide, narrow = tiny(4, 8), tiny(2, 8)
    weights = new_model(wide, 0).state_dict()
    name = "stage1_block1.expand"
    weights[f"{name}.conv.weight"] = torch.ones_like(weights[f"{name}.conv.weight"]) * torch.tensor(
        [1.0, 2.0, 3.0, 4.0]
    ).reshape(4, 1, 1, 1)
    weights[f"{name}.bn.weight"] = torch.tensor([8.0, 1.0, 1.0, 1.0])
    found = inherit(wide, weights, narrow)
    assert found[f"{name}.conv.weight"][:, 0, 0, 0].tolist() == [1, 4]
    assert found[f"{name}.bn.weight"].tolist() == [8, 1]
    kept = torch.tensor([0, 3])
    for part in ("conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        assert torch.equal(found[f"stage1_block1.depthwise.{part}"], weights[f"stage1_block1.depthwise.{part}"][kept])
    project = "stage1_block1.project.conv.weight"
    assert torch.equal(found[project], weights[project][:, kept])


def test_running_variance_counts_in_the_norm() -> None:
    """Folding divides by the deviation: of equal filters the ones with the larger running variance go."""
    wide, narrow = tiny(4, 8), tiny(2, 8)
    weights = new_model(wide, 0).state_dict()
    name = "stage1_block1.expand"
    weights[f"{name}.conv.weight"] = torch.ones_like(weights[f"{name}.conv.weight"])
    weights[f"{name}.bn.running_var"] = torch.tensor([4.0, 0.1, 9.0, 0.2])
    assert inherit(wide, weights, narrow)[f"{name}.bn.running_var"].tolist() == pytest.approx([0.1, 0.2])


def test_stage_widths_add_up_the_blocks() -> None:
    """An output channel that one block writes strongly and the other not at all outlives two weak writers."""
    block = Block(kernel_size=3, expanded_channels=8, use_se=False, activation="relu")
    wide = with_stage(tiny(8, 3), 0, Stage(out_channels=3, stride=2, blocks=(block, block)))
    narrow = with_stage(wide, 0, replace(wide.stages[0], out_channels=1))
    weights = new_model(wide, 0).state_dict()
    for position, strengths in ((1, [2.0, 0.0, 3.0]), (2, [2.0, 2.9, 0.0])):
        name = f"stage1_block{position}.project.conv.weight"
        weights[name] = torch.ones_like(weights[name]) * torch.tensor(strengths).reshape(3, 1, 1, 1)
    found = inherit(wide, weights, narrow)  # squared: 8, 8.41 and 9
    assert found["stage1_block1.project.conv.weight"].flatten()[0] == 3
    assert torch.equal(found["head.conv.conv.weight"], weights["head.conv.conv.weight"][:, [2]])
    assert torch.equal(found["stage1_block2.expand.conv.weight"], weights["stage1_block2.expand.conv.weight"][:, [2]])


def test_stem_and_classifier_are_taken_over_whole() -> None:
    """Neither the stem nor the layers behind the head's convolution change when a stage narrows."""
    wide, narrow = tiny(8, 16), tiny(4, 8)
    weights = made(wide).state_dict()
    found = inherit(wide, weights, narrow)
    whole = [name for name in weights if name.startswith(("stem", "head.hidden", "head.classifier", "head.conv.bn"))]
    assert len(whole) > 8
    assert all(torch.equal(found[name], weights[name]) for name in whole)


REFERENCE = mobilenet_v3_small_32px(width=0.25)
STAGE = REFERENCE.stages[1]
BLOCK = STAGE.blocks[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda arch: with_stage(arch, 1, replace(STAGE, out_channels=STAGE.out_channels + 8)),
        lambda arch: with_block(arch, 1, 0, replace(BLOCK, expanded_channels=80)),
        lambda arch: with_block(arch, 1, 0, replace(BLOCK, expanded_channels=None)),
        lambda arch: with_block(arch, 0, 0, replace(arch.stages[0].blocks[0], expanded_channels=8)),
        lambda arch: with_block(arch, 1, 0, replace(BLOCK, kernel_size=5)),
        lambda arch: with_block(arch, 1, 0, replace(BLOCK, use_se=not BLOCK.use_se)),
        lambda arch: with_block(arch, 1, 0, replace(BLOCK, activation="hswish")),
        lambda arch: with_stage(arch, 1, replace(STAGE, stride=1)),
        lambda arch: with_stage(arch, 1, replace(STAGE, blocks=STAGE.blocks[:1])),
        lambda arch: replace(arch, stages=arch.stages[:-1]),
        lambda arch: replace(arch, stem=replace(arch.stem, activation="relu")),
        lambda arch: replace(arch, head=replace(arch.head, hidden_channels=8)),
        lambda arch: replace(arch, num_classes=5),
        lambda arch: replace(arch, in_channels=1),
    ],
)
def test_other_networks_cannot_inherit(change: Callable[[Architecture], Architecture]) -> None:
    """Widening, and any change but a width, is refused with both ids."""
    weights = new_model(REFERENCE, 0).state_dict()
    other = change(REFERENCE)
    with pytest.raises(InvalidArchitecture, match=f"{other.arch_id} cannot inherit weights from {REFERENCE.arch_id}"):
        inherit(REFERENCE, weights, other)


def test_another_resolution_cannot_inherit() -> None:
    """Only widths may differ, so a network for larger images is refused."""
    with pytest.raises(InvalidArchitecture):
        inherit(REFERENCE, new_model(REFERENCE, 0).state_dict(), replace(REFERENCE, resolution=64))


def test_weights_of_another_network_are_refused() -> None:
    """Weights that are not the wider network's are a DataError, as everywhere."""
    narrow = with_block(REFERENCE, 1, 0, replace(BLOCK, expanded_channels=8))
    with pytest.raises(DataError, match="do not fit"):
        inherit(REFERENCE, new_model(narrow, 0).state_dict(), narrow)


@settings(max_examples=25, deadline=None)
@given(architectures(widest=24, largest=32), st.integers(0, 5))
def test_channels_in_the_order_of_their_importance_compute_the_same(arch: Architecture, seed: int) -> None:
    """Whatever the network: kinds of blocks, squeeze-and-excite, residual connections within and between stages."""
    model = made(arch, seed)
    ordered = load_model(arch, by_importance(arch, model.state_dict()))
    expected = output(model, arch)
    torch.testing.assert_close(output(ordered, arch), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_the_most_important_channels_come_first() -> None:
    """An expansion's filters are in descending order of their norms, BatchNorm folded into them."""
    arch = small_space().largest
    folded = folded_weights(load_model(arch, by_importance(arch, made(arch, 1).state_dict())))
    for name in ("stage1_block1.expand.weight", "stage2_block2.expand.weight"):
        norms = (folded[name].reshape(len(folded[name]), -1) ** 2).sum(1)
        assert (np.diff(norms) <= 1e-9).all()
