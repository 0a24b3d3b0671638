"""ONNX graphs compute what the torch modules compute."""

import random
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from onnx.reference import ReferenceEvaluator
from torch import nn

from space.arch import Architecture, Block
from space.errors import InvalidArchitecture
from space.keys import BlockKey, StageBlockKey, named_keys, out_shape
from space.networks.modules import build_model, folded_weights
from space.networks.onnx_graph import INPUT, OUTPUT, build_graph, given_weights, random_weights
from space.reference import REFERENCES, Reference
from tests.strategies import architectures, default_space, small_space


def made(arch: Architecture, seed: int = 0) -> nn.Sequential:
    """A network in evaluation mode whose BatchNorms are anything but the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(arch)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                assert module.running_mean is not None
                assert module.running_var is not None
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2.0)
            elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def image_for(arch: Architecture, seed: int = 0) -> np.ndarray:
    """A random picture."""
    shape = (1, arch.in_channels, arch.resolution, arch.resolution)
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def run(graph: bytes, image: np.ndarray) -> np.ndarray:
    """ONNX Runtime's output."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: image})[0])


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def check_equal_outputs(arch: Architecture, tolerance: float = 1e-4) -> None:
    """Torch and ONNX Runtime agree on a random picture, and the output is not trivial."""
    model, image = made(arch), image_for(arch)
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    graph = build_graph(named_keys(arch), given_weights(folded_weights(model)))
    assert np.ptp(expected) > 0
    assert relative_error(run(graph, image), expected) <= tolerance


@pytest.mark.parametrize("network", REFERENCES.values(), ids=REFERENCES)
def test_references_equal_torch(network: Reference) -> None:
    """Every published network gives torch's logits to 1e-4, its BatchNorm statistics set by a training-mode pass."""
    arch = network(num_classes=100)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(arch).train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # the running statistics become those of the pass
        with torch.no_grad():
            model(torch.randn((4, arch.in_channels, arch.resolution, arch.resolution)))
    image = image_for(arch)
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(image)).numpy()
    graph = build_graph(named_keys(arch), given_weights(folded_weights(model)))
    assert np.ptp(expected) > 0.01
    assert relative_error(run(graph, image), expected) <= 1e-4


@pytest.mark.parametrize("seed", range(6))
def test_members_equal_torch(seed: int) -> None:
    """So do members of the shipped space."""
    check_equal_outputs(default_space(width=0.5, in_channels=1).sample(random.Random(seed)))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("expanded", [None, 20])
@pytest.mark.parametrize("use_se", [False, True])
def test_every_kind_of_block_equals_torch(kernel: int, expanded: int | None, use_se: bool) -> None:
    """So does a network of each kernel size, with and without expansion and squeeze-and-excite, residual included."""
    arch = small_space().sample(random.Random(0))
    block = Block(kernel_size=kernel, expanded_channels=expanded, use_se=use_se, activation="hswish")  # type: ignore[arg-type]
    stages = tuple(replace(stage, blocks=(block, block)) for stage in arch.stages)
    check_equal_outputs(replace(arch, stages=stages))


@settings(max_examples=15)
@given(architectures(widest=24, largest=33, deepest=2))
def test_any_architecture_equals_torch(arch: Architecture) -> None:
    """So do odd widths and odd resolutions."""
    check_equal_outputs(arch, tolerance=1e-3)


def test_folding_follows_training_statistics() -> None:
    """After passes in training mode the folded graph still equals the network in evaluation mode."""
    arch = small_space().sample(random.Random(3))
    model = made(arch).train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        model(torch.randn((4, arch.in_channels, arch.resolution, arch.resolution), generator=generator) + 1)
    model.eval()
    image = image_for(arch)
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    graph = build_graph(named_keys(arch), given_weights(folded_weights(model)))
    assert relative_error(run(graph, image), expected) <= 1e-4


def test_the_reference_evaluator_agrees() -> None:
    """ONNX's own reference implementation gives torch's logits as well."""
    arch = small_space().sample(random.Random(2))
    model, image = made(arch), image_for(arch)
    graph = onnx.load_from_string(build_graph(named_keys(arch), given_weights(folded_weights(model))))
    found = np.asarray(ReferenceEvaluator(graph).run([OUTPUT], {INPUT: image}))[0]
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    assert relative_error(found, expected) <= 1e-4


def test_version_and_metadata() -> None:
    """Graphs are opset 17, IR version 8, of fixed shape, and carry the given metadata."""
    arch = small_space().reference
    model = onnx.load_from_string(build_graph(named_keys(arch), random_weights(0), metadata={"arch": arch.to_json()}))
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert {prop.key: prop.value for prop in model.metadata_props} == {"arch": arch.to_json()}
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == [1, arch.in_channels, arch.resolution, arch.resolution]
    onnx.checker.check_model(model, full_check=True)


def test_wrong_weights_are_named() -> None:
    """A missing or transposed weight is refused by name and shape."""
    arch = small_space().reference
    weights = folded_weights(build_model(arch))
    name = "head.classifier.weight"
    missing = {key: value for key, value in weights.items() if key != name}
    with pytest.raises(InvalidArchitecture, match=r"weight 'head\.classifier\.weight' should have shape .*got nothing"):
        build_graph(named_keys(arch), given_weights(missing))
    with pytest.raises(InvalidArchitecture, match=r"should have shape \(4, 1024\), got shape \(1024, 4\)"):
        build_graph(named_keys(arch), given_weights({**weights, name: weights[name].T}))


def test_graphs_ask_for_the_folded_weights() -> None:
    """The names that a graph asks for are those that a torch module gives, none more and none less."""
    arch = small_space().sample(random.Random(5))
    asked: list[str] = []
    source = random_weights(0)

    def note(name: str, shape: tuple[int, ...]) -> np.ndarray:
        asked.append(name)
        return source(name, shape)

    build_graph(named_keys(arch), note)
    assert sorted(asked) == sorted(folded_weights(build_model(arch)))


def capped(key: BlockKey) -> bool:
    """Whether a key is small enough for a quick test."""
    names = ("in_channels", "out_channels", "conv_channels", "hidden_channels")
    widths = [getattr(key, name, 1) or 1 for name in names]
    inner = key.block.expanded_channels or 1 if isinstance(key, StageBlockKey) else 1
    return max(*widths, inner, key.resolution) <= 64


@pytest.mark.parametrize("seed", range(12))
def test_a_block_puts_out_its_declared_shape(seed: int) -> None:
    """The graph of one reachable block takes its key's input and gives the shape that out_shape declares."""
    key = random.Random(seed).choice([key for key in small_space().reachable_keys() if capped(key)])
    image = np.zeros((1, key.in_channels, key.resolution, key.resolution), dtype=np.float32)
    assert run(build_graph({"block": key}, random_weights(0)), image).shape == (1, *out_shape(key))


def test_measuring_weights_hold_no_denormals() -> None:
    """Random weights follow the seed, and their deviation is that of 1 / sqrt(fan in)."""
    weight = random_weights(7)("any", (64, 32, 3, 3))
    np.testing.assert_array_equal(weight, random_weights(7)("any", (64, 32, 3, 3)))
    assert weight.dtype == np.float32
    assert weight.std() == pytest.approx((32 * 9) ** -0.5, rel=0.05)
