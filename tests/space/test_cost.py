"""Costs against published numbers and against PyTorch's own counters."""

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from space.arch import Architecture
from space.cost import Cost, cost_of, unit_cost
from space.keys import keys_of
from space.modules import build_model
from space.reference import mobilenet_v3_large, mobilenet_v3_small, mobilenet_v3_small_32px
from tests.strategies import architectures, default_space


def counted_by_torch(arch: Architecture) -> Cost:
    """Parameters of the module, and half the FLOPs that PyTorch counts over one forward pass, without any data."""
    with torch.device("meta"):
        model = build_model(arch).eval()
        image = torch.empty(1, arch.in_channels, arch.resolution, arch.resolution)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(image)
    # Convolutions, and fully connected layers as addmm; a FLOP is a multiplication or an addition.
    assert {str(kind) for kind in counter.get_flop_counts()["Global"]} <= {"aten.convolution", "aten.addmm"}
    return Cost(madds=counter.get_total_flops() // 2, params=sum(p.numel() for p in model.parameters()))


def test_published_cost_of_the_large_network() -> None:
    """MobileNetV3-Large has torchvision's published 5,483,032 parameters and 0.217 billion multiply-adds at 224 px."""
    cost = cost_of(mobilenet_v3_large())
    assert cost.params == 5_483_032
    assert round(cost.madds / 1e6, 1) == 216.6


def test_published_cost_of_the_small_network() -> None:
    """MobileNetV3-Small has torchvision's published 2,542,856 parameters and 56.5 million multiply-adds at 224 px."""
    assert cost_of(mobilenet_v3_small()) == Cost(madds=56_510_400, params=2_542_856)


@pytest.mark.parametrize("width", [0.5, 1.0, 1.25])
@pytest.mark.parametrize("network", [mobilenet_v3_large, mobilenet_v3_small, mobilenet_v3_small_32px])
def test_references_cost_what_torch_counts(network: Callable[..., Architecture], width: float) -> None:
    """Parameters and multiply-adds of the published networks equal PyTorch's count at several widths."""
    arch = network(width=width)
    assert cost_of(arch) == counted_by_torch(arch)


@pytest.mark.parametrize("seed", range(8))
def test_members_cost_what_torch_counts(seed: int) -> None:
    """The same holds for members of the shipped space."""
    arch = default_space(width=0.75, in_channels=1).sample(random.Random(seed))
    assert cost_of(arch) == counted_by_torch(arch)


@settings(max_examples=40)
@given(architectures(widest=40, largest=40))
def test_any_architecture_costs_what_torch_counts(arch: Architecture) -> None:
    """The same holds for odd widths and odd resolutions."""
    assert cost_of(arch) == counted_by_torch(arch)


@given(architectures())
def test_a_network_costs_the_sum_of_its_units(arch: Architecture) -> None:
    """Cost is additive over stem, blocks and head."""
    units = [unit_cost(key) for key in keys_of(arch)]
    assert cost_of(arch) == Cost(madds=sum(unit.madds for unit in units), params=sum(unit.params for unit in units))
