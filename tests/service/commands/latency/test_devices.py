"""Whole searches for devices that are not this machine: one that kits are carried to, one behind a real sshd."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml

from latency.kit import Campaign
from latency.meter import MeasuringProgress, SshMeter
from latency.results import Results
from search.record.store import Store
from search.reports.history import History
from search.reports.recorded_search import RecordedSearch
from search.trial import SearchStage
from space.errors import DeviceError
from tests.classifiers import classifier, with_metadata
from tests.latency.sshd import Sshd, sshd_program
from tests.tiny import Result
from trainer.data.preprocess import Preprocess

pytestmark = pytest.mark.slow

Run = Callable[..., Result]


@pytest.fixture
def config(tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny search for a device called phone, in the folder where the test works."""
    monkeypatch.chdir(tiny_config.parent)
    content = yaml.safe_load(tiny_config.read_text(encoding="utf-8"))
    content["device"].update(name="phone", rounds=8)
    tiny_config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return tiny_config


@pytest.fixture
def run(mobilenas: Run, config: Path) -> Run:
    """The command line on a record of the test's own."""

    def call(*arguments: str | Path) -> Result:
        return mobilenas(*arguments, "--database", f"sqlite:///{config.parent / 'record.db'}")

    return call


@pytest.fixture
def store(config: Path) -> Iterator[Store]:
    """The record."""
    with closing(Store.open(f"sqlite:///{config.parent / 'record.db'}")) as opened:
        yield opened


def measured(archive: Path, *options: str) -> Path:
    """Unpack a kit and run it as a person would; the path of its results."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(archive.parent)
    folder = archive.with_suffix("")
    done = subprocess.run(
        [sys.executable, folder / "measure.py", "--anyway", *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return folder / "results.json"


def test_a_search_for_a_device_that_is_reached_by_kit(run: Run, config: Path, store: Store) -> None:
    """It is refused without a table, pauses before its refinement, awaits certification, and is done by three kits."""
    folder, options = config.parent, ("--config", config, "--name", "k", "--runs", config.parent / "runs")
    assert run("device", "add", "phone", "kit").code == 0
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    content["blocks"]["enqueue"] = ["mobilenet_v2_32px"]  # no member: its blocks must come with the kit, too
    content["present"] = present_in(folder)
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    refused = run("search", *options)
    assert refused.code == 2
    assert "blocks of this space are not measured on 'phone'; run: mobilenas latency bundle" in refused.err
    assert not store.searches.all()

    assert run("latency", "bundle", "--device", "phone", "--config", config, "--out", folder / "kit.zip").code == 0
    imported = run("latency", "import", measured(folder / "kit.zip"), "--device", "phone")
    assert imported.code == 0
    shown = run("device", "show", "phone")
    for said in (imported, shown):
        assert re.search(r"targets that networks of .* can meet: 0\.\d+ to 0\.\d+ ms; the reference takes", said.out)
    paused = run("search", *options, "--until", "refine")
    assert paused.code == 130, paused.err
    assert "mobilenas latency bundle --refine k" in paused.err
    assert run("resume", "k").code == 130, "NetAdapt's blocks are not measured yet"
    assert not store.trials.of(store.searches.get("k").id, SearchStage.NETADAPT)

    wrong = run("latency", "import", folder / "kit" / "results.json", "--device", "other")
    assert wrong.code == 0, "another device may have the same table"
    assert run("latency", "bundle", "--refine", "k", "--out", folder / "refine.zip").code == 0
    results = measured(folder / "refine.zip")
    mixed = run("latency", "import", results, "--device", "other")
    assert (mixed.code, "never mixed" in mixed.err) == (2, True)
    assert run("latency", "import", results, "--device", "phone").code == 0
    enough = run("latency", "bundle", "--refine", "k", "--out", folder / "more.zip")
    assert (enough.code, "holds all blocks that NetAdapt can reach" in enough.err) == (2, True)

    done = run("resume", "k")
    assert done.code == 0, done.err
    record = store.searches.get("k")
    assert (record.stage, record.state) == (SearchStage.AWAITING, "awaiting-certification")
    run_folder = record.require_start().run_folder
    assert "predicted, not measured" in (run_folder / "report.md").read_text()
    assert (run_folder / "model.onnx").exists()
    assert not store.trials.measurements(record.id)
    assert "mobilenas certify k" in run("status", "k").out
    for command in (("resume", "k"), ("certify", "k")):
        asked = run(*command)
        assert asked.code == 2
        assert "certify" in asked.err

    check_certifying(run, store, folder, results)


def check_certifying(run: Run, store: Store, folder: Path, others: Path) -> None:
    """Only the results of the search's own kit, from its own device, complete it."""
    run_folder = store.searches.get("k").require_start().run_folder
    certificate = measured(run_folder / "certify.zip")
    content = json.loads(certificate.read_text())
    content["device"]["threads"] = 2
    (folder / "bad.json").write_text(json.dumps(content))
    for bad, fault in ((folder / "bad.json", "2 thread"), (others, "not from the kit that certifies 'k'")):
        refused = run("certify", "k", "--import", bad)
        assert (refused.code, fault in refused.err) == (2, True), refused.err
        assert store.searches.get("k").stage is SearchStage.AWAITING
    assert "mobilenas certify k --import" in run("latency", "import", certificate, "--device", "phone").err
    content = json.loads(certificate.read_text())
    content["warnings"] = ["battery saver is on; switch it off"]
    certificate.write_text(json.dumps(content))
    certified = run("certify", "k", "--import", certificate)
    assert certified.code == 0, certified.err
    assert store.searches.get("k").stage is SearchStage.DONE
    assert len(store.trials.measurements(store.searches.get("k").id)) == 2
    (present,) = store.trials.present_measurements(store.searches.get("k").id)
    taken = np.array(content["samples"]["present"]["warm_wall_ns"]) / 1e6
    assert present.samples == len(taken)
    assert present.median_ms == pytest.approx(np.median(taken))
    report = (run_folder / "report.md").read_text()
    assert "predicted, not measured" not in report
    assert "Measured side by side" in report
    assert "of the time of the present model, mine.onnx" in report
    assert "Warning: the final networks were measured although battery saver is on" in report
    assert run("certify", "k").code == 2
    assert run("db", "check").code == 0


