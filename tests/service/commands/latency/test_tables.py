"""The commands of `latency` and `device`, on real kernels of a small space."""

import contextlib
import json
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import onnx
import pytest
import yaml

from latency import probe
from latency.collect import needed_keys
from latency.meter import LocalMeter
from latency.results import read_results
from latency.table import LatencyTable
from search.record.store import Store
from space.choices import SearchSpace
from space.keys import BlockKey, named_keys, parse_key
from space.networks.onnx_graph import build_graph, random_weights
from space.preset import load_preset
from space.variation.scaling import scaled_references
from tests.tiny import TINY_SPACE, Result

# How well a table of four rounds predicts is not what these tests are about.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("any_table_will_do")]

Run = Callable[..., Result]
SIZES = ("--width", "0.25", "--resolution", "16", "--classes", "4", "--in-channels", "1")
FAST = ("--rounds", "4", "--precision", "9")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the small space in it; kits that are measured lie in it too."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY_SPACE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOBILENAS_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def run(mobilenas: Run, folder: Path) -> Run:
    """The command line on a record of the test's own."""

    def call(*arguments: str | Path) -> Result:
        return mobilenas(*arguments, "--database", f"sqlite:///{folder / 'record.db'}")

    return call


SPACE = ("--space", "tiny.yaml", *SIZES)


def space_here() -> SearchSpace:
    """The small space as the options name it."""
    return SearchSpace(preset=load_preset("tiny.yaml"), width=0.25, resolution=16, in_channels=1, num_classes=4)


def stored(folder: Path, name: str = "local") -> LatencyTable:
    """The newest recorded table of a device."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        found = store.tables.newest(name, space_here().scope)
    assert found is not None
    return found[1]


def test_a_table_is_measured_once(run: Run, folder: Path) -> None:
    """The cost is said first; a second time there is nothing to measure; the device's page has the conditions."""
    done = run("latency", "collect", *SPACE, *FAST)
    assert done.code == 0, done.err
    blocks = len(space_here().reachable_keys())
    assert f"to measure on 'local': {blocks} blocks, about" in done.out
    assert re.search(r"calibrated on \d+ whole networks, mean error", done.out)
    assert "the networks of the space take" in done.out
    assert len(stored(folder).entries) == blocks
    again = run("latency", "collect", *SPACE, *FAST)
    assert "nothing to measure" in again.out
    anew = run("latency", "collect", *SPACE, *FAST, "--anew")
    assert f"({blocks} measured now" in anew.out
    shown = run("device", "show", "local").out
    assert "seconds_inside" in shown
    assert f"{blocks} blocks" in shown
    plain = json.loads(run("device", "show", "local", "--format", "json").out)
    assert {"kernel", "date", "thread_clock", "reference_drift"} <= set(plain["tables"][0]["conditions"])
    assert not [path for path in (folder / "cache" / "kits").iterdir() if path.is_dir()]


def kit_keys() -> set[BlockKey]:
    """The blocks of the space, and those of its reference at smaller widths, which a search would be compared with."""
    space = space_here()
    return set(needed_keys(space, tuple(scaled_references(space, 0.05).values())))


def test_a_kit_for_nobody_in_particular_measures_all(run: Run) -> None:
    """Without a device, a kit rests on no table of this machine; a folder is no file to write."""
    assert run("latency", "collect", *SPACE, *FAST).code == 0
    made = run("latency", "bundle", *SPACE, *FAST, "--out", "kit.zip")
    assert made.code == 0, made.err
    assert f"{len(kit_keys())} blocks" in made.out
    assert "mobilenas device add NAME kit" in made.out
    for out in (".", "/"):
        refused = run("latency", "bundle", *SPACE, *FAST, "--out", out)
        assert (refused.code, "is a folder" in refused.err) == (2, True)


def test_only_what_is_missing_is_measured(run: Run, folder: Path) -> None:
    """A space with one more choice on the same device measures that choice's blocks, beside some known ones."""
    assert run("latency", "collect", *SPACE, *FAST).code == 0
    before = stored(folder).entries
    wider = json.loads(json.dumps(TINY_SPACE))
    wider["stages"][1]["kernel"] = [3, 5]
    (folder / "tiny.yaml").write_text(yaml.safe_dump(wider))
    done = run("latency", "collect", *SPACE, *FAST)
    assert done.code == 0, done.err
    after = stored(folder).entries
    new = set(after) - set(before)
    assert new
    assert all(key.block.kernel_size == 5 for key in new if hasattr(key, "block"))
    assert f"({len(new)} measured now" in done.out
    assert all(after[key] == before[key] for key in before if key in after)


