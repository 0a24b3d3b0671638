"""What happens to a cluster, and what it must not do to a search on it: no trial lost, none doubled."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from search.record.store import Store
from search.trial import SearchStage, State
from space.errors import StoreError
from tests.search.killing import command, outcome, write_run
from tests.search.ray.cluster import COORDINATOR, HEAD, Cluster, why_not
from tests.tiny import dark_and_bright, tiny_run
from tests.waiting import wait_for
from trainer.data import Dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=f"FAULTS OF A CLUSTER NOT TESTED: {why_not()}"),
]

SECONDS = 0.5
CHANGES = {"blocks": {"trials": 24}, "netadapt": {"delta": 0.03, "max_steps": 2}}


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
    """A machine, which comes back after a while."""
    cluster.kill(cluster.nodes[0])
    time.sleep(15)
    cluster.start(cluster.nodes[0])


def kill_raylet(cluster: Cluster) -> None:
    """Ray's own process on a node; the machine is started again."""
    assert cluster.kill_process(cluster.nodes[0], b"raylet")
    time.sleep(15)
    cluster.kill(cluster.nodes[0])
    cluster.start(cluster.nodes[0])


def kill_own_raylet(cluster: Cluster) -> None:
    """That of the coordinator's machine."""
    assert cluster.kill_process(COORDINATOR, b"raylet")


def kill_driver(cluster: Cluster) -> None:
    """The process between the coordinator and Ray."""
    assert cluster.kill_spawned(COORDINATOR)


def cut_link(cluster: Cluster) -> None:
    """A node falls silent, which is noticed meanwhile; then it is reached again, and starts anew."""
    assert cluster.counts_as_alive(cluster.nodes[0])
    cluster.cut(cluster.nodes[0])
    wait_for(lambda: not cluster.counts_as_alive(cluster.nodes[0]))
    cluster.mend(cluster.nodes[0])
    cluster.kill(cluster.nodes[0])
    cluster.start(cluster.nodes[0])


def restart_head(cluster: Cluster) -> None:
    """The head, and with it, as Ray does it, all nodes."""
    cluster.kill(HEAD)
    time.sleep(10)
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

    def wait_for_trials(self) -> None:
        """Wait until some trials have ended, and more are under way."""

        def some_have_ended() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return completed(self.url) >= 5

        wait_for(some_have_ended)

    def ended(self) -> int | None:
        """The exit code, None where it does not end in time."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=600)
        return self.process.poll()

    @property
    def last_line(self) -> str:
        """The last thing that it said."""
        return self.log.read_text().splitlines()[-1]


@contextmanager
def started(cluster: Cluster, folder: Path, *, again: bool = False, seconds: float = SECONDS) -> Iterator[Started]:
    """A search, or one that goes on; whatever is left of it at the end is killed, with all of its machine."""
    url, log = f"sqlite:///{folder}/record.db", folder / "search.log"
    arguments: tuple[str | Path, ...] = ("resume", "same")
    if not again:
        config = write_run(folder, seconds=seconds, executor="ray", ray={"address": cluster.address}, **CHANGES)
        arguments = ("search", "--config", config, "--name", "same")
    process = cluster.run(command(*arguments, "--database", url, "--runs", folder / "runs"), log)
    try:
        yield Started(process, url, log)
    finally:
        process.kill()
        process.wait()


def resumed(cluster: Cluster, folder: Path) -> int | None:
    """The exit code of a search that goes on, as soon as its last coordinator does not count as alive any more."""
    end = time.monotonic() + 600
    while True:
        with started(cluster, folder, again=True) as search:
            code = search.ended()
        if code == 0 or "being run by another process" not in search.last_line or time.monotonic() > end:
            return code
        time.sleep(3)


@pytest.mark.parametrize(
    "strike", [kill_actors, kill_node, kill_raylet, kill_own_raylet, kill_driver, cut_link, restart_head]
)
def test_no_trial_is_lost_and_none_doubled(
    cluster: Cluster,
    place: Path,
    undisturbed: tuple[list[object], list[object], object],
    strike: Callable[[Cluster], None],
) -> None:
    """A search on two machines that see nothing of the coordinator's files ends as one on this machine does."""
    with started(cluster, place / strike.__name__) as search:
        search.wait_for_trials()
        strike(cluster)
        assert search.ended() == 0, search.log.read_text()
    assert outcome(search.url, "same") == undisturbed


def test_a_killed_coordinator_loses_nothing(
    cluster: Cluster, place: Path, undisturbed: tuple[list[object], list[object], object]
) -> None:
    """A coordinator that is killed with all that runs on its machine resumes, and ends as if nothing had been."""
    folder = place / "kill_coordinator"
    with started(cluster, folder) as search:
        search.wait_for_trials()
    assert resumed(cluster, folder) == 0, search.log.read_text()
    assert outcome(search.url, "same") == undisturbed


def test_an_unfit_node_that_joins_ends_the_search_with_the_reason(
    cluster: Cluster, place: Path, undisturbed: tuple[list[object], list[object], object]
) -> None:
    """A node that has another folder in the place of the artefacts runs nothing; without it the search is resumed."""
    folder, node = place / "unfit", cluster.nodes[0]
    with started(cluster, folder, seconds=3 * SECONDS) as search:  # it must last until the node has joined
        search.wait_for_trials()
        cluster.kill(node)
        cluster.start(node, shares=False)
        code = search.ended()
    cluster.kill(node)
    cluster.start(node)
    assert code == 2, search.log.read_text()
    assert "cannot run trials: it does not find the coordinator's artefacts" in search.last_line
    assert resumed(cluster, folder) == 0, search.log.read_text()
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
    (folder / "run.yaml").write_text(yaml.safe_dump({**config, "executor": "ray", "ray": {"address": cluster.address}}))
    url, log = f"sqlite:///{folder}/record.db", folder / "search.log"
    arguments = ("search", "--config", folder / "run.yaml", "--name", "trained", "--database", url)
    process = cluster.run(command(*arguments, "--runs", folder / "runs"), log)
    try:
        assert Started(process, url, log).ended() == 0, log.read_text()
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
        Path(tempfile.gettempdir()) / f"mobilenas-{os.getuid()}" / f"data-{Dataset.open(prepared.parent).content_hash}"
    )
    assert sent.is_dir()
    shutil.rmtree(sent)
