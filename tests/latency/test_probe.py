"""The engine: how often models run, what is kept when it stops, and what it says of a device."""

import ast
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency import probe
from latency.kit import Campaign, make_kit
from latency.probe import (
    DriftReference,
    Measuring,
    Model,
    Protocol,
    Refused,
    Runtime,
    Sample,
    Samples,
    cores_of,
    measure_folder,
    relative_width,
    warnings_of,
)
from space.keys import named_keys
from space.networks.onnx_graph import build_graph, random_weights
from tests.strategies import minute_space

KEYS = minute_space().reachable_keys()[:5]
MODELS = {f"m{n}": Model(build_graph({"block": key}, random_weights(0)), 1 << 20) for n, key in enumerate(KEYS)}
QUICK = Protocol(rounds=8, most_rounds=8, warm=2)
# A precision that no interval has: one of equal samples is of no width at all.
NEVER = -1.0


def test_it_runs_where_python_is_old() -> None:
    """The script parses as Python 3.9."""
    ast.parse(Path(probe.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))


def test_every_model_is_visited_as_often_as_asked() -> None:
    """Eight rounds are eight cold runs and, with two warm ones each, sixteen warm runs; progress ends at its total."""
    steps: list[tuple[int, int]] = []
    found = Measuring(MODELS, Runtime(), QUICK).run(progress=lambda done, total, _: steps.append((done, total)))
    assert set(found.samples) == set(MODELS)
    for samples in found.samples.values():
        assert (len(samples.cold), len(samples.warm)) == (8, 16)
        assert min(min(each) for each in samples.cold + samples.warm) > 0
        assert samples.disturbed == sorted(set(samples.disturbed))
        assert all(0 <= visit < 8 for visit in samples.disturbed)
    assert steps[-1][0] == steps[-1][1] == 8 * len(MODELS)
    assert 0 < found.seconds_inside < found.seconds
    assert len(found.reference_ns) == 16  # before and after each stretch


def test_rounds_need_not_be_multiples_of_a_pass() -> None:
    """Six rounds are six visits, and at most seven are seven."""
    found = Measuring(MODELS, Runtime(), Protocol(rounds=6, most_rounds=7, warm=1, precision=NEVER)).run()
    assert {len(samples.cold) for samples in found.samples.values()} == {7}
    found = Measuring(MODELS, Runtime(), Protocol(rounds=6, most_rounds=6, warm=1)).run()
    assert {len(samples.cold) for samples in found.samples.values()} == {6}


def test_a_small_memory_changes_nothing_but_the_groups() -> None:
    """Where only one model fits into the memory at a time, each is visited as often."""
    found = Measuring(MODELS, Runtime(), Protocol(rounds=4, most_rounds=4, warm=1, memory_mb=1)).run()
    assert {len(samples.cold) for samples in found.samples.values()} == {4}