def test_a_kit_and_its_results(run: Run, folder: Path) -> None:
    """Made for a device that is reached by kit, run there, imported: a table with its validation."""
    assert run("device", "add", "phone", "kit").code == 0
    made = run("latency", "bundle", "--device", "phone", *SPACE, *FAST, "--out", "kit.zip")
    assert made.code == 0, made.err
    assert re.search(r"kit\.zip: [\d.]+ MB, \d+ blocks, about [\d.]+ min, and \d+ whole networks", made.out)
    refused = run("latency", "collect", "--device", "phone", *SPACE)
    assert refused.code == 2
    assert "reached by kit" in refused.err
    with zipfile.ZipFile("kit.zip") as archive:
        archive.extractall()
    done = subprocess.run(
        [sys.executable, "kit/measure.py", "--anyway"], capture_output=True, check=False, timeout=1200
    )
    assert done.returncode == 0, done.stderr
    nameless = run("latency", "import", "kit/results.json")
    assert (nameless.code, "--device" in nameless.err) == (2, True)
    taken = run("latency", "import", "kit/results.json", "--device", "phone")
    assert taken.code == 0, taken.err
    assert "networks that its fit has not seen" in taken.out
    assert set(stored(folder, "phone").entries) == kit_keys()
    complete = run("latency", "bundle", "--device", "phone", *SPACE, *FAST, "--out", "again.zip")
    assert (complete.code, "--anew" in complete.err) == (2, True)
    wider = json.loads(json.dumps(TINY_SPACE))
    wider["stages"][1]["kernel"] = [3, 5]
    (folder / "wider.yaml").write_text(yaml.safe_dump(wider))
    more = run("latency", "bundle", "--device", "phone", "--space", "wider.yaml", *SIZES, *FAST, "--out", "more.zip")
    assert more.code == 0, more.err
    with zipfile.ZipFile("more.zip") as archive:
        entries = json.loads(archive.read("more/manifest.json"))["units"].values()
    missing = [entry["key"] for entry in entries if parse_key(entry["key"]) not in stored(folder, "phone").entries]
    assert 0 < len(missing) < len(entries)
    validated = run("latency", "validate", "--device", "phone", *SPACE, "--format", "json")
    plain = json.loads(validated.out)
    assert plain["wall"]["networks"] == len([name for name in read_kit_networks() if name.startswith("holdout")])
    assert "published_networks_ms" in run("device", "show", "phone").out
    listed = json.loads(run("device", "list", "--format", "json").out)
    assert [(row["name"], row["address"], row["tables"]) for row in listed] == [("phone", "kit", 1)]


def read_kit_networks() -> list[str]:
    """The names of the networks in the unpacked kit."""
    return list(json.loads(Path("kit/manifest.json").read_text(encoding="utf-8"))["networks"])


def test_damaged_results_change_nothing(run: Run, folder: Path) -> None:
    """One line, exit code 2, and no device or table in the record."""
    assert run("latency", "bundle", "--device", "phone", *SPACE, *FAST, "--out", "kit.zip").code == 0
    with zipfile.ZipFile("kit.zip") as archive:
        archive.extractall()
    probe.measure_folder(folder / "kit", probe.Runtime(), anyway=True)
    text = (folder / "kit" / "results.json").read_text()
    content = json.loads(text)
    content["samples"].pop("block-00000")
    for bad in ("{}", "[]", "", text[:-5], json.dumps(content)):
        Path("bad.json").write_text(bad, encoding="utf-8")
        done = run("latency", "import", "bad.json", "--device", "phone")
        assert done.code == 2
        assert len(done.err.strip().splitlines()) == 1
    assert json.loads(run("device", "list", "--format", "json").out) == []
    missing = run("latency", "import", "nowhere.json", "--device", "phone")
    assert "nowhere.json cannot be read" in missing.err


def test_results_of_other_settings_are_refused(run: Run, folder: Path) -> None:
    """A device that was added with two threads takes no results of one."""
    assert run("device", "add", "phone", "kit", "--threads", "2").code == 0
    assert run("latency", "bundle", "--device", "phone", *SPACE, *FAST, "--out", "kit.zip").code == 0
    with zipfile.ZipFile("kit.zip") as archive:
        archive.extractall()
    probe.measure_folder(folder / "kit", probe.Runtime(), anyway=True)
    done = run("latency", "import", "kit/results.json", "--device", "phone")
    assert done.code == 2
    assert "but 'phone' was added with CPUExecutionProvider, 2 and all" in done.err


