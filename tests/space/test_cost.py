"""Costs against published numbers and against PyTorch's own counters."""

import math
import random

import onnx
import pytest
import torch
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from space.arch import Architecture
from space.cost import Cost, cost_of, unit_cost
from space.keys import keys_of, named_keys
from space.networks.modules import build_model
from space.networks.onnx_graph import INPUT, build_graph, random_weights
from space.reference import REFERENCES, Reference
from tests.strategies import architectures, default_space

Counts = tuple[int, int, int]


def counted_by_torch(arch: Architecture) -> Counts:
    """Half the FLOPs that PyTorch counts over one forward pass, and parameters, those of BatchNorm among them."""
    with torch.device("meta"):
        model = build_model(arch).eval()
        image = torch.empty(1, arch.in_channels, arch.resolution, arch.resolution)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(image)
    # Convolutions, and fully connected layers as addmm, without bias as mm; a FLOP is a multiplication or an addition.
    kinds = {str(kind) for kind in counter.get_flop_counts()["Global"]}
    assert kinds <= {"aten.convolution", "aten.addmm", "aten.mm"}
    norms = (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    in_norms = sum(p.numel() for norm in norms for p in norm.parameters())
    return counter.get_total_flops() // 2, sum(p.numel() for p in model.parameters()), in_norms


def counted(arch: Architecture) -> Counts:
    """The same by our own count."""
    cost = cost_of(arch)
    return cost.madds, cost.params, cost.batch_norm_params


IN_PLACE = {"Relu", "Clip", "HardSwish", "Sigmoid", "HardSigmoid", "Mul", "Add", "Flatten"}


def peak_of_graph(arch: Architecture) -> int:
    """The most bytes alive at once when the ONNX graph runs node by node; elementwise ones write into an input."""
    graph = onnx.load_from_string(build_graph(named_keys(arch), random_weights(0)))
    inferred = onnx.shape_inference.infer_shapes(graph).graph
    sizes = {
        value.name: 4 * math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    nodes = list(inferred.node)
    last_use = {name: index for index, node in enumerate(nodes) for name in node.input}
    alive, peak = {INPUT}, 0
    for index, node in enumerate(nodes):
        new = 0 if node.op_type in IN_PLACE else sizes[node.output[0]]
        peak = max(peak, new + sum(sizes[name] for name in alive))
        alive = {name for name in (*alive, node.output[0]) if last_use.get(name, -1) > index}
    return peak


@pytest.mark.parametrize("network", REFERENCES.values(), ids=REFERENCES)
def test_references_cost_what_torch_counts(network: Reference) -> None:
    """Parameters and multiply-adds of every published network equal PyTorch's count, at each published width."""
    for width in network.widths:
        arch = network(width=width)
        assert counted(arch) == counted_by_torch(arch)


@pytest.mark.parametrize("network", REFERENCES.values(), ids=REFERENCES)
def test_peak_memory_of_references_is_that_of_the_graph(network: Reference) -> None:
    """The peak equals a walk over the ONNX graph that frees every tensor after its last use."""
    arch = network(num_classes=10)
    assert cost_of(arch).peak_bytes == peak_of_graph(arch)


@settings(max_examples=40)
@given(architectures(widest=40, largest=40))
def test_peak_memory_of_any_architecture_is_that_of_the_graph(arch: Architecture) -> None:
    """The same holds for odd widths, odd resolutions and every kind of block."""
    assert cost_of(arch).peak_bytes == peak_of_graph(arch)


@pytest.mark.parametrize("seed", range(8))
def test_members_cost_what_torch_counts(seed: int) -> None:
    """The same holds for members of the shipped space."""
    arch = default_space(width=0.75, in_channels=1).sample(random.Random(seed))
    assert counted(arch) == counted_by_torch(arch)


@settings(max_examples=40)
@given(architectures(widest=40, largest=40))
def test_any_architecture_costs_what_torch_counts(arch: Architecture) -> None:
    """The same holds for odd widths and odd resolutions."""
    assert counted(arch) == counted_by_torch(arch)


@given(architectures())
def test_a_network_costs_the_sum_of_its_units(arch: Architecture) -> None:
    """Cost is additive over stem, blocks and head, and the largest unit has the peak."""
    units = [unit_cost(key) for key in keys_of(arch)]
    assert cost_of(arch) == Cost(
        madds=sum(unit.madds for unit in units),
        params=sum(unit.params for unit in units),
        batch_norm_params=sum(unit.batch_norm_params for unit in units),
        peak_bytes=max(unit.peak_bytes for unit in units),
    )
