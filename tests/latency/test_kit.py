"""Kits and what comes back from them: whole, small, checked, and run by a Python that knows nothing of mobilenas."""

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency import probe
from latency.collect import campaign_for, table_from
from latency.kit import KIT_MEMORY_MB, Campaign, NetworkGraph, OtherModel, make_kit, measure_options
from latency.meter import LocalMeter
from latency.probe import Protocol, Runtime
from latency.results import read_results, read_results_file
from space.choices import SearchSpace
from space.errors import InvalidResults
from space.keys import named_keys
from space.networks.onnx_graph import build_graph, random_weights
from space.preset import load_preset
from tests.classifiers import classifier
from tests.mutations import mutated
from tests.strategies import small_space

ONCE = Protocol(rounds=1, most_rounds=1, warm=1, memory_mb=200)
SPACE = small_space()


@cache
def results_text() -> str:
    """Results of a kit for a whole table of this machine, measured once."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        make_kit(campaign_for(SPACE, ONCE, {}, for_kit=True)).write(Path(folder))
        return probe.measure_folder(Path(folder), Runtime(), anyway=True).read_text()


def test_a_kit_is_its_content() -> None:
    """The same campaign makes the same kit, byte for byte; another protocol another one."""
    campaign = Campaign(blocks=SPACE.reachable_keys(), protocol=ONCE)
    assert make_kit(campaign) == make_kit(campaign)
    other = Campaign(blocks=SPACE.reachable_keys(), protocol=Protocol())
    assert make_kit(other).id != make_kit(campaign).id


def test_models_of_a_kit_are_small_and_old_enough() -> None:
    """Opset 17, IR 8, some KB each: their weights lie in a file that the device makes."""
    kit = make_kit(campaign_for(SPACE, ONCE, {}, for_kit=True))
    for file, content in kit.models.items():
        model = onnx.load_model_from_string(content)
        assert (model.ir_version, [opset.version for opset in model.opset_import]) == (8, [17])
        external = [tensor for tensor in model.graph.initializer if tensor.external_data]
        assert external, file
        for tensor in external:
            where = {entry.key: entry.value for entry in tensor.external_data}
            assert where["location"] == probe.WEIGHTS
            assert int(where["offset"]) % 4096 == 0
            assert int(where["offset"]) + int(where["length"]) <= probe.WEIGHT_BYTES
        assert len(content) < 100_000


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell a process's peak memory")
def test_the_kit_of_the_largest_space_fits(tmp_path: Path) -> None:
    """MobileNetV3-Large's space at 224 px makes a kit below 50 MB, which is measured in less than 1 GB of memory."""
    preset = load_preset("mobilenet-v3-large")
    space = SearchSpace(preset=preset, width=1.0, resolution=224, in_channels=3, num_classes=1000)
    once = replace(ONCE, memory_mb=KIT_MEMORY_MB)
    make_kit(campaign_for(space, once, {}, for_kit=True)).write_zip(tmp_path / "kit.zip")
    assert (tmp_path / "kit.zip").stat().st_size < 50e6
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        archive.extractall(tmp_path)
    # The peak of getrusage would be this process's own, where that is higher.
    watched = (
        "import runpy, sys; sys.argv = ['measure.py', '--anyway']\n"
        f"try: runpy.run_path({str(tmp_path / 'kit' / 'measure.py')!r}, run_name='__main__')\n"
        "finally: print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000_000  # kB


def test_a_kit_runs_on_its_own(tmp_path: Path) -> None:
    """Unzipped anywhere and started by a Python that sees no package of ours, it writes results that make a table."""
    make_kit(campaign_for(SPACE, ONCE, {}, for_kit=True)).write_zip(tmp_path / "kit.zip")
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        archive.extractall(tmp_path)
    # -I: neither the current folder nor PYTHONPATH; and where our packages are found, nobody looks.
    blind = (
        "import os, runpy, sys; sys.path = [p for p in sys.path if not os.path.exists(p + '/latency/probe.py')]; "
        f"sys.argv = ['measure.py', '--anyway', '--lines']; "
        f"runpy.run_path({str(tmp_path / 'kit' / 'measure.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", blind], capture_output=True, text=True, check=False, timeout=1200, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said[-1]["done"] == said[-1]["total"]
    found = table_from(read_results((tmp_path / "kit" / "results.json").read_text(), "desk"))
    assert set(found.table.entries) == set(SPACE.reachable_keys())
    assert found.table.device == LocalMeter("desk").device
    assert len(found.held_out) == 30
    assert set(found.conditions["published_networks_ms"]) == {
        "mobilenet_v2",
        "mobilenet_v3_large",
        "mobilenet_v3_large_minimalistic",
        "mobilenet_v3_small",
    }


OLD_RUNTIME = Path(__file__).parents[2] / ".venv-old-runtime" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not OLD_RUNTIME.exists(), reason="ONNX RUNTIME 1.15 MISSING; run: make oracles")
def test_a_kit_runs_on_an_old_runtime(tmp_path: Path) -> None:
    """ONNX Runtime 1.15 and an old numpy measure every block; what they tell is a table of another device."""
    make_kit(campaign_for(SPACE, ONCE, {}, for_kit=True)).write(tmp_path)
    done = subprocess.run(
        [OLD_RUNTIME, tmp_path / "measure.py", "--anyway"], capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    table = table_from(read_results((tmp_path / "results.json").read_text(), "desk")).table
    assert set(table.entries) == set(SPACE.reachable_keys())
    assert table.device.runtime_version == "1.15.1"
    assert table.device.fingerprint != LocalMeter("desk").device.fingerprint


def test_the_script_tells_what_is_wrong(tmp_path: Path) -> None:
    """No manifest, no such core, no such provider: one line on stderr, exit code 2."""
    script = tmp_path / "measure.py"
    script.write_bytes(Path(probe.__file__).read_bytes())
    for options in (["--anyway"], ["--cpus", "x"], ["--provider", "NoExecutionProvider"], ["--threads", "0"]):
        done = subprocess.run(
            [sys.executable, script, *options], capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 2, options
        assert done.stderr.startswith("measure.py: ")
        assert len(done.stderr.strip().splitlines()) == 1


def test_trained_networks_travel_with_their_weights(tmp_path: Path) -> None:
    """An exported network is measured as it is, and its hash comes back."""
    arch = SPACE.sample(random.Random(0))
    graph = build_graph(named_keys(arch), random_weights(1))
    purpose = {"kind": "certify", "search": "mine"}
    found = NetworkGraph(architecture=arch, graph=graph)
    campaign = Campaign(networks={"found": found}, protocol=ONCE, purpose=purpose)
    kit = make_kit(campaign)
    results = LocalMeter("here", workspace=tmp_path).run(campaign)
    assert results.networks["found"].architecture == arch
    assert results.networks["found"].sha256 == kit.networks()["found"]["sha256"]
    assert [path.name for path in tmp_path.iterdir()] == ["measuring.lock"]


@pytest.mark.parametrize(("side", "channels_last"), [(24, False), ("side", True)])
def test_networks_of_others_are_measured_among_ours(tmp_path: Path, side: int | str, *, channels_last: bool) -> None:
    """Of them only the file is known, and the shape of its input, which may leave sides open; the file is as it was."""
    graph = classifier(tmp_path / "mine.onnx", side=side, batch="batch", channels_last=channels_last).read_bytes()
    shape = (1, 24, 24, 3) if channels_last else (1, 3, 24, 24)
    ours = {"found": SPACE.sample(random.Random(0))}
    campaign = Campaign(networks=ours, others={"present": OtherModel(graph=graph, shape=shape)}, protocol=ONCE)
    make_kit(campaign).write_zip(tmp_path / "kit.zip")
    results = LocalMeter("here", workspace=tmp_path / "work").run(campaign)
    assert results.networks["found"].architecture == ours["found"]
    assert results.others["present"].sha256 == hashlib.sha256(graph).hexdigest()
    assert len(results.others["present"].measurement.warm_wall) == len(results.networks["found"].measurement.warm_wall)
    with zipfile.ZipFile(tmp_path / "kit.zip") as archive:
        assert archive.read("kit/models/present.onnx") == graph


def test_a_network_of_others_that_cannot_be_run_there_holds_nothing_up(tmp_path: Path) -> None:
    """The device says why, and measures the rest; of our own networks none may be left out."""
    ours = {"found": SPACE.sample(random.Random(0))}
    wrong = OtherModel(graph=b"of a later version", shape=(1, 3, 24, 24))
    campaign = Campaign(networks=ours, others={"present": wrong}, protocol=ONCE)
    make_kit(campaign).write(tmp_path / "kit")
    path = probe.measure_folder(tmp_path / "kit", Runtime(), anyway=True)
    results = read_results(path.read_text(), "here")
    assert set(results.networks) == {"found"}
    assert not results.others
    assert "protobuf" in results.refused["present"].lower()
    content = json.loads(path.read_text())
    content["refused"] |= {"found": "no time"}
    del content["samples"]["found"]
    with pytest.raises(InvalidResults, match="found was not run"):
        read_results(json.dumps(content), "here")


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    """The results with one change."""
    content = json.loads(results_text())
    change(content)
    return json.dumps(content)


def in_manifest(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    """A change of the manifest inside."""

    def apply(content: dict[str, Any]) -> None:
        manifest = json.loads(content["manifest"])
        change(manifest)
        content["manifest"] = json.dumps(manifest)

    return apply


FIRST = "block-00000"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c.pop("samples"), "samples: Field required"),
        (lambda c: c.update(surplus=1), "surplus: Extra inputs"),
        (lambda c: c.update(format="other"), "format"),
        (lambda c: c.update(version=2), "version"),
        (lambda c: c["samples"].pop(FIRST), f"lack 1 models, such as {FIRST}"),
        (lambda c: c["samples"].update(more=c["samples"][FIRST]), "hold, beside what was asked for, 1 models"),
        (lambda c: c["samples"][FIRST]["cold_wall_ns"].append(1), "has 2 cold samples but 1 warm"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=[-5]), "greater than or equal to 1"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=[0]), "greater than or equal to 1"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=[float("nan")]), "warm_wall_ns.0"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=[float("inf")]), "warm_wall_ns.0"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=[1.5]), "warm_wall_ns.0"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=["1"]), "warm_wall_ns.0"),
        (lambda c: c["samples"][FIRST].update(warm_wall_ns=[10**30]), "warm_wall_ns.0"),
        (lambda c: c["samples"][FIRST].update(disturbed=[7]), "disturbed visits that it does not have"),
        (lambda c: c.update(seconds=float("nan")), "seconds"),
        (lambda c: c["device"].update(threads="one"), "threads is wrong"),
        (lambda c: c["device"].pop("processor"), "processor"),
        (lambda c: c.update(device=[]), "device"),
        (lambda c: c.update(warnings=["\x1b[2J"]), "warnings.0"),
        (lambda c: c["conditions"].update(governor="x" * 5000), "conditions"),
        (lambda c: c.update(unsettled=["block-99999"]), "unsettled models hold"),
        (lambda c: c.update(manifest="{"), "manifest"),
        (in_manifest(lambda m: m["units"].pop(FIRST)), "hold, beside what was asked for, 1 models"),
        (in_manifest(lambda m: m["units"][FIRST].update(key="block 1")), "names no block"),
        (in_manifest(lambda m: m["units"][FIRST].pop("key")), "does not say what block"),
        (in_manifest(lambda m: m["units"][FIRST].update(sha256="0" * 64)), "measured with another model"),
        (in_manifest(lambda m: m["units"][FIRST].update(key=m["units"]["block-00001"]["key"])), "another model"),
        (in_manifest(lambda m: m["units"]["block-00001"].update(m["units"][FIRST])), "names a block twice"),
        (in_manifest(lambda m: m["networks"].update({FIRST: m["networks"]["calibration-00"]})), "the same name"),
        (in_manifest(lambda m: m["networks"]["calibration-00"].pop("architecture")), "does not say what network"),
        (in_manifest(lambda m: m["networks"]["calibration-00"]["architecture"].update(resolution=-1)), "resolution"),
        (in_manifest(lambda m: m["networks"]["calibration-00"].update(sha256="0" * 64)), "with another model"),
        (in_manifest(lambda m: m["protocol"].update(rounds=4)), "visited 1 times only"),
        (in_manifest(lambda m: m["protocol"].update(warm=0)), "protocol.warm"),
        (in_manifest(lambda m: m.update(version=9)), "version"),
    ],
)
def test_damaged_results_are_refused(change: Callable[[dict[str, Any]], object], fault: str) -> None:
    """Sizes, hashes, names, NaN, negative, missing and surplus: each gives an error that says what is wrong."""
    with pytest.raises(InvalidResults, match=fault):
        read_results(changed(change), "pi")