def present_in(folder: Path) -> dict[str, str]:
    """A model that somebody has for the tiny search's pictures."""
    preprocess = Preprocess(resolution=16, resize=16, crop=16, pad=0, channels="RGB", mean=(0.5,) * 3, std=(0.25,) * 3)
    told = {"labels": json.dumps(["bright", "dark"]), "preprocess": preprocess.to_json()}
    return {"model": str(with_metadata(classifier(folder / "mine.onnx"), **told))}


@pytest.fixture
def race(config: Path) -> Path:
    """A race of a few networks for two devices of one kind, instead of what goes by counts for one."""
    content = yaml.safe_load(config.read_text(encoding="utf-8"))
    for section in ("blocks", "netadapt", "target"):
        del content[section]
    content["race"] = {"rungs": [{"images": 64, "networks": 8}, {"images": 128, "networks": 7}], "latency_from": 0.2}
    content["training"] = {"batch_size": 16}
    content["final"] = {"images": 192, "top_k": 1}
    content |= {"targets": {"phone": "90%", "twin": "95%"}, "mode": "shared", "present": present_in(config.parent)}
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    return config


def slowed(results: Path, factor: float) -> Path:
    """The same results, in which whatever is no reference takes so many times as long."""
    content = json.loads(results.read_text(encoding="utf-8"))
    for name, samples in content["samples"].items():
        if name != "reference":
            samples["warm_wall_ns"] = [round(factor * ns) for ns in samples["warm_wall_ns"]]
    changed = results.with_name(f"times-{factor:g}.json")
    changed.write_text(json.dumps(content), encoding="utf-8")
    return changed


def candidates_in(results: Path) -> set[str]:
    """The trials whose networks a kit measured."""
    manifest = json.loads(json.loads(results.read_text(encoding="utf-8"))["manifest"])
    return {name for name in manifest["networks"] if name.startswith("trial")}


def test_a_race_for_devices_that_are_reached_by_kit(run: Run, race: Path, store: Store) -> None:
    """Two kits: the space, then the finalists before they are trained, which certifies; a miss asks for others.

    The two devices are alike, so that both run the same kits, and only who waits tells whose results they are.
    """
    folder, runs = race.parent, ("--runs", race.parent / "runs")
    for name in ("phone", "twin"):
        assert run("device", "add", name, "kit").code == 0
    assert run("latency", "bundle", "--device", "phone", "--config", race, "--out", folder / "kit.zip").code == 0
    space = measured(folder / "kit.zip")
    for name in ("phone", "twin"):
        assert run("latency", "import", space, "--device", name).code == 0
    paused = run("search", "--config", race, "--name", "k", *runs)
    assert (paused.code, "mobilenas certify k --import results.json" in paused.err) == (130, True), paused.err
    record = store.searches.get("k")
    assert record.stage is SearchStage.FINAL
    assert not store.trials.of(record.id, SearchStage.FINAL)
    assert "mobilenas certify k --import" in run("status", "k").out
    kit = record.require_start().files.finalists_kit
    content = kit.read_bytes()
    kit.unlink()
    assert run("resume", "k", *runs).code == 130
    with zipfile.ZipFile(kit) as again, zipfile.ZipFile(io.BytesIO(content)) as before:
        assert {each.filename: each.CRC for each in again.infolist()} == {e.filename: e.CRC for e in before.infolist()}

    honest = measured(kit)
    for wrong, fault in ((space, "not from the kit of the finalists of 'k'"), (folder / "none.json", "cannot be read")):
        refused = run("certify", "k", "--import", wrong)
        assert (refused.code, fault in refused.err) == (2, True), refused.err
    assert run("certify", "k").code == run("certify", "k", "--again").code == 2, "it is not measured yet"
    assert "mobilenas certify k --import" in run("latency", "import", honest, "--device", "phone").err
    check_missing(run, kit, honest)

    done = run("resume", "k", *runs)
    assert done.code == 0, done.err
    record = store.searches.get("k")
    assert record.stage is SearchStage.DONE, "what was measured before the training is the certificate"
    recorded = RecordedSearch.read(store, "k")
    assert recorded.is_certified
    found, _ = recorded.both()
    for device in recorded.devices:
        history = History.read(store, "k")
        present = history.present_measured(history.served[recorded.devices.index(device)])
        assert present is not None
        taken = json.loads((race.parent / "runs/k/returned" / f"{device.name}-1.json").read_text())["samples"]
        assert present.median_ms == pytest.approx(np.median(taken["present"]["warm_wall_ns"]) / 1e6)
        measured_ms = recorded.measurements(device)[found.number].measured_ms
        assert measured_ms < 0.1 * device.target_ms, "that of the results, which were made up"
    if found.parent is not None and not recorded.found_is_known:
        raced = recorded.trial(recorded.trial(found.parent).parent or 0)
        assert raced.scores.latency_ms < 0.1 * record.require_start().target_ms, "it is known by what was measured"
    assert run("db", "check").code == 0