def test_a_table_is_handed_to_a_colleague(run: Run, folder: Path) -> None:
    """Exported and imported under another name it has the same blocks and calibration, to the last bit."""
    assert run("latency", "collect", *SPACE, *FAST).code == 0
    assert run("latency", "export", *SPACE, "--out", "table.json").code == 0
    taken = run("latency", "import", "table.json", "--device", "desk-of-ada")
    assert taken.code == 0, taken.err
    one, other = stored(folder), stored(folder, "desk-of-ada")
    assert (one.entries, one.calibration, one.cpu_calibration) == (
        other.entries,
        other.calibration,
        other.cpu_calibration,
    )
    Path("bad.json").write_text(
        Path("table.json").read_text(encoding="utf-8").replace('"warm_cpu"', '"hot_cpu"'), encoding="utf-8"
    )
    done = run("latency", "import", "bad.json", "--device", "x")
    assert (done.code, "hot_cpu" in done.err) == (2, True)
    unknown = run("latency", "export", "--device", "nobody", *SPACE)
    assert (unknown.code, "no table of space tiny" in unknown.err) == (2, True)


def test_validation_is_recorded_and_plotted(run: Run) -> None:
    """JSON with the figures per clock, a row in the record, and a plot that opens offline."""
    missing = run("latency", "validate", *SPACE, "--networks", "12")
    assert (missing.code, "latency collect" in missing.err) == (2, True)
    assert run("latency", "collect", *SPACE, *FAST).code == 0
    done = run(
        "latency", "validate", *SPACE, "--networks", "12", "--format", "json", "--baselines", "--plot", "plot.html"
    )
    assert done.code == 0, done.err
    plain = json.loads(done.out)
    for clock in ("wall", "cpu"):
        for name in ("mape", "within_5", "within_10", "kendall_tau", "spearman"):
            assert isinstance(plain[clock][name], float)
    assert set(plain["baselines"]) == {"multiply-adds", "naive table"}
    page = Path("plot.html").read_text(encoding="utf-8")
    assert "measured, ms" in page
    assert not re.search(r'<script[^>]+src="http', page)
    shown = json.loads(run("device", "show", "local", "--format", "json").out)
    assert shown["tables"][0]["validations"][0]["networks"] == plain["networks"]
    table = run("latency", "validate", *SPACE, "--networks", "12", "--near-target", "1000", "--plot", "plot.html")
    assert (table.code, "no network near 1000.000 ms" in table.err) == (2, True)


def running_commands() -> Iterator[bytes]:
    """The command lines of all processes, where Linux tells them."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            yield path.read_bytes()


def test_validation_under_load(run: Run) -> None:
    """Beside busy processes the validation says that it was, and leaves none of them behind."""
    assert run("latency", "collect", *SPACE, *FAST).code == 0
    done = run("latency", "validate", *SPACE, "--networks", "8", "--with-load", "--format", "json", "--plot", "p.html")
    assert done.code == 0, done.err
    assert json.loads(done.out)["under_load"] is True
    assert not any(b"numpy.random.rand(300" in command for command in running_commands())


def test_a_network_is_profiled(run: Run) -> None:
    """A spec's blocks and the rest make the whole; without a table as well as with one."""
    arch = space_here().sample(random.Random(0))
    Path("spec.json").write_text(arch.to_json(), encoding="utf-8")
    for collected in (False, True):
        if collected:
            assert run("latency", "collect", *SPACE, *FAST).code == 0
        done = run("latency", "profile", "spec.json", "--format", "json")
        assert done.code == 0, done.err
        plain = json.loads(done.out)
        assert [row["key"] for row in plain["blocks"]] == [str(key) for key in named_keys(arch).values()]
        assert sum(row["ms"] for row in plain["blocks"]) + plain["rest_ms"] == pytest.approx(plain["whole_ms"])
        assert plain["low_ms"] <= plain["whole_ms"] <= plain["high_ms"] * 1.001
    shown = run("latency", "profile", "spec.json", "--plot", "shares.html")
    assert "measured whole" in shown.out
    assert Path("shares.html").exists()


