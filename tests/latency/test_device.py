"""Which device a latency belongs to."""

from dataclasses import fields, replace
from typing import Any

import pytest

from latency.device import Device, conditions
from latency.measure import Network, Protocol, local_device, measure
from space.errors import InvalidTable
from space.keys import named_keys
from space.onnx_graph import build_graph, random_weights
from tests.strategies import DEVICE, small_space

GRAPH = build_graph(named_keys(small_space().reference), random_weights(0))
OTHER: dict[str, Any] = {
    "processor": "Cortex-A76",
    "machine": "x86_64",
    "system": "Darwin",
    "cores": 8,
    "provider": "XnnpackExecutionProvider",
    "threads": 2,
    "precision": "float16",
    "graph_optimization": "basic",
    "runtime_version": "1.21.0",
}


def test_the_name_is_no_part_of_the_fingerprint() -> None:
    """Renaming a device keeps its tables valid."""
    renamed = replace(DEVICE, name="my board")
    assert renamed.fingerprint == DEVICE.fingerprint
    assert renamed != DEVICE


@pytest.mark.parametrize("field", [field.name for field in fields(Device) if field.name != "name"])
def test_everything_else_is(field: str) -> None:
    """Another processor, provider, thread count, optimisation or runtime is another fingerprint."""
    assert replace(DEVICE, **{field: OTHER[field]}).fingerprint != DEVICE.fingerprint


def test_the_fingerprint_is_stable() -> None:
    """Stored tables are found by their fingerprint, so it may not change between releases."""
    assert DEVICE.fingerprint == "747746c1884f7734"


def test_this_machine_is_a_device() -> None:
    """The local device has a processor name and the given number of threads, and is found equal again."""
    device = local_device("here", threads=2)
    assert device == local_device("here", threads=2)
    assert device.threads == 2
    assert device.processor
    assert device.cores >= 1


def test_conditions_are_plain() -> None:
    """Conditions are texts and numbers, with at least kernel and Python version."""
    found = conditions()
    assert {"kernel", "python"} <= set(found)
    assert all(type(value) in (str, float) for value in found.values())


# ONNX Runtime warns about the provider that it lacks, which is the case under test.
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_replaced_provider_is_refused() -> None:
    """Where ONNX Runtime falls back to its CPU provider, nothing is measured in another's name."""
    device = replace(local_device("here"), provider="TensorrtExecutionProvider")
    with pytest.raises(InvalidTable, match="replaced TensorrtExecutionProvider by CPUExecutionProvider"):
        measure({"graph": GRAPH}, device, Protocol(rounds=1, warm=1))


def test_an_exported_network_classifies() -> None:
    """A network knows its shapes and gives one number per class."""
    import numpy as np

    network = Network(GRAPH)
    assert network.shapes == ((1, 1, 16, 16), (1, 4))
    assert network.logits(np.zeros((1, 1, 16, 16), dtype=np.float32)).shape == (4,)