def check_missing(run: Run, kit: Path, honest: Path) -> None:
    """Results that miss the target by far, from both; then others that meet it."""
    missed_by = slowed(honest, 50)
    half = run("certify", "k", "--import", missed_by)
    assert "on 'twin', run its measure.py" in half.out, half.err
    missed = run("certify", "k", "--import", missed_by)
    assert re.search(
        r"is missed by [\d,]+\.\d% on 'phone' and 'twin'.* none of them expected.*mobilenas certify k --again",
        missed.out,
    )
    (kit.parent / "returned" / "notes.json").write_text("{}", encoding="utf-8")
    others = run("certify", "k", "--again")
    assert (others.code, "finalists.zip" in others.out) == (0, True), others.err
    before, of_others = candidates_in(missed_by), measured(kit)
    assert before
    assert candidates_in(of_others)
    assert not before & candidates_in(of_others)
    assert run("certify", "k", "--import", missed_by).code == 2, "those are of the kit before"
    met_by = slowed(of_others, 0.02)
    assert "or go on with what was measured" in run("certify", "k", "--import", met_by).out
    assert "meet the target" in run("certify", "k", "--import", met_by).out
    assert run("certify", "k", "--again").code == 2, "no others are wanted"
    assert "meet the target" in run("certify", "k").out
    assert "meet the target" in run("status", "k").out


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """A device behind a real sshd."""
    program = sshd_program()
    if program is None:
        pytest.skip("OPENSSH MISSING: install Debian's packages openssh-server and openssh-client")
    folder = tmp_path / "board"
    folder.mkdir()
    server = Sshd(program, folder)
    monkeypatch.setenv("PATH", f"{server.bin}:{os.environ['PATH']}")
    yield server
    server.stop()


def test_a_search_for_a_device_behind_ssh(
    run: Run, config: Path, store: Store, board: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused without a table; measured over ssh before and during the search. Away in the end, it certifies later."""
    assert run("device", "add", "phone", board.url, "--python", sys.executable).code == 0
    options = ("--config", config, "--name", "s", "--runs", config.parent / "runs")
    refused = run("search", *options)
    assert (refused.code, "mobilenas latency collect --device phone" in refused.err) == (2, True)
    collected = run("latency", "collect", "--device", "phone", "--config", config)
    assert collected.code == 0, collected.err

    measure = SshMeter.run

    def unless_final(
        self: SshMeter, campaign: Campaign, progress: MeasuringProgress | None = None, *, keep: bool = False
    ) -> Results:
        if campaign.purpose["kind"] == "certify":
            raise DeviceError("the board was switched off")
        return measure(self, campaign, progress, keep=keep)

    with monkeypatch.context() as patched:
        patched.setattr(SshMeter, "run", unless_final)
        done = run("search", *options)
    assert done.code == 0, done.err
    assert "the device cannot be reached now: the board was switched off" in done.out
    record = store.searches.get("s")
    assert record.stage is SearchStage.AWAITING
    assert any(trial.stage is SearchStage.NETADAPT for trial in store.trials.of(record.id))
    certified = run("certify", "s")
    assert certified.code == 0, certified.err
    assert store.searches.get("s").stage is SearchStage.DONE
    final = {trial.number for trial in store.trials.of(record.id, SearchStage.FINAL)}
    assert len([row for row in store.trials.measurements(record.id) if row.trial in final]) == 2
