"""Weights of a network taken over by one that is related to it."""

import random
from dataclasses import replace
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from space.arch import Architecture, Block, Head, Stage
from space.choices import SearchSpace
from space.errors import InvalidArchitecture
from space.preset import load_preset, preset_names
from space.variation.scaling import scaled_references
from tests.strategies import architectures
from tests.trainer.training.test_inherit import NARROW, made, narrowed, output, with_block, with_stage
from trainer.training.inherit import adapted, inherit, with_epsilon
from trainer.training.networks import Weights, load_model

KERNELS: tuple[Literal[3, 5, 7], ...] = (3, 5, 7)


def close(target: Architecture, weights: Weights, source: Architecture, of_source: Weights) -> None:
    """Both networks give the same logits."""
    found, expected = output(load_model(target, weights), target), output(load_model(source, of_source), source)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(architectures(widest=40, largest=16, deepest=3), st.data())
def test_what_is_only_narrower_inherits(wide: Architecture, data: st.DataObject) -> None:
    """Where NetAdapt's rules apply they are the same ones."""
    narrow = narrowed(wide, data)
    weights = made(wide).state_dict()
    found = adapted(wide, weights, narrow, seed=3)
    assert all(torch.equal(tensor, found[name]) for name, tensor in inherit(wide, weights, narrow).items())


def grown(arch: Architecture, rng: random.Random) -> Architecture:
    """The network with more of everything: channels, kernels, blocks at the end of stages, and a wider head."""

    def larger(block: Block) -> Block:
        return replace(
            block,
            kernel_size=rng.choice(KERNELS[KERNELS.index(block.kernel_size) :]),
            expanded_channels=block.expanded_channels and 2 * block.expanded_channels + rng.randint(0, 3),
            squeeze_channels=block.squeeze_channels and block.squeeze_channels + rng.randint(0, 3),
        )

    def more(width: int | None) -> int | None:
        return width and 2 * width + 1

    more_blocks = [Block(kernel_size=5, expanded_channels=9, use_se=rng.random() < 0.5, activation="relu")]
    stages = tuple(
        Stage(
            out_channels=2 * stage.out_channels,
            stride=stage.stride,
            blocks=(*map(larger, stage.blocks), *more_blocks * rng.randint(0, 2)),
        )
        for stage in arch.stages
    )
    return replace(
        arch,
        stem=replace(arch.stem, out_channels=2 * arch.stem.out_channels),
        stages=stages,
        head=replace(
            arch.head,
            conv_channels=more(arch.head.conv_channels),
            hidden_channels=more(arch.head.hidden_channels),
        ),
    )


@settings(max_examples=60, deadline=None)
@given(architectures(widest=24, largest=16, deepest=2), st.integers(0, 1000))
def test_a_network_with_more_of_everything_computes_the_same(arch: Architecture, seed: int) -> None:
    """What is new has no effect before it is trained."""
    weights = made(arch, seed).state_dict()
    larger = grown(arch, random.Random(seed))
    close(larger, adapted(arch, weights, larger, seed), arch, weights)