@settings(max_examples=300)
@given(st.data())
def test_no_mutation_breaks_the_reader(data: st.DataObject) -> None:
    """However results or the manifest in them are mutated, they are read or refused; nothing else is raised."""
    text = results_text()
    if data.draw(st.booleans()):
        content = json.loads(text)
        content["manifest"] = mutated(content["manifest"], data)
        text = json.dumps(content)
    else:
        text = mutated(text, data)
    try:
        read_results(text, "pi")
    except InvalidResults as error:
        assert str(error)  # noqa: PT017 - it may also be read


def test_a_kit_is_measured_as_its_device_was_added() -> None:
    """The printed options are those that differ from the script's own, cores as the processor's name has them."""
    assert measure_options(Runtime()) == ""
    runtime = Runtime("XnnpackExecutionProvider", 2, "basic")
    expected = " --threads 2 --provider XnnpackExecutionProvider --optimization basic --cpus 0,4-7"
    assert measure_options(runtime, "Cortex-A76, cores 0,4-7") == expected


def test_texts_that_are_no_results_are_refused() -> None:
    """Nothing, other JSON, deep nesting, and endless texts."""
    for text in ("", "[]", "null", "1", "{}", '{"a":' * 100_000, "\x00"):
        with pytest.raises(InvalidResults):
            read_results(text, "pi")
    with pytest.raises(InvalidResults, match="at most"):
        read_results(" " * (256 << 20) + " ", "pi")


