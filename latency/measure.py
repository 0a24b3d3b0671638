"""Timing ONNX graphs with ONNX Runtime on this machine.

All graphs are visited round-robin in shuffled order, several rounds: a disturbance then hits a few samples of many
graphs instead of many samples of one, and a low quantile leaves it out. Timing one graph to completion before the
next was measured to be several times worse.
"""

import gc
import random
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from latency.device import Device, this_device
from latency.measurement import Measurement
from space.errors import InvalidTable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Key = TypeVar("Key", bound=Hashable)
Progress = Callable[[int, int], None]
"""Called with (rounds done, rounds in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How often each graph runs: per round once cold (after other graphs) and `warm` times in a row."""

    rounds: int = 16
    # A graph needs some repeats to reach the steady state in which a network runs on its device: with 3 the sum of
    # blocks missed whole 32-px networks by 3.0 % (cross-validated), with 8 by 1.3 %.
    warm: int = 8
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.rounds} shuffled rounds, 1 cold and {self.warm} warm runs each, 10 % quantile"


def local_device(name: str, *, threads: int = 1) -> Device:
    """This machine's CPU as ONNX Runtime will use it."""
    import onnxruntime

    return this_device(name, threads=threads, runtime_version=onnxruntime.__version__)


def _session(graph: bytes, device: Device) -> "InferenceSession":
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    # Set always: in a container ONNX Runtime sizes its thread pool by the host.
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[device.graph_optimization]
    session = onnxruntime.InferenceSession(graph, options, providers=[device.provider])
    if session.get_providers()[0] != device.provider:
        raise InvalidTable(f"ONNX Runtime replaced {device.provider} by {session.get_providers()[0]}; choose another")
    return session


class _Subject:
    """One graph, ready to run, and the samples taken so far in ns."""

    def __init__(self, graph: bytes, device: Device, rng: np.random.Generator) -> None:
        self.session = _session(graph, device)
        shape = self.session.get_inputs()[0].shape
        self.feed = {self.session.get_inputs()[0].name: rng.standard_normal(shape, dtype=np.float32)}
        self.cold: list[tuple[int, int]] = []
        self.warm: list[tuple[int, int]] = []

    def run(self) -> tuple[int, int]:
        """One inference: (wall, thread CPU) in ns."""
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        self.session.run(None, self.feed)
        wall_end, cpu_end = time.perf_counter_ns(), time.thread_time_ns()
        return wall_end - wall, cpu_end - cpu

    def visit(self, warm: int) -> None:
        self.cold.append(self.run())
        self.warm.extend(self.run() for _ in range(warm))

    def measurement(self) -> Measurement:
        def in_ms(samples: list[tuple[int, int]], clock: int) -> tuple[float, ...]:
            # A coarse clock may read zero; a sample must be positive.
            return tuple(max(sample[clock], 1) / 1e6 for sample in samples)

        return Measurement(
            cold_wall=in_ms(self.cold, 0),
            cold_cpu=in_ms(self.cold, 1),
            warm_wall=in_ms(self.warm, 0),
            warm_cpu=in_ms(self.warm, 1),
        )


def measure(
    graphs: Mapping[Key, bytes], device: Device, protocol: Protocol, progress: Progress | None = None
) -> dict[Key, Measurement]:
    """Time every graph (a serialised ONNX model with one input), batch 1, interleaved with all others."""
    rng = np.random.default_rng(protocol.seed)
    subjects = {key: _Subject(graph, device, rng) for key, graph in graphs.items()}
    for subject in subjects.values():
        subject.run()  # the first run allocates; it is no sample
    order = list(subjects.values())
    shuffle = random.Random(protocol.seed).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(1, protocol.rounds + 1):
            shuffle(order)
            for subject in order:
                subject.visit(protocol.warm)
            if progress:
                progress(done, protocol.rounds)
    finally:
        if collecting:
            gc.enable()
    return {key: subject.measurement() for key, subject in subjects.items()}


class Network:
    """An exported network, ready to classify: the same session options as for measuring."""

    def __init__(self, graph: bytes, *, threads: int = 1) -> None:
        self._session = _session(graph, local_device("local", threads=threads))
        self._input = self._session.get_inputs()[0]

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata written into the ONNX file."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Input and output: 1 x C x R x R and 1 x num_classes."""
        return tuple(self._input.shape), tuple(self._session.get_outputs()[0].shape)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """The output for one image, float32 1 x C x R x R, as num_classes numbers."""
        outputs = self._session.run(None, {self._input.name: image})
        return np.asarray(np.asarray(outputs[0])[0])
