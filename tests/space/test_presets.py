"""The shipped spaces hold what their papers say."""

import random
from dataclasses import replace

import pytest

from space.choices import SearchSpace
from space.keys import StageBlockKey
from space.preset import load_preset, preset_names
from space.variation import distance, nearest


def shipped(name: str, *, width: float = 1.0, resolution: int = 224) -> SearchSpace:
    """A shipped space for a thousand classes."""
    return SearchSpace(preset=load_preset(name), width=width, resolution=resolution, in_channels=3, num_classes=1000)


def test_presets() -> None:
    """The package ships these spaces."""
    assert preset_names() == (
        "minimalistic",
        "mnasnet",
        "mobilenet-v2",
        "mobilenet-v3-large",
        "mobilenet-v3-small",
        "mobilenet-v3-small-32px",
        "ofa-mbv3",
    )


@pytest.mark.parametrize("width", [1.0, 1.2])
def test_the_size_of_once_for_alls_space(width: float) -> None:
    """Five stages of 9² + 9³ + 9⁴ = 7371 forms: 21,758,655,492,572,485,851 networks (Cai et al. 2020: "> 10^19")."""
    space = shipped("ofa-mbv3", width=width)
    assert space.size == 7371**5 == 21_758_655_492_572_485_851


def test_the_fixed_parts_of_once_for_alls_space() -> None:
    """Stem 16, first block 16, stages 24 to 160, head 960 and 1280; at 1.2 widths are 24, 24, 32, 48, 96, 136, 192."""
    for width, expected in (
        (1.0, [16, 16, 24, 40, 80, 112, 160, 960, 1280]),
        (1.2, [24, 24, 32, 48, 96, 136, 192, 1152, 1536]),
    ):
        arch = shipped("ofa-mbv3", width=width).sample(random.Random(0))
        stages = [stage.out_channels for stage in arch.stages]
        assert [arch.stem.out_channels, *stages, arch.head.conv_channels, arch.head.hidden_channels] == expected
        assert [stage.blocks[0].use_se for stage in arch.stages] == [False, False, True, False, True, True]
        assert [stage.blocks[0].activation for stage in arch.stages] == ["relu"] * 3 + ["hswish"] * 3
        assert [stage.stride for stage in arch.stages] == [1, 2, 2, 2, 1, 2]


@pytest.mark.parametrize("name", ["mnasnet", "mobilenet-v2"])
def test_references_of_alike_blocks_are_members(name: str) -> None:
    """MnasNet-A1 and MobileNetV2 are points of their spaces."""
    space = shipped(name)
    assert space.why_not(space.reference) is None
    assert nearest(space, space.reference) == space.reference


@pytest.mark.parametrize("name", preset_names())
def test_a_space_surrounds_its_reference(name: str) -> None:
    """Stem and head are the reference's, and so is the feature map of every stage; some member is near.

    Once-for-All's head has the same widths, and no bias.
    """
    space = shipped(name, resolution=32 if name.endswith("32px") else 224)
    reference = space.reference
    head = replace(reference.head, hidden_bias=name != "ofa-mbv3")
    assert (space.stem, space.head) == (reference.stem, head)
    assert [stage.stride for stage in space.preset.stages] == [stage.stride for stage in reference.stages]
    assert distance(nearest(space, reference), reference) < 2


def test_minimalistic_members_are_minimalistic() -> None:
    """No squeeze-and-excite, no h-swish, only 3x3."""
    texts = [shipped("minimalistic").sample(random.Random(seed)).to_json() for seed in range(20)]
    assert not [t for t in texts if "hswish" in t or '"use_se":true' in t or '"kernel_size":5' in t]


def test_mnasnet_squeezes_a_quarter_of_the_input() -> None:
    """Squeeze-and-excite of that space has the input's quarter and a sigmoid, as MnasNet-A1 has."""
    space = shipped("mnasnet")
    for seed in range(20):
        arch = space.sample(random.Random(seed))
        channels = arch.stem.out_channels
        for stage in arch.stages:
            for block in stage.blocks:
                key = StageBlockKey(
                    resolution=1, in_channels=channels, out_channels=stage.out_channels, stride=1, block=block
                )
                assert not block.use_se or key.squeeze_channels == channels // 4
                assert block.gate == ("sigmoid" if block.use_se else "hard_sigmoid")
                channels = stage.out_channels