def test_any_onnx_file_is_profiled(run: Run) -> None:
    """A model of others is measured whole; one with open sides asks for a shape; what is no model is refused."""
    graph = build_graph(named_keys(space_here().reference), random_weights(0))
    Path("model.onnx").write_bytes(graph)
    done = run("latency", "profile", "model.onnx")
    assert done.code == 0, done.err
    assert "model.onnx: " in done.out
    model = onnx.load_model_from_string(graph)
    for side in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_param = "open"
    for side in (*model.graph.output[0].type.tensor_type.shape.dim,):
        side.dim_param = "any"
    Path("open.onnx").write_bytes(model.SerializeToString())
    asked = run("latency", "profile", "open.onnx")
    assert (asked.code, "--shape" in asked.err) == (2, True)
    assert run("latency", "profile", "open.onnx", "--shape", "1x1x16x16").code == 0
    assert run("latency", "profile", "open.onnx", "--shape", "1x1xa").code == 2
    Path("no.onnx").write_bytes(b"nothing")
    for name in ("no.onnx", "nowhere.onnx"):
        refused = run("latency", "profile", name)
        assert refused.code == 2
        assert len(refused.err.strip().splitlines()) == 1


def test_two_devices_are_compared(run: Run) -> None:
    """One and two threads, and two optimisation levels, of this machine: each has a table, and ranks are compared."""
    for name, options in (("one", ()), ("two", ("--threads", "2")), ("basic", ("--optimization", "basic"))):
        assert run("device", "add", name, "local", *options).code == 0
        assert run("latency", "collect", "--device", name, *SPACE, *FAST).code == 0
    for other in ("two", "basic"):
        done = run("latency", "compare", "--devices", "one", other, *SPACE, "--format", "json")
        assert done.code == 0, done.err
        plain = json.loads(done.out)
        assert -1 <= plain["kendall_tau"] <= 1
        assert {cost["option"] for cost in plain["options"]} >= {"squeeze-and-excite", "5x5 kernel"}
        assert plain["advice"]
    table = run("latency", "compare", "--devices", "one", "two", *SPACE)
    assert "Kendall's tau" in table.out
    assert run("latency", "compare", "--devices", "one", "nobody", *SPACE).code == 2


def test_devices_are_added_changed_and_shown(run: Run) -> None:
    """A name is taken once; passwords and nonsense are refused; a device without tables is shown."""
    assert run("device", "add", "pi", "ssh://pi@board", "--cpus", "2-3", "--threads", "2").code == 0
    again = run("device", "add", "pi", "kit")
    assert (again.code, "--replace" in again.err) == (2, True)
    assert run("device", "add", "pi", "kit", "--replace").code == 0
    assert "kit, CPUExecutionProvider, 1 thread(s)" in run("device", "show", "pi").out
    for address in ("ssh://me:secret@pi", "telnet://pi", "ssh://-x"):
        refused = run("device", "add", "other", address)
        assert refused.code == 2
        assert "secret" not in refused.err
    unknown = run("device", "show", "nobody")
    assert (unknown.code, "device list" in unknown.err) == (2, True)
    assert "pi" in run("device", "list").out


def test_what_the_table_is_for_must_be_said(run: Run, folder: Path) -> None:
    """Either a configuration or a space; not both, not neither, no unknown space, no impossible option."""
    (folder / "run.yaml").write_text("seed: 1\n")
    for options in ((), ("--config", "run.yaml", "--space", "tiny.yaml"), ("--space", "nothing")):
        done = run("latency", "collect", *options)
        assert done.code == 2
        assert len(done.err.strip().splitlines()) == 1
    assert run("latency", "collect", *SPACE, "--rounds", "0").code == 2


def test_a_space_that_is_reached_by_nobody(run: Run) -> None:
    """A search on a device that was added and never measured is refused, with the command that measures."""
    assert run("device", "add", "phone", "kit").code == 0
    assert run("device", "add", "board", "ssh://nobody@127.0.0.1:1").code == 0
    done = run("latency", "collect", "--device", "board", *SPACE)
    assert (done.code, "ssh failed" in done.err or "No such file" in done.err) == (2, True)


def test_results_are_read_as_they_were_measured(folder: Path) -> None:
    """The same kit measured here in place and read back has this machine's facts."""
    from latency.kit import Campaign, make_kit

    keys = space_here().reachable_keys()[:3]
    make_kit(Campaign(blocks=keys, protocol=probe.Protocol(rounds=1, most_rounds=1, warm=1))).write(folder / "kit")
    path = probe.measure_folder(folder / "kit", probe.Runtime(), anyway=True)
    assert read_results(path.read_text(), "here").device == LocalMeter("here").device
    shutil.rmtree(folder / "kit")