def zipped(path: Path, **files: str) -> Path:
    """A zip file with these members; __ stands for / and ___ for ..; dots are written as dots."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_kit_that_was_zipped_again_is_read(tmp_path: Path) -> None:
    """With or without its folder, results.json is found in it."""
    text = results_text()
    manifest = json.loads(text)["manifest"]
    for prefix in ("", "kit/"):
        files = {f"{prefix}results.json": text, f"{prefix}manifest.json": manifest, f"{prefix}measure.py": ""}
        files |= {f"{prefix}lock": "", "__MACOSX/kit/._lock": "", "kit/.DS_Store": ""}
        assert read_results_file(zipped(tmp_path / "kit.zip", **files)) == text


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"kit/measure.py": ""}, "holds no results.json"),
        ({"kit/../results.json": "{}"}, "no part of a kit"),
        ({"../results.json": "{}"}, "no part of a kit"),
        ({"/results.json": "{}"}, "no part of a kit"),
        ({"kit/results.json": "{}", "kit/evil.sh": ""}, "no part of a kit"),
        ({"kit/results.json": "{}", "kit/models/../../x.onnx": ""}, "no part of a kit"),
        ({"kit/results.json": "{}", "other/results.json": "{}"}, "twice"),
        ({"kit/results.json": "{}", "kit/manifest.json": "{}"}, "results: "),
    ],
)
def test_zip_files_from_outside_are_checked(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    """Paths that escape, members that belong to no kit, and results of another manifest are refused."""
    with pytest.raises(InvalidResults, match=fault):
        read_results_file(zipped(tmp_path / "kit.zip", **files))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing file, a folder, bytes, a damaged zip file and the results of another kit."""
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "folder.json").mkdir()
    for name in ("missing.json", "bytes.json", "bad.zip", "folder.json", "missing.zip"):
        with pytest.raises(InvalidResults, match=name):
            read_results_file(tmp_path / name)
    text = results_text()
    other = zipped(tmp_path / "kit.zip", **{"results.json": text, "manifest.json": "{}"})
    with pytest.raises(InvalidResults, match="belongs to another kit"):
        read_results_file(other)


def test_a_device_without_a_fine_thread_clock_has_wall_times() -> None:
    """On Windows, with GPUs and with several threads, CPU samples are those of the wall clock."""
    whole = read_results(changed(lambda c: c["conditions"].update(thread_clock="not used")), "pi")
    for found in whole.blocks.values():
        assert found.warm_cpu == found.warm_wall
        assert found.cold_cpu == found.cold_wall
