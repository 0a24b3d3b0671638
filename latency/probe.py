"""Times ONNX models on the device that it runs on: the engine of every latency table, and the script of a kit.

It travels as `measure.py` in a kit beside `manifest.json` and the models. It needs Python 3.9, numpy and ONNX Runtime
1.15, or newer ones, and nothing else:

    python measure.py                  measures what the manifest names and writes results.json beside it
    python measure.py --cpus 4-7       on these cores only
    python measure.py --describe       says what device this is

Started again after it was stopped, it goes on where it was.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import os
import platform
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = "mobilenas-results"
VERSION = 1
CPU = "CPUExecutionProvider"
MANIFEST, RESULTS, JOURNAL, WEIGHTS = "manifest.json", "results.json", "journal.jsonl", "weights.bin"

# Disturbances only ever add time, so a low quantile comes closest to the undisturbed device; medians were measured
# to be three to five times worse on a shared machine.
QUANTILE = 0.1
# A stretch of the measurement is disturbed where the reference kernel beside it took so many times its own quantile.
DISTURBED = 1.1
# Visits of models between two runs of the reference kernel.
STRETCH = 32
# Rounds after which models are grouped anew, and after which it is asked which of them are settled.
ROUNDS_PER_PASS = 4
# A thread's clock that ticks more coarsely cannot time a kernel.
FINEST_TICK_NS = 10_000
# Where there is no such clock, nobody looks at what this one says.
_thread_time_ns: Callable[[], int] = getattr(time, "thread_time_ns", time.perf_counter_ns)
# Weights of all models of a kit are windows of one file, which the device itself makes.
WEIGHT_BYTES = 32 << 20

MeasuringProgress = Callable[[int, int, str], None]
"""Called with (visits done, visits expected, what is going on)."""


class Sample(NamedTuple):
    """One inference in ns: wall clock, and the calling thread's CPU clock."""

    wall: int
    cpu: int


