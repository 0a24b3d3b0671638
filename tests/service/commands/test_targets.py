"""Searches for several devices, walks alone, and the end of a search: real tables and real, very short, trainings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from latency.table import LatencyTable
from latency.whole import Whole
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.stages.session import AwaitsKit
from search.trial import SearchStage, State, Trial
from service.commands import search
from space.arch import Architecture
from space.cost import cost_of
from space.errors import RunError
from space.keys import keys_of
from tests.search.makers import measurement
from tests.tiny import Result, tiny_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("any_table_will_do")]

Mobilenas = Callable[..., Result]


@dataclass
class Workplace:
    """A folder with a record, and commands that use it."""

    folder: Path
    mobilenas: Mobilenas
    store: Store

    @property
    def url(self) -> str:
        """The record."""
        return f"sqlite:///{self.folder}/record.db"

    def config(self, **changes: Any) -> Path:  # noqa: ANN401 - sections of a run
        """The tiny run with some sections changed."""
        path = tiny_run(self.folder)
        content = yaml.safe_load(path.read_text())
        # Long steps, and few rounds: nothing here is about how well a table predicts.
        content |= {
            "netadapt": {**content["netadapt"], "delta": 0.04, "images": 32, "most_images": 32},
            "device": {"rounds": 8, "warm_runs": 4},
        }
        for name, value in changes.items():
            merged = isinstance(value, dict) and name not in ("target", "targets")
            content[name] = {**content.get(name, {}), **value} if merged else value
        path.write_text(yaml.safe_dump(content))
        return path

    def run(self, *arguments: str | Path, code: int = 0) -> Result:
        """A command on this record."""
        runs = ("--runs", self.folder / "runs") if arguments[0] in ("search", "resume", "netadapt") else ()
        done = self.mobilenas(*arguments, *runs, "--database", self.url)
        assert done.code == code, f"{done.out}\n{done.err}"
        return done

    def recorded(self, name: str) -> RecordedSearch:
        """A search as the record has it."""
        return RecordedSearch.read(self.store, name)


@pytest.fixture
def place(tmp_path: Path, mobilenas: Mobilenas) -> Iterator[Workplace]:
    """An empty one."""
    store = Store.open(f"sqlite:///{tmp_path}/record.db")
    yield Workplace(tmp_path, mobilenas, store)
    store.close()


def complete(trials: list[Trial]) -> list[Trial]:
    """Those with a result."""
    return [trial for trial in trials if trial.state is State.COMPLETE]


def test_one_network_for_two_devices(place: Workplace) -> None:
    """Shared: one found network whose predicted latency meets both targets, certified on both, told for both."""
    config = place.config(targets={"one": "95%", "two": "90%"}, mode="shared", netadapt={"max_steps": 1})
    place.run("search", "--config", config, "--name", "both")
    recorded = place.recorded("both")
    assert recorded.record.stage is SearchStage.DONE
    assert [device.name for device in recorded.devices] == ["one", "two"]
    found, _ = recorded.both()
    for device in recorded.devices:
        assert recorded.predicted_ms(found, device) <= device.target_ms * (1 + 1e-9)
        assert device.table.estimate(found.architecture) == pytest.approx(recorded.predicted_ms(found, device))
        assert set(recorded.measurements(device)) == {trial.number for trial in recorded.both()}
        # A terminal may break the line.
        assert f"measured latency on {device.name}, ms" in recorded.files.report.read_text()
    share = max(recorded.predicted_ms(found, device) / device.target_ms for device in recorded.devices)
    assert found.scores.latency_ms == pytest.approx(share * recorded.devices[0].target_ms)
    assert "no faults" in place.run("db", "check").out
    place.run("report", "both", "--out", place.folder / "both.html")


def test_a_network_for_each_device(place: Workplace) -> None:
    """Per device: a group of two searches that divide the trials, and each takes over what the other trained."""
    config = place.config(
        targets={"one": "95%", "two": "80%"}, mode="per-device", blocks={"trials": 6}, netadapt={"max_steps": 1}
    )
    done = place.run("search", "--config", config, "--name", "each")
    assert "each-one, each-two" in done.out
    both = [place.recorded(f"each-{name}") for name in ("one", "two")]
    trained = []
    for recorded in both:
        assert recorded.record.group == "each"
        assert recorded.record.stage is SearchStage.DONE
        found, _ = recorded.both()
        assert found.scores.latency_ms <= recorded.start.target_ms
        blocks = complete(recorded.trials(SearchStage.BLOCKS))
        trained.append({trial.architecture.arch_id for trial in blocks if trial.reused_from is None})
        assert len(blocks) >= 5
    assert not trained[0] & trained[1]
    networks = [
        {trial.architecture.arch_id for trial in complete(recorded.trials(SearchStage.BLOCKS))} for recorded in both
    ]
    assert networks[0] == networks[1]


def killed(*_: object) -> NoReturn:
    """The process ended here."""
    raise RunError("killed")


def test_who_waits_for_a_kit_does_not_keep_the_others(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """All searches of a group are run, and the command ends with who waits; so does a resumption."""
    driven: list[str] = []

    def drive(_: Store, record: SearchRecord, __: Path, until: str | None = None) -> None:
        if until is None:
            driven.append(record.name)
            raise AwaitsKit(f"carry a kit to the device of {record.name}")

    monkeypatch.setattr(search, "_drive", drive)
    config = place.config(targets={"one": "95%", "two": "85%"}, mode="per-device")
    for command in (("search", "--config", config, "--name", "each"), ("resume", "each")):
        ended = place.run(*command, code=130)
        assert "carry a kit to the device of each-one" in ended.out
        assert "waiting for kits: each-one, each-two" in ended.err
    assert driven == 2 * ["each-one", "each-two"]


@pytest.fixture
def measured_as_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole networks take what tables say, so that no load here decides who meets a target."""

    def measure_whole(table: LatencyTable, networks: Mapping[str, Architecture], *_: object) -> dict[str, Whole]:
        found = {}
        for name, arch in networks.items():
            known = not table.missing(keys_of(arch))
            ms = table.estimate(arch) if known else cost_of(arch).madds / 1e6
            found[name] = Whole(ms=ms, low_ms=ms, high_ms=ms, measurement=measurement(ms))
        return found

    monkeypatch.setattr("search.stages.race.screening.measure_whole", measure_whole)


