"""What happens to a cluster, and what it must not do to a search on it: no trial lost, none doubled."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from search.store import Store
from search.trial import State
from space.errors import StoreError
from tests.search.cluster import COORDINATOR, HEAD, Cluster, why_not
from tests.search.killing import command, outcome, write_run

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
    from service.cli import app

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
            trials = store.trials(store.search("same").id)
            return sum(trial.state is State.COMPLETE for trial in trials)
        finally:
            store.close()
    return 0


def kill_actors(cluster: Cluster, _folder: Path) -> None:
    """The processes of Ray's that run trials."""
    assert sum(cluster.kill_process(node, b"ray::_Worker") for node in cluster.nodes)


def kill_node(cluster: Cluster, _folder: Path) -> None:
    """A machine, which comes back after a while."""
    cluster.kill(cluster.nodes[0])
    time.sleep(15)
    cluster.start(cluster.nodes[0])


def kill_raylet(cluster: Cluster, _folder: Path) -> None:
    """Ray's own process on a node; the machine is started again."""
    assert cluster.kill_process(cluster.nodes[0], b"raylet")
    time.sleep(15)
    cluster.kill(cluster.nodes[0])
    cluster.start(cluster.nodes[0])


def kill_own_raylet(cluster: Cluster, _folder: Path) -> None:
    """That of the coordinator's machine."""
    assert cluster.kill_process(COORDINATOR, b"raylet")


def kill_driver(cluster: Cluster, _folder: Path) -> None:
    """The process between the coordinator and Ray."""
    assert cluster.kill_spawned(COORDINATOR)


def cut_link(cluster: Cluster, _folder: Path) -> None:
    """A node falls silent; a while later it is reached again, and starts anew."""
    cluster.cut(cluster.nodes[0])
    time.sleep(25)
    cluster.mend(cluster.nodes[0])
    cluster.kill(cluster.nodes[0])
    cluster.start(cluster.nodes[0])


def restart_head(cluster: Cluster, _folder: Path) -> None:
    """The head, and with it, as Ray does it, all nodes."""
    cluster.kill(HEAD)
    time.sleep(10)
    cluster.start(HEAD)
    for node in cluster.nodes:
        cluster.kill(node)
        cluster.start(node)


@pytest.mark.parametrize(
    "strike", [kill_actors, kill_node, kill_raylet, kill_own_raylet, kill_driver, cut_link, restart_head]
)
def test_no_trial_is_lost_and_none_doubled(
    cluster: Cluster,
    place: Path,
    undisturbed: tuple[list[object], list[object], object],
    strike: Callable[[Cluster, Path], None],
) -> None:
    """A search on two machines that see nothing of the coordinator's files ends as one on this machine does."""
    folder = place / strike.__name__
    config = write_run(folder, seconds=SECONDS, executor="ray", ray={"address": cluster.address}, **CHANGES)
    url, log = f"sqlite:///{folder}/record.db", folder / "search.log"
    arguments = ("search", "--config", config, "--name", "same", "--database", url, "--runs", folder / "runs")
    search = cluster.run(command(*arguments), log)
    try:
        end = time.monotonic() + 400
        while completed(url) < 5:
            assert search.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        strike(cluster, folder)
        with suppress(subprocess.TimeoutExpired):
            search.wait(timeout=max(1.0, end - time.monotonic()))
        code = search.poll()
    finally:
        search.kill()
        search.wait()
    assert code == 0, log.read_text()
    assert outcome(url, "same") == undisturbed


def test_a_killed_coordinator_loses_nothing(
    cluster: Cluster, place: Path, undisturbed: tuple[list[object], list[object], object]
) -> None:
    """A coordinator that is killed with all that runs on its machine resumes, and ends as if nothing had been."""
    folder = place / "kill_coordinator"
    config = write_run(folder, seconds=SECONDS, executor="ray", ray={"address": cluster.address}, **CHANGES)
    url, log = f"sqlite:///{folder}/record.db", folder / "search.log"
    known = ("--database", url, "--runs", folder / "runs")
    search = cluster.run(command("search", "--config", config, "--name", "same", *known), log)
    end = time.monotonic() + 400
    while completed(url) < 5:
        assert search.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    search.kill()
    search.wait()
    while True:  # a while long it counts as alive
        resumed = cluster.run(command("resume", "same", *known), log)
        try:
            code = resumed.wait(timeout=max(1.0, end - time.monotonic()))
        finally:
            resumed.kill()
            resumed.wait()
        if code == 0:
            break
        assert time.monotonic() < end, log.read_text()
        time.sleep(3)
    assert outcome(url, "same") == undisturbed
