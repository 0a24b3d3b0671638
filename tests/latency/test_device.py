"""Which device a latency belongs to."""

from dataclasses import fields, replace
from typing import Any

import pytest

from latency.device import Device, read_device
from latency.meter import LocalMeter
from latency.network import Network
from latency.probe import Refused, Runtime, conditions, session_of
from space.errors import InvalidTable
from space.keys import named_keys
from space.networks.onnx_graph import build_graph, random_weights
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
    device = LocalMeter("here", Runtime(threads=2)).device
    assert device == LocalMeter("here", Runtime(threads=2)).device
    assert device.threads == 2
    assert device.processor
    assert device.cores >= 1
    assert device.runtime == Runtime(threads=2)


def test_conditions_are_plain() -> None:
    """Conditions are texts and numbers, with at least kernel, Python version and date."""
    found = conditions()
    assert {"kernel", "python", "date"} <= set(found)
    assert all(type(value) in (str, float, int) for value in found.values())


def test_a_provider_that_is_not_there_is_refused() -> None:
    """ONNX Runtime would fall back to its CPU provider; nothing is measured in another's name."""
    with pytest.raises(Refused, match=r"no TensorrtExecutionProvider; it has .*CPUExecutionProvider"):
        session_of(GRAPH, Runtime(provider="TensorrtExecutionProvider"))


def test_a_replaced_provider_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that ONNX Runtime offers and then does not use is found out by asking the session."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["XnnpackExecutionProvider"])
    with (
        pytest.warns(UserWarning, match="Specified provider"),
        pytest.raises(Refused, match="replaced XnnpackExecutionProvider by CPUExecutionProvider"),
    ):
        session_of(GRAPH, Runtime(provider="XnnpackExecutionProvider"))


@pytest.mark.parametrize(
    ("facts", "fault"),
    [
        (None, "do not say"),
        ([], "do not say"),
        ({"name": "x"}, "do not say"),
        ({"threads": "1"}, "threads is wrong"),
        ({"threads": 0}, "threads and cores"),
        ({"precision": "int8"}, "precision is wrong"),
        ({"surplus": 1}, "surplus is wrong"),
        ({"processor": "a\x1b[2Jb"}, "printable"),
        ({"processor": "x" * 1000}, "printable"),
    ],
)
def test_facts_from_outside_are_checked(facts: object, fault: str) -> None:
    """What a device says of itself is of the right types, short, and cannot move a terminal's cursor."""
    whole = {field.name: getattr(DEVICE, field.name) for field in fields(Device) if field.name != "name"}
    with pytest.raises(InvalidTable, match=fault):
        read_device("pi", {**whole, **facts} if isinstance(facts, dict) else facts)
    assert read_device("pi", whole) == replace(DEVICE, name="pi")


def test_an_exported_network_classifies() -> None:
    """A network knows its shapes and gives one number per class."""
    import numpy as np

    network = Network(GRAPH)
    assert network.shapes == ((1, 1, 16, 16), (1, 4))
    assert network.logits(np.zeros((1, 1, 16, 16), dtype=np.float32)).shape == (4,)