@pytest.mark.usefixtures("measured_as_predicted")
def test_races_for_several_devices_share_their_rungs(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each first rung holds what the others trained, measured on its own device; nothing is trained twice.

    So it is where the group was begun and then resumed, too.
    """
    rungs = [{"images": 64, "networks": 6}, {"images": 128, "networks": 2}]
    config = place.config(
        targets={"one": "95%", "two": "85%"},
        mode="per-device",
        training={"batch_size": 16},
        race={"rungs": rungs, "latency_from": 0.2},
        netadapt={"max_steps": 0},
        final={"images": 256, "top_k": 1, "weights": "continued"},
    )
    with monkeypatch.context() as patched:
        patched.setattr(search, "_drive", killed)
        place.run("search", "--config", config, "--name", "each", code=2)
    place.run("resume", "each")
    keys: list[str] = []
    for name in ("one", "two"):
        recorded = place.recorded(f"each-{name}")
        assert recorded.record.stage is SearchStage.DONE
        blocks = complete(recorded.trials(SearchStage.BLOCKS))
        adopted = [trial for trial in blocks if trial.origin == "adopted"]
        assert adopted
        measured = {each.trial for each in recorded.store.trials.measurements(recorded.record.id)}
        near = [trial.number for trial in adopted if trial.scores.latency_ms <= recorded.start.target_ms]
        assert near
        assert set(near) <= measured
        assert {trial.origin for trial in blocks if trial.rung} == {"promoted"}
        found, _ = recorded.both()
        raced = [trial for trial in blocks if trial.rung == 1]
        assert recorded.found_is_known or found.architecture in {trial.architecture for trial in raced}
        keys += [trial.evaluation_key or "" for trial in blocks if trial.reused_from is None]
    assert len(set(keys)) == len(keys), "no network is trained twice"


def test_a_walk_alone(place: Workplace) -> None:
    """`netadapt` walks from a search's network or a run folder, keeps its weights, fine-tunes, certifies, exports."""
    place.run("search", "--config", place.config(), "--name", "base")
    base, _ = place.recorded("base").both()
    place.run("netadapt", "--from", "base", "--target", "95%", "--name", "narrower")
    recorded = place.recorded("narrower")
    (start,) = recorded.trials(SearchStage.BLOCKS)
    found, reference = recorded.both()
    assert (start.origin, start.architecture) == ("start", base.architecture)
    assert start.images_seen == 0
    assert reference.architecture == base.architecture
    assert recorded.store.trials.steps(recorded.record.id)
    assert found.scores.latency_ms <= recorded.start.target_ms == pytest.approx(0.95 * start.scores.latency_ms)
    assert all(trial.parent is not None for trial in recorded.trials(SearchStage.NETADAPT))
    assert found.parent is not None
    assert (recorded.start.run_folder / "model.onnx").exists()
    place.run(
        "netadapt",
        "--from",
        place.folder / "runs" / "base",
        "--config",
        place.config(),
        "--target",
        "97%",
        "--name",
        "again",
    )
    assert place.recorded("again").trials(SearchStage.BLOCKS)[0].architecture == base.architecture
    met = place.run("netadapt", "--from", "base", "--target", "110%", code=2)
    assert "is met already" in met.err
    nowhere = place.run("netadapt", "--from", "base", "--trial", "999", "--target", "80%", code=2)
    assert "no such completed trial" in nowhere.err


def test_the_reward_split_chooses_among_the_best(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of top_k trained candidates only the chosen one, with its weights, and the reference meet the test split."""
    # By predictions alone: how many of toys meet a target as measured is this machine's mood.
    monkeypatch.setattr("search.stages.walk.refine.can_screen", lambda _: False)
    config = place.config(final={"top_k": 3}, netadapt={"max_steps": 0}, blocks={"trials": 6}, workers=2)
    place.run("search", "--config", config, "--name", "three")
    recorded = place.recorded("three")
    finals = recorded.trials(SearchStage.FINAL)
    candidates = [trial for trial in finals if trial.origin == "candidate"]
    found, reference = recorded.both()
    assert len({trial.architecture.arch_id for trial in candidates}) == len(candidates) == 3
    assert all(trial.total is None and trial.scores.latency_ms <= recorded.start.target_ms for trial in candidates)
    assert found.total == reference.total == 30
    chosen = max(candidates, key=lambda trial: trial.scores.top1 or 0)
    assert found.parent == chosen.number
    assert found.scores.top1 == chosen.scores.top1
    assert found.images_seen == chosen.images_seen > 0
    assert len(recorded.measurements(recorded.devices[0])) == 2