class Refused(Exception):
    """The measurement cannot be made as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Runtime:
    """How ONNX Runtime runs a model; `threads` are intra-op, spinning is off, inter-op is always one."""

    provider: str = CPU
    threads: int = 1
    graph_optimization: str = "all"


@dataclass(frozen=True)
class Protocol:
    """How often each model runs.

    Each of `rounds` visits, in shuffled order with all other models, is one cold run (after others) and `warm` repeats.
    A model whose confidence interval is then wider than `precision` (relative) is visited more, up to `most_rounds`
    visits. After `seconds` no model gets more than the four visits that it needs at least. Models are open at once up
    to `memory_mb`, by default half of what is free. Where `reopen` is given, they are opened anew after so many rounds,
    in fours: where its memory lies makes a model some tenths of a per cent faster or slower as long as it is open.
    """

    rounds: int = 16
    # A model needs some repeats to reach the steady state in which a network runs on its device: with 3 the sum of
    # blocks missed whole 32-px networks by 3.0 % (cross-validated), with 8 by 1.3 %.
    warm: int = 8
    seed: int = 0
    precision: float = 0.03
    most_rounds: int = 32
    seconds: float | None = None
    memory_mb: int | None = None
    reopen: int | None = None

    def __str__(self) -> str:
        return (
            f"{self.rounds} to {self.most_rounds} shuffled rounds, 1 cold and {self.warm} warm runs each, "
            f"10 % quantile, interval below {self.precision:.1%}"
        )


@dataclass(frozen=True)
class Model:
    """A model to measure: serialised, or its file; `size` is about what it takes in memory once open, in bytes.

    `shape` is that of its input where the model leaves sides open.
    """

    source: bytes | str
    size: int
    shape: tuple[int, ...] | None = None


@dataclass
class Samples:
    """The runs of one model, in order: per visit one cold sample and some warm ones; `disturbed` counts visits."""

    cold: list[Sample] = field(default_factory=list)
    warm: list[Sample] = field(default_factory=list)
    disturbed: list[int] = field(default_factory=list)

    def add(self, other: Samples) -> None:
        """Append what another pass found."""
        self.disturbed.extend(len(self.cold) + visit for visit in other.disturbed)
        self.cold.extend(other.cold)
        self.warm.extend(other.warm)


@dataclass
class Findings:
    """What measuring found: samples by name, the names that are not settled, and how the time was spent."""

    samples: dict[str, Samples]
    unsettled: list[str]
    reference_ns: list[int]
    seconds: float
    seconds_inside: float


# Statistics


def undisturbed(samples: Sequence[float], visits: int, disturbed: Sequence[int]) -> np.ndarray:
    """The samples of undisturbed visits, or all where fewer than half of the visits were undisturbed."""
    rows = np.asarray(samples, dtype=float).reshape(visits, -1)
    keep = np.ones(visits, dtype=bool)
    keep[list(disturbed)] = False
    return (rows[keep] if 2 * keep.sum() >= visits else rows).ravel()


def low_quantile(samples: np.ndarray) -> float:
    """The estimate of a latency: the 10 % quantile."""
    return float(np.quantile(samples, QUANTILE))


def interval(samples: np.ndarray, visits: int) -> tuple[float, float]:
    """A 95 % confidence interval of the 10 % quantile (normal approximation of ranks).

    Samples of one visit are not independent of each other, so only as many count as there were visits. Of fewer than 35
    visits the lower end is the least sample.
    """
    margin = 1.96 * (QUANTILE * (1 - QUANTILE) / visits) ** 0.5
    low, high = np.quantile(samples, [max(0.0, QUANTILE - margin), min(1.0, QUANTILE + margin)])
    return float(low), float(high)


def relative_width(samples: Samples, clock: str) -> float:
    """The width of the interval of the warm estimate, relative to it."""
    visits = len(samples.cold)
    kept = undisturbed([getattr(each, clock) for each in samples.warm], visits, samples.disturbed)
    low, high = interval(kept, max(1, visits * len(kept) // len(samples.warm)))
    return (high - low) / low_quantile(kept)


# What the device is, and in which state


def thread_clock_is_fine() -> bool:
    """Whether the calling thread's CPU clock exists here and ticks finely enough to time a kernel."""
    if not hasattr(time, "thread_time_ns"):
        return False
    finest = 1 << 62
    for _ in range(5):
        before = after = time.thread_time_ns()
        end = time.perf_counter_ns() + 100_000_000
        while after == before and time.perf_counter_ns() < end:
            after = time.thread_time_ns()
        if after > before:
            finest = min(finest, after - before)
    return finest <= FINEST_TICK_NS


def clock_of(runtime: Runtime) -> str:
    """The clock that judges whether a model is settled: the thread's, where one thread does all the work."""
    return "cpu" if runtime.threads == 1 and runtime.provider == CPU and thread_clock_is_fine() else "wall"


def read_text(path: str) -> str | None:
    """The text of a small system file, if it can be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def processor_name() -> str:
    """The processor's model name as the system tells it."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith(("model name", "Model", "Hardware")):
            return line.partition(":")[2].strip()
    board = read_text("/proc/device-tree/model")
    return board or platform.processor() or platform.machine()