def test_what_is_new_is_drawn_by_the_seed() -> None:
    """The same seed gives the same weights, another one others."""
    weights, larger = made(NARROW).state_dict(), grown(NARROW, random.Random(0))
    one, again, other = (adapted(NARROW, weights, larger, seed) for seed in (0, 0, 1))
    assert all(torch.equal(tensor, again[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_gate_that_is_new_is_open() -> None:
    """It lets five sixths of everything through, as the hard sigmoid of 2 says, which the projection makes up for."""
    block = Block(kernel_size=3, expanded_channels=24, use_se=False, activation="relu")
    source = with_block(NARROW, 2, 1, block)
    target = with_block(source, 2, 1, replace(block, use_se=True))
    weights = made(source).state_dict()
    found = adapted(source, weights, target, seed=0)
    found["stage3_block2.project.conv.weight"] *= 6 / 5
    close(target, found, source, weights)


def test_an_expansion_that_is_new_passes_its_input_on() -> None:
    """Behind channels that are not negative, which ReLU leaves alone, nothing changes."""
    block = Block(kernel_size=3, expanded_channels=None, use_se=False, activation="relu")
    source = replace(with_block(NARROW, 0, 0, block), stem=replace(NARROW.stem, activation="relu"))
    target = with_block(source, 0, 0, replace(block, expanded_channels=24))
    weights = made(source).state_dict()
    found = adapted(source, weights, target, seed=0)
    found["stage1_block1.expand.bn.running_var"] -= source.batch_norm_epsilon  # of a variance of 1
    close(target, found, source, weights)


def test_a_shorter_stage_has_the_first_blocks() -> None:
    """The last ones are left out, whose residual sums were of nothing."""
    weights = made(NARROW).state_dict()
    shorter = with_stage(NARROW, 2, replace(NARROW.stages[2], blocks=NARROW.stages[2].blocks[:1]))
    for position in range(2, len(NARROW.stages[2].blocks) + 1):
        for part in ("weight", "bias"):
            weights[f"stage3_block{position}.project.bn.{part}"].zero_()
        weights[f"stage3_block{position}.project.bn.running_mean"].zero_()
    close(shorter, adapted(NARROW, weights, shorter, seed=0), NARROW, weights)


def test_a_smaller_kernel_is_the_centre_of_the_larger_one() -> None:
    """Of 5 x 5 the 3 x 3 in the middle."""
    block = replace(NARROW.stages[2].blocks[1], kernel_size=5)
    source = with_block(NARROW, 2, 1, block)
    weights = made(source).state_dict()
    target = with_block(source, 2, 1, replace(block, kernel_size=3))
    name = "stage3_block2.depthwise.conv.weight"
    assert torch.equal(adapted(source, weights, target, seed=0)[name], weights[name][:, :, 1:4, 1:4])


def test_a_narrower_stem_and_the_stage_that_adds_to_it_keep_the_same_channels() -> None:
    """A residual sum is one of channels that belong together: dead ones in both are those that go."""
    block = Block(kernel_size=3, expanded_channels=24, use_se=False, activation="relu")
    source = with_stage(NARROW, 0, Stage(out_channels=16, stride=1, blocks=(block,)))
    source = replace(source, stem=replace(source.stem, out_channels=16))
    weights, dead = made(source).state_dict(), [1, 4, 5, 11]
    for unit in ("stem.conv", "stage1_block1.project"):
        for part in ("bn.weight", "bn.bias", "bn.running_mean"):
            weights[f"{unit}.{part}"][dead] = 0
    target = with_stage(source, 0, replace(source.stages[0], out_channels=12))
    target = replace(target, stem=replace(source.stem, out_channels=12))
    close(target, adapted(source, weights, target, seed=0), source, weights)


@pytest.mark.parametrize("name", preset_names())
def test_members_and_narrower_references_begin_with_those_of_the_reference(name: str) -> None:
    """Whatever a search may train has weights that give finite logits, and most of them are the reference's."""
    space = SearchSpace(preset=load_preset(name), width=0.25, resolution=32, in_channels=3, num_classes=5)
    reference, rng = space.reference, random.Random(0)
    reference = replace(reference, batch_norm_epsilon=1e-5)
    weights = made(reference).state_dict()
    scaled = list(scaled_references(space).values())
    for arch in (space.reference, space.smallest, space.largest, scaled[-1], *(space.sample(rng) for _ in range(3))):
        found = load_model(arch, adapted(reference, weights, arch, seed=0))
        assert output(found, arch).isfinite().all()
    close(space.reference, adapted(reference, weights, space.reference, seed=0), reference, weights)


@pytest.mark.parametrize("least", [0.5, 1e-6])
def test_another_epsilon_is_made_up_for(least: float) -> None:
    """The logits stay, also where a variance is smaller than the difference."""
    source = replace(NARROW, batch_norm_epsilon=1e-5)
    weights = made(source).state_dict()
    weights["stage2_block1.expand.bn.running_var"][:3] = least
    other = replace(source, batch_norm_epsilon=1e-3)
    close(other, with_epsilon(weights, 1e-5, 1e-3), source, weights)


@pytest.mark.parametrize(
    "other",
    [
        replace(NARROW, stages=NARROW.stages[:-1]),
        replace(NARROW, num_classes=NARROW.num_classes + 1),
        replace(NARROW, head=Head(conv_channels=16, hidden_channels=None, activation="relu")),
    ],
)
def test_networks_of_another_form_have_nothing_to_take_over(other: Architecture) -> None:
    """Other stages, classes or layers of the head are refused."""
    with pytest.raises(InvalidArchitecture, match=r"cannot begin with weights of .* as many stages"):
        adapted(NARROW, made(NARROW).state_dict(), other, seed=0)
