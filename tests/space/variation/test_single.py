"""Mutation, crossover and the nearest member."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidArchitecture
from space.reference import REFERENCES
from space.variation import crossover, distance, mutate, nearest
from tests.space.test_presets import shipped
from tests.strategies import architectures, free_space, members, small_space

SPACES = pytest.mark.parametrize(
    "space", [small_space(), free_space(), shipped("ofa-mbv3")], ids=["alike", "free", "ofa"]
)


def differences(space: SearchSpace, one: Architecture, other: Architecture) -> list[str]:
    """The parameters in which two members differ."""
    first, second = space.params_of(one), space.params_of(other)
    assert first is not None
    assert second is not None
    return [name for name in first if first[name] != second[name]]


@SPACES
def test_mutations_are_other_members(space: SearchSpace) -> None:
    """A mutation is another member, and equal seeds mutate alike."""
    for seed in range(100):
        arch = space.sample(random.Random(seed))
        child = mutate(space, arch, random.Random(seed))
        assert child in space
        assert child != arch
        assert child == mutate(space, arch, random.Random(seed))


@SPACES
def test_mutations_reach_every_choice(space: SearchSpace) -> None:
    """From one member, mutation by mutation, every choice of every parameter comes up."""
    rng = random.Random(0)
    arch = space.sample(rng)
    seen: set[tuple[str, object]] = set()
    for _ in range(2000):
        arch = mutate(space, arch, rng)
        params = space.params_of(arch)
        assert params is not None
        seen |= set(params.items())
    every = {(name, choice) for name, choices in space.parameters.items() for choice in choices}
    # Of two expansions that round to one width only the first names it.
    assert {name for name, choice in every - seen if choice != 3.2} == set()


def test_a_rate_of_zero_changes_one_parameter() -> None:
    """At least one parameter changes; at rate 0 exactly one, at rate 1 all of them."""
    space = small_space()
    for seed in range(50):
        arch = space.sample(random.Random(seed))
        assert len(differences(space, arch, mutate(space, arch, random.Random(seed), rate=0))) == 1
        varied = [name for name, choices in space.parameters.items() if len(choices) > 1]
        assert differences(space, arch, mutate(space, arch, random.Random(seed), rate=1)) == varied


def test_the_only_member_stays() -> None:
    """In a space of one there is nothing to change to."""
    space = small_space()
    fixed = tuple(
        replace(
            stage,
            **{
                name: getattr(stage, name)[:1] for name in ("depth", "width", "kernel", "expansion", "se", "activation")
            },
        )
        for stage in space.preset.stages
    )
    space = replace(space, preset=replace(space.preset, stages=fixed))
    (only,) = members(space)
    assert space.size == 1
    assert mutate(space, only, random.Random(0)) == only


@SPACES
def test_crossovers_take_from_both(space: SearchSpace) -> None:
    """A child is a member; where its parents agree it agrees with them, and a network crossed with itself stays."""
    for seed in range(100):
        rng = random.Random(seed)
        one, other = space.sample(rng), space.sample(rng)
        child = crossover(space, one, other, rng)
        assert child in space
        for stage, a, b in zip(child.stages, one.stages, other.stages, strict=True):
            assert len(stage.blocks) in {len(a.blocks), len(b.blocks)}
            assert stage.out_channels in {a.out_channels, b.out_channels}
            pairs = zip(stage.blocks, a.blocks, b.blocks, strict=False)
            assert all(block.kernel_size in {x.kernel_size, y.kernel_size} for block, x, y in pairs)
        assert crossover(space, one, one, rng) == one


@settings(max_examples=40, deadline=None)
@given(architectures(widest=64, largest=32), st.sampled_from([small_space(), free_space()]))
def test_nearest_is_the_nearest_of_all(arch: Architecture, space: SearchSpace) -> None:
    """On small spaces no member is closer than the one found (brute force)."""
    if len(arch.stages) != 2:
        with pytest.raises(InvalidArchitecture, match="equally many stages"):
            nearest(space, arch)
        return
    found = nearest(space, arch)
    assert found in space
    assert distance(found, arch) == pytest.approx(min(distance(member, arch) for member in members(space)))


@SPACES
def test_a_member_is_nearest_to_itself(space: SearchSpace) -> None:
    """The distance of a member to itself is zero, and no other one is found."""
    for seed in range(20):
        arch = space.sample(random.Random(seed))
        assert distance(arch, arch) == 0
        assert nearest(space, arch) == arch


def test_strangers_are_refused_by_name() -> None:
    """Mutation and crossover say why a network is no member."""
    space, stranger = small_space(), REFERENCES["mobilenet_v1"]()
    member = space.sample(random.Random(0))
    with pytest.raises(InvalidArchitecture, match="is not in space 'small': resolution is 224"):
        mutate(space, stranger, random.Random(0))
    with pytest.raises(InvalidArchitecture, match="is not in space 'small'"):
        crossover(space, member, stranger, random.Random(0))