def usable_cpus() -> int:
    """CPUs that this process may use: its affinity, and what the quotas of its control groups (Linux) leave of it."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        allowed = os.cpu_count() or 1
    return max(1, min([allowed, *_quotas()]))


def _quotas() -> Iterator[int]:
    """The CPU quotas of this process's control group and of those above it, rounded up to whole CPUs."""
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, inside = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in inside.split("/") if part]
        # In a container its own group is the root of what it sees, whatever the host calls it.
        for depth in range(len(parts) + 1):
            path = "/".join(["/sys/fs/cgroup/cpu" if controllers else "/sys/fs/cgroup", *parts[:depth]])
            if controllers:  # of the first version
                quota, period = read_text(path + "/cpu.cfs_quota_us"), read_text(path + "/cpu.cfs_period_us")
            else:
                quota, _, period = (read_text(path + "/cpu.max") or "").partition(" ")
            if quota and period and quota.isdigit() and period.isdigit() and int(period):
                yield -(-int(quota) // int(period))


def cores_for(threads: int) -> int:
    """The fact `cores` of a device: with several threads those that they can run on at once, else what there are.

    Raises:
        Refused: there are fewer CPUs than threads, which would take turns.
    """
    if threads == 1:
        return os.cpu_count() or 1
    usable = usable_cpus()
    if threads > usable:
        raise Refused(
            f"{threads} threads were asked for, but this process may use {usable} "
            f"CPU{'' if usable == 1 else 's'}; ask for fewer, or allow it more"
        )
    return usable


def describe(runtime: Runtime, cpus: str | None = None) -> dict[str, Any]:
    """The facts that make latencies comparable: together they are a device's fingerprint.

    A phone's cores differ from each other, so those that the measurement is confined to belong to the processor.
    """
    import onnxruntime

    return {
        "processor": processor_name()[:200] + (f", cores {cores_text(cores_of(cpus))}" if cpus else ""),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": cores_for(runtime.threads),
        "provider": runtime.provider,
        "threads": runtime.threads,
        "precision": "float32",
        "graph_optimization": runtime.graph_optimization,
        "runtime_version": onnxruntime.__version__,
    }


def _load() -> float | None:
    try:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    except OSError:
        return None  # Android may not tell


def conditions() -> dict[str, str | float]:
    """What else bears on a measurement and changes over time, where it is readable."""
    cpu = "/sys/devices/system/cpu/cpu0/cpufreq/"
    found: dict[str, str | float | None] = {
        "governor": read_text(cpu + "scaling_governor"),
        "driver": read_text(cpu + "scaling_driver"),
        "frequency_khz": read_text(cpu + "scaling_cur_freq"),
        "highest_frequency_khz": read_text(cpu + "cpuinfo_max_freq"),
        "allowed_frequency_khz": read_text(cpu + "scaling_max_freq"),
        "temperature_millicelsius": read_text("/sys/class/thermal/thermal_zone0/temp"),
        "load_1min": _load(),
        "cores_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    return {name: value for name, value in found.items() if value is not None}


def _answer(*command: str) -> str | None:
    """What a small program of the system prints, if it is there."""
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def warnings_of(state: Mapping[str, str | float]) -> list[str]:
    """Why this device, in this state, would be slower than it can be; empty where nothing speaks against measuring."""
    found = []
    # Intel's and AMD's own drivers call their normal, dynamic governor "powersave".
    if state.get("governor") == "powersave" and not str(state.get("driver", "")).startswith(("intel", "amd")):
        found.append("the frequency governor is powersave; set it to performance")
    allowed, highest = state.get("allowed_frequency_khz"), state.get("highest_frequency_khz")
    if allowed is not None and highest is not None and float(allowed) < 0.95 * float(highest):
        found.append(f"the cores may run at {allowed} of {highest} kHz only; lift the limit")
    throttled = _answer("vcgencmd", "get_throttled")  # Raspberry Pi
    if throttled is not None and throttled.partition("=")[2] not in ("", "0x0"):
        found.append(
            f"the firmware reports {throttled}: too hot, or too little power; cool the device, or use another power "
            "supply"
        )
    if os.environ.get("ANDROID_ROOT") and _answer("settings", "get", "global", "low_power") == "1":
        found.append("battery saver is on; switch it off")
    for supply in sorted(Path("/sys/class/power_supply").glob("*")):
        level, status = read_text(f"{supply}/capacity"), read_text(f"{supply}/status")
        if status == "Discharging" and level is not None and level.isdigit() and int(level) < 20:
            found.append(f"the battery is at {level}%; plug the device in")
    return found


# Sessions


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def session_of(source: bytes | str, runtime: Runtime) -> InferenceSession:
    """A session with every option that bears on latency set.

    Raises:
        Refused: ONNX Runtime would use another provider than the one asked for.
    """
    import onnxruntime

    if runtime.provider not in onnxruntime.get_available_providers():
        offered = ", ".join(onnxruntime.get_available_providers())
        raise Refused(f"this ONNX Runtime has no {runtime.provider}; it has {offered}")
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    # Set always: in a container ONNX Runtime sizes its thread pool by the host.
    options.intra_op_num_threads = runtime.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # what is wrong is raised, too
    options.graph_optimization_level = {
        "disabled": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[runtime.graph_optimization]
    if isinstance(source, str) and not _is_unicode(source):
        source = Path(source).read_bytes()  # ONNX Runtime takes names in UTF-8 alone
    session = onnxruntime.InferenceSession(source, options, providers=[runtime.provider])
    if session.get_providers()[0] != runtime.provider:
        raise Refused(f"ONNX Runtime replaced {runtime.provider} by {session.get_providers()[0]}; choose another")
    return session


_NUMBERS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
}


def _random_input(entry: Any, asked: tuple[int, ...] | None, rng: np.random.Generator) -> np.ndarray:  # noqa: ANN401 - ONNX Runtime has no public type for it
    """Random numbers for an input of a model; of integers zeros, since they may be indices.

    Raises:
        Refused: the input has sides that are neither fixed nor given, or is of another kind than numbers.
    """
    if entry.type not in _NUMBERS:
        raise Refused(f"input {entry.name} is a {entry.type}; only numeric inputs can be generated")
    fixed = [side if isinstance(side, int) and side > 0 else None for side in entry.shape]
    if asked is not None and len(asked) != len(fixed):
        raise Refused(f"input {entry.name} has {len(fixed)} sides, the shape {asked} has {len(asked)}")
    differ = [(side, wish) for side, wish in zip(fixed, asked or fixed) if side not in (None, wish)]  # noqa: B905 - Python 3.9
    if differ:
        raise Refused(
            f"input {entry.name} is fixed at {'x'.join(str(side or '?') for side in fixed)}, not "
            f"{'x'.join(map(str, asked or ()))}; leave the shape out, or export the model with open sides"
        )
    # A batch of one where the model leaves the batch open.
    given: Sequence[int | None] = asked or (1, *fixed[1:])
    shape = [side or wish or 0 for side, wish in zip(fixed, given)]  # noqa: B905 - Python 3.9
    if 0 in shape:
        raise Refused(
            f"input {entry.name} has the open shape {entry.shape}; say which to take, such as --shape 1x3x48x192"
        )
    kind = _NUMBERS[entry.type]
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(shape).astype(kind)
    return np.zeros(shape, dtype=kind)


class Subject:
    """One model, ready to run on a random input."""

    def __init__(self, model: Model, runtime: Runtime, rng: np.random.Generator) -> None:
        self.session = session_of(model.source, runtime)
        self.feed = {entry.name: _random_input(entry, model.shape, rng) for entry in self.session.get_inputs()}
        self.run()  # the first run allocates; it is no sample

    def run(self) -> Sample:
        """One inference."""
        cpu, wall = _thread_time_ns(), time.perf_counter_ns()
        self.session.run(None, self.feed)
        wall_end, cpu_end = time.perf_counter_ns(), _thread_time_ns()
        # A coarse clock may read zero; a sample is positive.
        return Sample(max(wall_end - wall, 1), max(cpu_end - cpu, 1))


class DriftReference:
    """A fixed computation, small enough for the first-level cache: it shows when the processor itself slows down."""

    def __init__(self) -> None:
        self.ns: list[int] = []
        self._matrix = np.random.default_rng(0).standard_normal((60, 60)).astype(np.float32) / 8

    def run(self) -> int:
        """Run it, and return its wall time in ns: the least of some repeats, since the first ones find cold caches."""
        least = 1 << 62
        for _ in range(4):
            started = time.perf_counter_ns()
            for _ in range(4):
                _ = self._matrix @ self._matrix
            least = min(least, time.perf_counter_ns() - started)
        self.ns.append(least)
        return least

    @property
    def limit(self) -> float:
        """Above this the processor was disturbed."""
        return DISTURBED * low_quantile(np.asarray(self.ns[-512:], dtype=float))


def free_memory_mb() -> int:
    """What the system, and the container that this may be, say is available; a modest guess where they do not."""
    limits = (read_text(f"/sys/fs/cgroup/{name}") for name in ("memory.max", "memory/memory.limit_in_bytes"))
    return min([_system_memory_mb(), *(int(limit) >> 20 for limit in limits if limit and limit.isdigit())])


def _system_memory_mb() -> int:
    for line in (read_text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 2000


def _batches(names: Sequence[str], models: Mapping[str, Model], memory_mb: int) -> Iterator[list[str]]:
    """Consecutive models that fit into the memory together, at least one."""
    batch: list[str] = []
    size = 0
    for name in names:
        if batch and size + models[name].size > memory_mb << 20:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += models[name].size
    if batch:
        yield batch


def _return_memory() -> None:
    """Closed sessions leave holes in the heap; glibc hands them back when asked."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):
        return  # another C library: its own way of keeping memory has to do


class Measuring:
    """One measurement of many models, interleaved."""

    def __init__(self, models: Mapping[str, Model], runtime: Runtime, protocol: Protocol) -> None:
        self.models, self.runtime, self.protocol = models, runtime, protocol
        self.samples: dict[str, Samples] = {name: Samples() for name in models}
        self.reference = DriftReference()
        self.clock = clock_of(runtime)
        self.inside_ns = 0
        self._rng = random.Random(protocol.seed)
        self._feeds = np.random.default_rng(protocol.seed)
        self._memory_mb = protocol.memory_mb or free_memory_mb() // 2
        self._done = 0
        self._open: dict[str, Subject] = {}
        self._rounds_open = 0

    def run(
        self,
        keep: Callable[[str, Samples], None] | None = None,
        progress: MeasuringProgress | None = None,
        seconds: float | None = None,
    ) -> Findings:
        """Measure until all models are settled, or visited often enough, or the time is over.

        `keep` hears of each model's new samples after a pass, as soon as they are complete. `seconds` stands for those
        of the protocol.
        """
        started = time.monotonic()
        limit = self.protocol.seconds if seconds is None else seconds
        collecting = gc.isenabled()
        gc.disable()
        try:
            while True:
                over = limit is not None and time.monotonic() - started > limit
                waiting = self._waiting(over=over)
                if not waiting:
                    break
                self._pass(waiting, keep, progress)
        finally:
            self._open.clear()
            if collecting:
                gc.enable()
        return Findings(
            samples=self.samples,
            unsettled=[name for name in self.models if not self._is_settled(name)],
            reference_ns=self.reference.ns,
            seconds=time.monotonic() - started,
            seconds_inside=self.inside_ns / 1e9,
        )

    def _is_settled(self, name: str) -> bool:
        return relative_width(self.samples[name], self.clock) <= self.protocol.precision

    def _waiting(self, *, over: bool) -> list[str]:
        """The models to visit in the next pass, in an order of its own."""
        names = []
        for name, samples in self.samples.items():
            visits = len(samples.cold)
            few = visits < (min(ROUNDS_PER_PASS, self.protocol.rounds) if over else self.protocol.rounds)
            if few or (not over and visits < self.protocol.most_rounds and not self._is_settled(name)):
                names.append(name)
        self._rng.shuffle(names)
        return names

    def _left(self, name: str) -> int:
        """How many visits a model may get before it is asked whether it is settled."""
        visits, protocol = len(self.samples[name].cold), self.protocol
        return max(1, (protocol.rounds if visits < protocol.rounds else protocol.most_rounds) - visits)

    def _pass(
        self, names: Sequence[str], keep: Callable[[str, Samples], None] | None, progress: MeasuringProgress | None
    ) -> None:
        """Some rounds over all of `names`, in groups that fit into the memory."""
        rounds = min(ROUNDS_PER_PASS, *map(self._left, names))
        batches = list(_batches(names, self.models, self._memory_mb))
        expected = max(self._done + len(names) * rounds, len(self.models) * self.protocol.rounds)
        if self.protocol.reopen is not None and self._rounds_open >= self.protocol.reopen:
            self._close(self._open)
            self._rounds_open = 0
        self._rounds_open += rounds
        for batch in batches:
            if others := set(self._open) - set(batch):
                self._close(others)
            for name in batch:
                if name not in self._open:
                    self._open[name] = self._subject(name)
            found = {name: Samples() for name in batch}
            for _ in range(rounds):
                order = list(batch)
                self._rng.shuffle(order)
                for first in range(0, len(order), STRETCH):
                    stretch = order[first : first + STRETCH]
                    self._visit(stretch, found)
                    self._done += len(stretch)
                    if progress:
                        progress(self._done, expected, f"{len(names)} models")
            for name, samples in found.items():
                self.samples[name].add(samples)
                if keep:
                    keep(name, samples)

    def _close(self, names: Collection[str]) -> None:
        for name in list(names):
            del self._open[name]
        _return_memory()

    def _subject(self, name: str) -> Subject:
        try:
            return Subject(self.models[name], self.runtime, self._feeds)
        except Refused:
            raise
        except Exception as error:
            raise Refused(f"ONNX Runtime cannot run model {name}: {str(error)[:300]}; export it again") from error

    def _visit(self, names: Sequence[str], found: Mapping[str, Samples]) -> None:
        """One visit of each, with the reference kernel before and after."""
        before = self.reference.run()
        for name in names:
            subject, samples = self._open[name], found[name]
            runs = [subject.run() for _ in range(1 + self.protocol.warm)]
            samples.cold.append(runs[0])
            samples.warm.extend(runs[1:])
            self.inside_ns += sum(run.wall for run in runs)
        if max(before, self.reference.run()) > self.reference.limit:
            for name in names:
                found[name].disturbed.append(len(found[name].cold) - 1)


# The script of a kit


def cores_of(text: str) -> set[int]:
    """The cores that a list like 0,4-7 names.

    Raises:
        Refused: it is no such list.
    """
    try:
        spans = [part.split("-") for part in text.split(",")]
        return {core for span in spans for core in range(int(span[0]), int(span[-1]) + 1)}
    except ValueError as error:
        raise Refused(f"--cpus {text!r} is no list of cores such as 0,4-7") from error


def cores_text(cores: set[int]) -> str:
    """The one way to write a set of cores, such as 0,4-7."""
    spans: list[list[int]] = []
    for core in sorted(cores):
        if spans and core == spans[-1][1] + 1:
            spans[-1][1] = core
        else:
            spans.append([core, core])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def pin(text: str) -> None:
    """Run on these cores only; "0,4-7" names five.

    Raises:
        Refused: there are no such cores, or the system cannot pin.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise Refused(f"{platform.system()} cannot pin a process to cores from here; leave --cpus out")
    try:
        os.sched_setaffinity(0, cores_of(text))
    except OSError as error:
        raise Refused(
            f"--cpus {text}: {error.strerror}; this device has cores 0 to {(os.cpu_count() or 1) - 1}"
        ) from error


def make_weights(folder: Path) -> None:
    """The file that all models take their weights from: values of a trained network's size, none of them denormal."""
    path = folder / WEIGHTS
    if path.exists() and path.stat().st_size == WEIGHT_BYTES:
        return
    values = np.random.default_rng(0).standard_normal(WEIGHT_BYTES // 4, dtype=np.float32) * np.float32(0.05)
    draft = folder / (WEIGHTS + ".tmp")
    draft.write_bytes(values.tobytes())
    os.replace(draft, path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _models(folder: Path, units: Mapping[str, Mapping[str, Any]]) -> dict[str, Model]:
    """The models that a manifest names, each checked against its hash."""
    models = {}
    for name, unit in units.items():
        if not re.fullmatch(r"models/[A-Za-z0-9_-]{1,80}\.onnx", unit["file"]):
            raise Refused(f"the manifest names {unit['file'][:100]!r}, which is no model of a kit")
        path = folder / unit["file"]
        if not path.exists() or _sha256(path) != unit["sha256"]:
            raise Refused(f"{path.name} is missing or is not what the manifest says; unpack the kit again")
        shape = unit.get("shape")
        models[name] = Model(str(path), int(unit["bytes"]), None if shape is None else tuple(map(int, shape)))
    return models


def _refused(models: Mapping[str, Model], runtime: Runtime) -> dict[str, str]:
    """Why models that came with a shape, and so are none of ours, cannot be run here; nothing else waits for them."""
    refused = {}
    for name, model in models.items():
        if model.shape is not None:
            try:
                Subject(model, runtime, np.random.default_rng(0))
            except Exception as error:  # noqa: BLE001 - ONNX Runtime raises many kinds
                said = "".join(letter if letter.isprintable() else " " for letter in str(error))
                refused[name] = " ".join(said.split())[:300] or type(error).__name__
    return refused


class Journal:
    """What was measured so far, a line per model and pass; it belongs to one manifest, runtime and set of cores."""

    def __init__(self, path: Path, identity: str) -> None:
        self._path, self._identity = path, identity

    def read(self, samples: dict[str, Samples], refused: Collection[str] = ()) -> int:
        """Add what an earlier run left, and return how many lines there were; the last one may be torn.

        What is `refused` now may have run before.
        """
        first, *lines = self._path.read_text(encoding="utf-8").split("\n") if self._path.exists() else [""]
        if first not in ("", self._identity):
            raise Refused(
                f"{self._path} belongs to another measurement (kit, threads, provider or cores); move it away first"
            )
        whole: list[str] = []
        for line in lines:
            try:
                row = json.loads(line)
                if row["name"] not in refused:
                    samples[row["name"]].add(_read_samples(row))
            except (ValueError, KeyError, TypeError):
                break  # torn by a power cut; what follows it is none of ours
            whole.append(line)
        # A torn line would swallow the next one.
        replace_text(self._path, "\n".join([self._identity, *whole, ""]))
        return len(whole)

    def append(self, name: str, samples: Samples) -> None:
        """Add the samples of one pass."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, **_write_samples(samples)}) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file so that after a power cut it has the old content or the new."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else measures the kit in this folder meanwhile; where the system has no locks, nothing is promised.

    Raises:
        Refused: somebody does.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"another process is measuring the kit in {folder}; wait for it, or stop it") from error
        yield


def _finished(path: Path, manifest: str, device: Mapping[str, Any]) -> bool:
    """Whether results of just this kit and device are there already."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return bool(found["manifest"] == manifest and found["device"] == device)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_samples(samples: Samples) -> dict[str, list[int]]:
    return {
        "cold_wall_ns": [each.wall for each in samples.cold],
        "cold_cpu_ns": [each.cpu for each in samples.cold],
        "warm_wall_ns": [each.wall for each in samples.warm],
        "warm_cpu_ns": [each.cpu for each in samples.warm],
        "disturbed": samples.disturbed,
    }


def _read_samples(row: Mapping[str, list[int]]) -> Samples:
    def pairs(kind: str) -> list[Sample]:
        return [Sample(wall, cpu) for wall, cpu in zip(row[f"{kind}_wall_ns"], row[f"{kind}_cpu_ns"])]  # noqa: B905 - Python 3.9

    return Samples(pairs("cold"), pairs("warm"), list(row["disturbed"]))


def measure_folder(
    folder: Path,
    runtime: Runtime,
    *,
    cpus: str | None = None,
    anyway: bool = False,
    seconds: float | None = None,
    progress: MeasuringProgress | None = None,
) -> Path:
    """Measure what the manifest in `folder` names, and return the path of the results.

    Units are measured first, whole networks after them: among a thousand other models a network never reaches its
    steady state.

    Raises:
        Refused: the kit is damaged, or the device is in a state that makes it slow.
    """
    with alone_in(folder):
        return _measure_alone(folder, runtime, cpus, seconds, progress, anyway=anyway)


def _measure_alone(
    folder: Path,
    runtime: Runtime,
    cpus: str | None,
    seconds: float | None,
    progress: MeasuringProgress | None,
    *,
    anyway: bool,
) -> Path:
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    manifest, device, path = json.loads(text), describe(runtime, cpus), folder / RESULTS
    if _finished(path, text, device):
        return path  # whoever asked for it did not get it; move it away to measure anew
    state = conditions()
    warnings = warnings_of(state)
    if warnings and not anyway:
        raise Refused(f"{'; '.join(warnings)}. --anyway measures nevertheless and records the warning")
    make_weights(folder / "models")
    protocol = Protocol(**manifest["protocol"])
    limit = protocol.seconds if seconds is None else seconds
    identity = json.dumps([hashlib.sha256(text.encode()).hexdigest(), device], sort_keys=True)
    journal = Journal(folder / JOURNAL, identity)
    groups = [_models(folder, manifest[group]) for group in ("units", "networks")]
    refused = _refused(groups[1], runtime)
    for name in refused:
        del groups[1][name]
    runs = [Measuring(models, runtime, protocol) for models in groups]
    everything: dict[str, Samples] = {name: samples for run in runs for name, samples in run.samples.items()}
    resumed = journal.read(everything, refused)
    if resumed and progress:
        progress(0, 1, f"continuing after {resumed} lines of {JOURNAL}")
    # Networks are few; the calibration needs them all the same.
    shares = (0.8, 0.2) if groups[0] else (0.0, 1.0)
    found = [
        run.run(journal.append, progress, None if limit is None else share * limit)
        for run, share in zip(runs, shares)  # noqa: B905 - Python 3.9
    ]
    results = {
        "format": FORMAT,
        "version": VERSION,
        "manifest": text,
        "device": device,
        "conditions": {**state, "thread_clock": "fine" if runs[0].clock == "cpu" else "not used"},
        "conditions_after": conditions(),
        "warnings": warnings,
        "resumed_lines": resumed,
        "seconds": sum(each.seconds for each in found),
        "seconds_inside": sum(each.seconds_inside for each in found),
        "reference_ns": [ns for each in found for ns in each.reference_ns],
        "unsettled": [name for each in found for name in each.unsettled],
        "samples": {name: _write_samples(samples) for name, samples in everything.items()},
    }
    if refused:
        results["refused"] = refused
    replace_text(path, json.dumps(results))
    (folder / JOURNAL).unlink(missing_ok=True)
    return path


def _show_bar(done: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        share = done / max(total, 1)
        sys.stderr.write(f"\r{'#' * int(40 * share):40} {share:4.0%}  {what}  ")
        sys.stderr.flush()


def _show_lines(done: int, total: int, what: str) -> None:
    sys.stdout.write(json.dumps({"done": done, "total": total, "what": what}) + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script, and return its exit code."""
    parser = argparse.ArgumentParser(description="Measure the models of this kit on this device.")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of ONNX Runtime (default: 1)")
    parser.add_argument("--provider", default=CPU, help=f"execution provider (default: {CPU})")
    parser.add_argument("--optimization", default="all", choices=("disabled", "basic", "extended", "all"))
    parser.add_argument("--cpus", help="cores to run on, such as 4-7")
    parser.add_argument("--seconds", type=float, help="stop repeating measurements after so many seconds")
    parser.add_argument("--anyway", action="store_true", help="measure although the device is throttled")
    parser.add_argument("--describe", action="store_true", help="describe this device, and measure nothing")
    parser.add_argument("--lines", action="store_true", help="progress as lines of JSON, for programs")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.threads < 1:
            raise Refused(f"--threads is {chosen.threads}; give 1 or more")
        if chosen.cpus:
            pin(chosen.cpus)
        runtime = Runtime(chosen.provider, chosen.threads, chosen.optimization)
        if chosen.describe:
            print(json.dumps({"device": describe(runtime, chosen.cpus), "conditions": conditions()}))  # noqa: T201 - it is a program
            return 0
        show = _show_lines if chosen.lines else _show_bar
        path = measure_folder(
            Path(__file__).resolve().parent,
            runtime,
            cpus=chosen.cpus,
            anyway=chosen.anyway,
            seconds=chosen.seconds,
            progress=show,
        )
    except (Refused, OSError, KeyError, ValueError, ImportError) as error:
        sys.stderr.write(f"measure.py: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; start it again to go on\n")
        return 130
    sys.stderr.write(f"\nwrote {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