@pytest.mark.parametrize(("reopen", "openings"), [(None, 1), (4, 6), (8, 3), (12, 2), (400, 1)])
def test_models_are_opened_anew_after_so_many_rounds(
    reopen: int | None, openings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 24 rounds every so many are run by sessions of their own, and never are two of a model open."""
    opened: list[str] = []
    measuring = Measuring(MODELS, Runtime(), Protocol(rounds=24, most_rounds=24, warm=1, reopen=reopen))
    open_one = measuring._subject

    def counted(name: str) -> probe.Subject:
        assert name not in measuring._open
        opened.append(name)
        return open_one(name)

    monkeypatch.setattr(measuring, "_subject", counted)
    found = measuring.run()
    assert Counter(opened) == dict.fromkeys(MODELS, openings)
    assert {len(samples.cold) for samples in found.samples.values()} == {24}


@given(st.lists(st.integers(1, 100), min_size=1, max_size=30), st.integers(1, 200))
def test_batches_fit_into_the_memory(sizes: list[int], memory_mb: int) -> None:
    """Every model is in exactly one batch, in order; a batch exceeds the memory only if one model alone does."""
    models = {str(n): Model(b"", size << 20) for n, size in enumerate(sizes)}
    batches = list(probe._batches(list(models), models, memory_mb))
    assert [name for batch in batches for name in batch] == list(models)
    for batch in batches:
        assert len(batch) == 1 or sum(models[name].size for name in batch) <= memory_mb << 20


def test_unsettled_models_are_visited_more() -> None:
    """A model is visited until its interval is narrow, at most as often as allowed, and named where it is not."""
    never = Protocol(rounds=4, most_rounds=12, warm=1, precision=NEVER)
    found = Measuring(MODELS, Runtime(), never).run()
    assert set(found.unsettled) == set(MODELS)
    assert {len(samples.cold) for samples in found.samples.values()} == {12}
    at_once = Measuring(MODELS, Runtime(), Protocol(rounds=4, most_rounds=12, warm=1, precision=1e12)).run()
    assert not at_once.unsettled
    assert {len(samples.cold) for samples in at_once.samples.values()} == {4}


def test_the_time_ends_all_but_the_least() -> None:
    """With no time left every model still gets four visits, so that a table is whole, and all that is wide is named."""
    protocol = Protocol(rounds=40, most_rounds=400, warm=1, precision=NEVER, seconds=0)
    found = Measuring(MODELS, Runtime(), protocol).run()
    assert {len(samples.cold) for samples in found.samples.values()} == {4}
    assert set(found.unsettled) == set(MODELS)


def samples_of(rows: list[list[int]], disturbed: list[int] | None = None) -> Samples:
    """Warm samples by visit, the same on both clocks."""
    warm = [Sample(ns, ns) for row in rows for ns in row]
    return Samples([Sample(1, 1)] * len(rows), warm, disturbed or [])


def test_the_width_is_that_of_the_undisturbed_samples() -> None:
    """Equal samples have no width; one slow visit in ten widens it unless it is marked."""
    rows = [[100, 100, 100] for _ in range(10)]
    assert relative_width(samples_of(rows), "cpu") == 0
    rows[4] = [90, 90, 90]
    assert relative_width(samples_of(rows), "wall") > 0.05
    assert relative_width(samples_of(rows, [4]), "wall") == 0


def test_slow_stretches_are_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the reference kernel takes longer than 1.1 times its quantile, the visits beside it are disturbed."""
    times = iter([100, 100, 100, 100, 100, 150, 100, 100])

    def run(self: DriftReference) -> int:
        self.ns.append(next(times))
        return self.ns[-1]

    monkeypatch.setattr(DriftReference, "run", run)
    found = Measuring(MODELS, Runtime(), Protocol(rounds=4, most_rounds=4, warm=1)).run()
    assert {tuple(samples.disturbed) for samples in found.samples.values()} == {(2,)}


def kit_in(folder: Path, protocol: Protocol = QUICK) -> None:
    """A kit of five blocks and a network."""
    network = minute_space().sample(random.Random(0))
    make_kit(Campaign(blocks=KEYS, networks={"network": network}, protocol=protocol)).write(folder)


class Killed(BaseException):
    """As a power cut, nothing catches it."""


def test_a_measurement_that_was_killed_goes_on(tmp_path: Path) -> None:
    """Whatever was complete is kept, and in the end every model has exactly its visits; the journal is then gone."""
    kit_in(tmp_path)

    def kill(done: int, _total: int, _what: str) -> None:
        if done == 7 * len(KEYS):
            raise Killed

    with pytest.raises(Killed):
        measure_folder(tmp_path, Runtime(), anyway=True, progress=kill)
    journal = tmp_path / probe.JOURNAL
    lines = journal.read_text().splitlines()
    assert len(lines) == 1 + len(KEYS)  # the header, and one pass of four rounds
    journal.write_text("\n".join(lines) + '\n{"name": "block-00')  # a line that was being written
    results = json.loads(measure_folder(tmp_path, Runtime(), anyway=True).read_text())
    assert results["resumed_lines"] == len(KEYS)
    first = json.loads(lines[1])
    kept = results["samples"][first["name"]]
    assert kept["warm_wall_ns"][:8] == first["warm_wall_ns"]
    assert {len(each["cold_wall_ns"]) for each in results["samples"].values()} == {8}
    assert not journal.exists()


def test_a_journal_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Samples taken with two threads do not continue those of one."""
    kit_in(tmp_path)
    (tmp_path / probe.JOURNAL).write_text("another\n")
    with pytest.raises(Refused, match="belongs to another measurement"):
        measure_folder(tmp_path, Runtime(), anyway=True)
    assert (tmp_path / probe.JOURNAL).read_text() == "another\n"


@pytest.mark.parametrize("left", ["", "\n", "half a head"])
def test_a_journal_that_was_just_begun(tmp_path: Path, left: str) -> None:
    """An empty journal, as a power cut leaves it, is none; what is no journal of this kit is refused."""
    kit_in(tmp_path)
    (tmp_path / probe.JOURNAL).write_text(left)
    if left.strip():
        with pytest.raises(Refused, match="belongs to another measurement"):
            measure_folder(tmp_path, Runtime(), anyway=True)
    else:
        assert json.loads(measure_folder(tmp_path, Runtime(), anyway=True).read_text())["resumed_lines"] == 0


def test_finished_results_are_not_measured_again(tmp_path: Path) -> None:
    """Who could not fetch them gets the same ones; another runtime, or moving them away, measures anew."""
    kit_in(tmp_path)
    first = measure_folder(tmp_path, Runtime(), anyway=True).read_text()
    assert measure_folder(tmp_path, Runtime(), anyway=True).read_text() == first
    other = measure_folder(tmp_path, Runtime(graph_optimization="basic"), anyway=True).read_text()
    assert json.loads(other)["device"]["graph_optimization"] == "basic"
    (tmp_path / probe.RESULTS).unlink()
    assert measure_folder(tmp_path, Runtime(), anyway=True).read_text() != first


def test_one_kit_is_measured_by_one_process(tmp_path: Path) -> None:
    """A second process is refused while the first one measures."""
    kit_in(tmp_path)
    with probe.alone_in(tmp_path), pytest.raises(Refused, match="another process is measuring"):
        measure_folder(tmp_path, Runtime(), anyway=True)
    assert measure_folder(tmp_path, Runtime(), anyway=True).exists()


def test_a_damaged_kit_is_refused(tmp_path: Path) -> None:
    """A model that is not what the manifest says, or lies elsewhere, is not run."""
    kit_in(tmp_path)
    model = min((tmp_path / "models").glob("block*.onnx"))
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(Refused, match=f"{model.name} is missing or is not what the manifest says"):
        measure_folder(tmp_path, Runtime(), anyway=True)
    manifest = json.loads((tmp_path / probe.MANIFEST).read_text())
    for file in ("../../etc/passwd", "/etc/passwd", "models/../x.onnx", "models/a.onnx/b", "models/x.txt"):
        manifest["units"]["block-00000"]["file"] = file
        (tmp_path / probe.MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(Refused, match="no model of a kit"):
            measure_folder(tmp_path, Runtime(), anyway=True)


def test_a_throttled_device_is_measured_only_when_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the powersave governor nothing is measured, unless --anyway records the warning."""
    kit_in(tmp_path, Protocol(rounds=1, most_rounds=1, warm=1))
    monkeypatch.setattr(probe, "conditions", lambda: {"governor": "powersave", "driver": "cpufreq-dt"})
    with pytest.raises(Refused, match=r"governor is powersave.*--anyway"):
        measure_folder(tmp_path, Runtime())
    results = json.loads(measure_folder(tmp_path, Runtime(), anyway=True).read_text())
    assert results["warnings"] == ["the frequency governor is powersave; set it to performance"]


def test_what_slows_a_device_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A limited frequency, a hot Raspberry Pi, a phone's battery saver are noticed; Intel's own powersave is normal."""
    assert warnings_of({"governor": "powersave", "driver": "intel_pstate"}) == []
    assert warnings_of({"governor": "performance"}) == []
    limited = {"allowed_frequency_khz": "1500000", "highest_frequency_khz": "2400000"}
    assert "1500000 of 2400000 kHz" in warnings_of(limited)[0]
    monkeypatch.setattr(probe, "_answer", lambda *command: "throttled=0x50005" if command[0] == "vcgencmd" else "1")
    monkeypatch.setenv("ANDROID_ROOT", str(tmp_path))
    assert [line.partition(";")[0] for line in warnings_of({})] == [
        "the firmware reports throttled=0x50005: too hot, or too little power",
        "battery saver is on",
    ]


@pytest.mark.parametrize(
    ("text", "cores"), [("0", {0}), ("4-7", {4, 5, 6, 7}), ("0,2-3", {0, 2, 3}), ("1,1", {1}), ("3-1", set())]
)
def test_lists_of_cores(text: str, cores: set[int]) -> None:
    """A list such as 0,4-7 names cores."""
    assert cores_of(text) == cores


@pytest.mark.parametrize("text", ["", "a", "1-", "-", "1;2", "1-2-x"])
def test_what_is_no_list_of_cores(text: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(Refused, match="no list of cores"):
        cores_of(text)


@given(st.sets(st.integers(0, 40), min_size=1))
def test_a_set_of_cores_is_written_one_way(cores: set[int]) -> None:
    """What is written names the same cores, so that 4-7 and 4,5,6,7 are one device."""
    assert cores_of(probe.cores_text(cores)) == cores
    assert probe.describe(Runtime(), "4,5,6,7")["processor"] == probe.describe(Runtime(), "4-7")["processor"]


def test_cores_that_do_not_exist_are_refused() -> None:
    """Pinning to core 5000 says which cores there are."""
    with pytest.raises(Refused, match="this device has cores 0 to"):
        probe.pin("5000")


def test_a_coarse_thread_clock_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks every 15 ms, or none, leaves the wall clock; so do two threads and other providers."""
    assert probe.clock_of(Runtime()) == ("cpu" if probe.thread_clock_is_fine() else "wall")
    assert probe.clock_of(Runtime(threads=2)) == "wall"
    assert probe.clock_of(Runtime(provider="CUDAExecutionProvider")) == "wall"
    monkeypatch.setattr(time, "thread_time_ns", lambda: time.perf_counter_ns() // 15_600_000 * 15_600_000)
    assert not probe.thread_clock_is_fine()
    monkeypatch.delattr(time, "thread_time_ns")
    assert not probe.thread_clock_is_fine()


def test_inputs_are_made_up() -> None:
    """Open sides are 1 for the batch and else asked for; integers are zeros; a text cannot be made up."""

    class Entry:
        name = "x"

        def __init__(self, kind: str, shape: list[object]) -> None:
            self.type, self.shape = kind, shape

    rng = np.random.default_rng(0)
    made = probe._random_input(Entry("tensor(float)", ["batch", 3, 8, 8]), None, rng)
    assert made.shape == (1, 3, 8, 8)
    assert made.dtype == np.float32
    assert probe._random_input(Entry("tensor(float16)", [None, 3]), (2, 3), rng).shape == (2, 3)
    assert not probe._random_input(Entry("tensor(int64)", [4]), None, rng).any()
    assert probe._random_input(Entry("tensor(float)", []), None, rng).shape == ()
    with pytest.raises(Refused, match=r"open shape .*--shape"):
        probe._random_input(Entry("tensor(float)", [1, 3, "h", "w"]), None, rng)
    with pytest.raises(Refused, match="has 2 sides"):
        probe._random_input(Entry("tensor(float)", [1, 3]), (1, 3, 4), rng)
    with pytest.raises(Refused, match="only numeric inputs"):
        probe._random_input(Entry("tensor(string)", [1]), None, rng)


def test_a_whole_network_runs_from_its_file(tmp_path: Path) -> None:
    """A model is given as bytes or as a file."""
    graph = build_graph(named_keys(minute_space().reference), random_weights(0))
    path = tmp_path / "model.onnx"
    path.write_bytes(graph)
    models = {"bytes": Model(graph, 1), "file": Model(str(path), 1)}
    found = Measuring(models, Runtime(), Protocol(rounds=2, most_rounds=2, warm=1)).run()
    assert {len(samples.warm) for samples in found.samples.values()} == {2}
    path.write_bytes(b"no model")
    with pytest.raises(Refused, match="cannot run model file"):
        Measuring({"file": Model(str(path), 1)}, Runtime(), QUICK).run()


def test_a_shape_that_the_model_does_not_have_is_refused() -> None:
    """A fixed side is not measured under another one's name; a shape that agrees is no contradiction."""

    class Entry:
        """An input of a model."""

        name, type = "x", "tensor(float)"

        def __init__(self, shape: list[object]) -> None:
            self.shape = shape

    rng = np.random.default_rng(0)
    with pytest.raises(Refused, match="input x is fixed at 1x3x32x32, not 64x3x32x32"):
        probe._random_input(Entry([1, 3, 32, 32]), (64, 3, 32, 32), rng)
    with pytest.raises(Refused, match=r"input x is fixed at \?x3x32x32, not 1x3x48x192"):
        probe._random_input(Entry(["batch", 3, 32, 32]), (1, 3, 48, 192), rng)
    assert probe._random_input(Entry([1, 3, 32, 32]), (1, 3, 32, 32), rng).shape == (1, 3, 32, 32)
    assert probe._random_input(Entry(["batch", 3, 32, 32]), (64, 3, 32, 32), rng).shape == (64, 3, 32, 32)


def test_several_threads_have_the_cpus_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two threads `cores` are the usable CPUs, so that one CPU and two are two devices; with one it stays."""
    monkeypatch.setattr(probe, "usable_cpus", lambda: 3)
    assert probe.describe(Runtime(threads=2))["cores"] == 3
    assert probe.describe(Runtime())["cores"] == (os.cpu_count() or 1)
    monkeypatch.setattr(probe, "usable_cpus", lambda: 1)
    with pytest.raises(Refused, match="2 threads were asked for, but this process may use 1 CPU; ask for fewer"):
        probe.describe(Runtime(threads=2))
    assert probe.describe(Runtime())["cores"] == (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, 8),
        ({"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/cpu.max": "100000 100000"}, 1),
        ({"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/b/cpu.max": "1 100000"}, 1),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            8,
        ),
        ({"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "9900000 100000"}, 8),
    ],
)
def test_quotas_of_control_groups_count(files: dict[str, str], cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both versions, rounded up, of this group and those above it, and never more than the affinity."""
    monkeypatch.setattr(probe, "read_text", files.get)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert probe.usable_cpus() == cpus
