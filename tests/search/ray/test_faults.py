"""What happens to a cluster, and what it must not do to a search on it: no trial lost, none doubled."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.ray.node import data_name
from search.record.store import Store
from search.trial import SearchStage, State
from space.errors import StoreError
from tests.search.killing import command, outcome, write_run
from tests.search.ray.cluster import COORDINATOR, HEAD, Cluster, why_not
from tests.tiny import dark_and_bright, tiny_run
from tests.waiting import HANGS_S, wait_for
from trainer.data.dataset import Dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=f"FAULTS OF A CLUSTER NOT TESTED: {why_not()}"),
]

SECONDS = 0.3
CHANGES: dict[str, Any] = {"blocks": {"trials": 40}, "netadapt": {"delta": 0.03, "max_steps": 1}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that only the coordinator sees."""
    return tmp_path_factory.mktemp("coordinator")


@pytest.fixture(scope="module")
def cluster(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and two nodes."""
    with Cluster(place, tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], list[object], object]:
    """The outcome of the same search on this machine's cores alone."""
    from service.cli.app import app

    folder = tmp_path_factory.mktemp("undisturbed")
    url = f"sqlite:///{folder}/record.db"
    config = write_run(folder, seconds=0.0, **CHANGES)
    arguments = ["search", "--config", str(config), "--name", "same", "--database", url, "--runs", str(folder / "runs")]
    app(arguments, standalone_mode=False)
    return outcome(url, "same")


def completed(url: str) -> int:
    """Trials with a result by now."""
    with suppress(StoreError):
        store = Store.open(url)
        try:
            trials = store.trials.of(store.searches.get("same").id)
            return sum(trial.state is State.COMPLETE for trial in trials)
        finally:
            store.close()
    return 0


def kill_actors(cluster: Cluster) -> None:
    """The processes of Ray's that run trials."""
    assert sum(cluster.kill_process(node, b"ray::Worker") for node in cluster.nodes)


def kill_node(cluster: Cluster) -> None:
    """A machine with all that runs there."""
    cluster.kill(cluster.nodes[0])


def kill_raylet(cluster: Cluster) -> None:
    """Ray's own process on a node."""
    assert cluster.kill_process(cluster.nodes[0], b"raylet")


def cut_link(cluster: Cluster) -> None:
    """A node falls silent."""
    cluster.cut(cluster.nodes[0])


def kill_own_raylet(cluster: Cluster) -> None:
    """That of the coordinator's machine."""
    assert cluster.kill_process(COORDINATOR, b"raylet")


def kill_driver(cluster: Cluster) -> None:
    """The process between the coordinator and Ray."""
    assert cluster.kill_spawned(COORDINATOR)


def restart_head(cluster: Cluster) -> None:
    """The head, and with it, as Ray does it, all nodes."""
    cluster.kill(HEAD)
    time.sleep(5)
    cluster.start(HEAD)
    for node in cluster.nodes:
        cluster.kill(node)
        cluster.start(node)


@dataclass(frozen=True)
class Started:
    """A search under way at the coordinator's machine."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    gate: Path

    def go_on(self) -> None:
        """Let two more trials end, and then none, so that others are under way."""
        before = completed(self.url)

        def more_have_ended() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return completed(self.url) >= before + 2

        self.gate.unlink(missing_ok=True)
        wait_for(more_have_ended)
        self.gate.touch()
        time.sleep(2 * SECONDS)  # what was nearly done has ended, and others are held

    def ended(self) -> int | None:
        """The exit code, None where it does not end in time."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1200)
        return self.process.poll()

    @property
    def last_line(self) -> str:
        """The last thing that it said."""
        return self.log.read_text().splitlines()[-1]


@contextmanager
def started(cluster: Cluster, folder: Path, *, again: bool = False) -> Iterator[Started]:
    """A search, or one that goes on; whatever is left of it at the end is killed, with all of its machine."""
    url, log, gate = f"sqlite:///{folder}/record.db", folder / "search.log", cluster.shared / f"{folder.name}.gate"
    arguments: tuple[str | Path, ...] = ("resume", "same")
    if not again:
        config = write_run(
            folder, seconds=SECONDS, gate=gate, executor="ray", ray={"address": cluster.address}, **CHANGES
        )
        arguments = ("search", "--config", config, "--name", "same")
    process = cluster.run(command(*arguments, "--database", url, "--runs", folder / "runs"), log)
    try:
        yield Started(process, url, log, gate)
    finally:
        process.kill()
        process.wait()


@contextmanager
def resumed(cluster: Cluster, folder: Path) -> Iterator[Started]:
    """A search that goes on, as soon as its last coordinator does not count as alive any more."""
    end = time.monotonic() + HANGS_S
    while True:
        with started(cluster, folder, again=True) as search:
            # Whoever is refused ends at once; whoever runs it goes on.
            refused = search.process.poll() is not None or _is_refused(search)
            if not refused:
                yield search
                return
        assert time.monotonic() < end, search.log.read_text()
        time.sleep(3)


def _is_refused(search: Started) -> bool:
    """Wait until it is known whether a coordinator runs its search."""
    before = len(search.log.read_text().splitlines())

    def is_known() -> bool:
        return search.process.poll() is not None or len(search.log.read_text().splitlines()) > before

    wait_for(is_known)
    return "being run by another process" in search.last_line


def test_lost_nodes_lose_no_trial_and_double_none(
    cluster: Cluster, place: Path, undisturbed: tuple[list[object], list[object], object]
) -> None:
    """A search goes on without the node that is lost, and with it when it is back, and ends as if nothing had been."""
    node = cluster.nodes[0]
    with started(cluster, place / "nodes") as search:
        search.go_on()
        kill_actors(cluster)
        for strike in (kill_node, kill_raylet, cut_link):
            search.go_on()
            assert cluster.counts_as_alive(node)
            strike(cluster)
            wait_for(lambda: not cluster.counts_as_alive(node))
            search.go_on()
            cluster.mend(node)
            cluster.restart(node)
            wait_for(lambda: cluster.counts_as_alive(node))
        search.gate.unlink()
        assert search.ended() == 0, search.log.read_text()
    assert outcome(search.url, "same") == undisturbed


def test_a_lost_coordinator_loses_no_trial_and_doubles_none(
    cluster: Cluster, place: Path, undisturbed: tuple[list[object], list[object], object]
) -> None:
    """So does one whose driver, own raylet and head are lost, that an unfit node ends, and that is killed itself."""
    folder, node = place / "coordinator", cluster.nodes[0]
    with started(cluster, folder) as search:
        for strike in (kill_driver, kill_own_raylet, restart_head):
            search.go_on()
            strike(cluster)
        search.go_on()
        # A node that has another folder in the place of the artefacts runs nothing.
        cluster.kill(node)
        cluster.start(node, shares=False)
        assert search.ended() == 2, search.log.read_text()
    assert "cannot run trials: it does not find the coordinator's artefacts" in search.last_line
    cluster.kill(node)
    cluster.start(node)
    with resumed(cluster, folder) as search:
        search.go_on()
    with resumed(cluster, folder) as search:  # with its machine the coordinator was killed
        search.gate.unlink()
        assert search.ended() == 0, search.log.read_text()
    assert outcome(search.url, "same") == undisturbed


def test_several_nodes_need_a_place_for_artefacts(cluster: Cluster, place: Path) -> None:
    """Without one a search is refused before its first trial, in one line that names the variable."""
    named = cluster.environment.pop("MOBILENAS_ARTIFACTS")
    try:
        with started(cluster, place / "nowhere") as search:
            assert search.ended() == 2, search.log.read_text()
    finally:
        cluster.environment["MOBILENAS_ARTIFACTS"] = named
    assert "set MOBILENAS_ARTIFACTS to a shared folder" in search.last_line
    assert completed(search.url) == 0


def test_data_and_weights_reach_machines_that_see_none_of_them(
    cluster: Cluster, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that trains has its pictures at the coordinator's machine alone, and ends with a certified network."""
    folder = place / "trained"
    monkeypatch.setitem(cluster.environment, "MOBILENAS_CACHE_DIR", str(folder / "cache"))
    # Without a seed: no earlier run can have left these data at a node.
    photos = dark_and_bright(folder / "pictures", each=60, pixels=32, seed=None)
    config = yaml.safe_load(tiny_run(folder).read_text())
    config["data"] = {"source": f"imagefolder:{photos}", "resolution": 32, "reward_images": 20}
    config["blocks"]["train_images"] = 60
    config["netadapt"]["max_steps"] = 1
    (folder / "run.yaml").write_text(yaml.safe_dump({**config, "executor": "ray", "ray": {"address": cluster.address}}))
    url, log = f"sqlite:///{folder}/record.db", folder / "search.log"
    arguments = ("search", "--config", folder / "run.yaml", "--name", "trained", "--database", url)
    process = cluster.run(command(*arguments, "--runs", folder / "runs"), log)
    try:
        assert Started(process, url, log, folder / "gate").ended() == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
    store = Store.open(url)
    try:
        trials = store.trials.of(store.searches.get("trained").id)
    finally:
        store.close()
    assert {trial.state for trial in trials} <= {State.COMPLETE, State.PRUNED}
    assert any(trial.stage is SearchStage.NETADAPT and trial.state is State.COMPLETE for trial in trials)
    (prepared,) = (folder / "cache" / "prepared").glob("*/meta.json")
    sent = (
        Path(tempfile.gettempdir()) / f"mobilenas-{os.getuid()}" / data_name(Dataset.open(prepared.parent).content_hash)
    )
    assert sent.is_dir()
    shutil.rmtree(sent)
