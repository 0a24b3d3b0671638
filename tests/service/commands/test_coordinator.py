"""Coordinators for real: queued searches run, survive kills and a restarting server, and end exactly right."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from search.record.claims import Claim
from search.record.store import Store
from search.trial import SearchStage, State
from tests.postgres import PostgresServer
from tests.search.killing import write_run
from tests.tiny import Result
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

Mobilenas = Callable[..., Result]
TRIALS = 6


@pytest.fixture
def url(database_url: str) -> str:
    """A record with the current schema."""
    Store.open(database_url).close()
    return database_url


@pytest.fixture
def queued(tmp_path: Path, mobilenas: Mobilenas, url: str, request: pytest.FixtureRequest) -> Path:
    """Two searches in the queue, whose networks a function judges; returns the folder of their runs.

    Behind the reference it waits for as long as there is a file `gate` beside that folder.
    """
    blocks = {"trials": getattr(request, "param", TRIALS), "sampler": "random", "reuse": False}
    config = write_run(tmp_path, seconds=0.1, workers=1, determinism="eager", blocks=blocks, netadapt={"max_steps": 1})
    for seed, name in enumerate(("first", "second")):
        told = mobilenas("search", "--config", config, "--name", name, "--seed", seed, "--queue", "--database", url)
        assert told.code == 0, told.err
    return tmp_path / "runs"


def coordinator(url: str, runs: Path, *options: str) -> "subprocess.Popen[str]":
    """One more coordinator."""
    command = [sys.executable, "-m", "service.cli", "coordinator", "--database", url, "--runs", str(runs), *options]
    environment = {**os.environ, "MOBILENAS_LOG_FORMAT": "json"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def completed(store: Store, name: str) -> int:
    """Completed block-level trials of a search that must not have failed."""
    assert store.searches.get(name).error is None
    trials = store.trials.of(store.searches.get(name).id, SearchStage.BLOCKS)
    return sum(trial.state is State.COMPLETE for trial in trials)


def is_done(store: Store, name: str) -> bool:
    """Whether a search has ended well; it must not end badly."""
    search = store.searches.get(name)
    assert search.error is None
    return search.state == "done" and search.holder is None


def check_done(store: Store, name: str) -> None:
    """The search is done, and each of its trials is there exactly once."""
    search = store.searches.get(name)
    assert (search.state, search.error, search.holder) == ("done", None, None)
    trials = store.trials.of(search.id)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} <= {State.COMPLETE, State.PRUNED}
    assert completed(store, name) == TRIALS
    assert len(store.trials.steps(search.id)) == 1
    assert len(store.trials.exports(search.id)) == 1
    assert search.require_start().files.spec.is_file()
    assert "is done" in store.searches.log(search.id)[-1].message


def test_killed_and_cut_off_coordinators(
    queued: Path, url: str, request: pytest.FixtureRequest, mobilenas: Mobilenas
) -> None:
    """Of two coordinators one is killed in mid-search, and the server restarts; another one goes on where it was."""
    gate = queued.parent / "gate"
    gate.touch()
    children = [coordinator(url, queued) for _ in range(2)]
    with closing(Store.open(url, 60)) as store:
        try:
            wait_for(lambda: completed(store, "first") >= 1 and bool(store.searches.get("second").holder))
            pids = [Claim.parse(store.searches.get(name).holder or "").pid for name in ("first", "second")]
            children.sort(key=lambda child: pids.index(child.pid))
            children[0].kill()
            children[0].wait()  # what is being killed goes on for a moment
            before = {trial.number: trial for trial in store.trials.of(store.searches.get("first").id)}
            if url.startswith("postgresql"):
                server: PostgresServer = request.getfixturevalue("postgres")
                server.stop()
                time.sleep(1)
                server.start()
            # A process of this machine that is gone need not be waited for.
            assert mobilenas("resume", "first", "--queue", "--database", url).code == 0
            gate.unlink()
            children.append(coordinator(url, queued, "--drain"))
            wait_for(lambda: is_done(store, "first") and is_done(store, "second"))
            children[-1].wait(300)
            for name in ("first", "second"):
                check_done(store, name)
            after = {trial.number: trial for trial in store.trials.of(store.searches.get("first").id)}
            kept = {number: trial for number, trial in before.items() if trial.state is not State.RUNNING}
            assert {number: after[number] for number in kept} == kept
        finally:
            for child in children:
                child.terminate()
            told = [child.communicate(timeout=1200)[1] for child in children]
    for text, child in zip(told, children, strict=True):
        assert child.returncode in (0, -signal.SIGKILL)
        lines = [json.loads(line) for line in text.splitlines()]
        assert all({"timestamp", "level", "event"} <= set(line) for line in lines)


@pytest.mark.parametrize("queued", [1000], indirect=True, ids=["endless"])
def test_stop_and_terminate(queued: Path, url: str, mobilenas: Mobilenas) -> None:
    """A coordinator that is told to end leaves its search to the next; a stopped search is left alone by all."""
    gate = queued.parent / "gate"
    gate.touch()
    child = coordinator(url, queued)
    with closing(Store.open(url)) as store:
        try:
            wait_for(lambda: completed(store, "first") >= 1)
            child.terminate()
            child.communicate(timeout=1200)
            assert child.returncode == 0
            assert (store.searches.get("first").state, store.searches.get("first").holder) == ("queued", None)
            assert mobilenas("stop", "second", "--database", url).code == 0
            assert completed(store, "first") == 1
            child = coordinator(url, queued)
            wait_for(lambda: store.searches.get("first").is_held)
            assert mobilenas("stop", "first", "--database", url).code == 0
            gate.unlink()
            wait_for(lambda: store.searches.get("first").state == "stopped")
            time.sleep(3)  # longer than a coordinator waits before it looks again
            assert {search.state for search in store.searches.all()} == {"stopped"}
            assert all(trial.state is not State.RUNNING for trial in store.trials.of(store.searches.get("first").id))
        finally:
            child.kill()
            child.communicate()


def test_what_cannot_run_is_recorded_and_passed_over(
    queued: Path, url: str, mobilenas: Mobilenas, tiny_config: Path
) -> None:
    """A search that fails keeps its reason, and the queue goes on behind it."""
    for name in ("first", "second"):
        mobilenas("stop", name, "--database", url)
    judged = ("search", "--config", queued.parent / "run.yaml", "--queue", "--database", url)
    arguments = ("search", "--config", tiny_config, "--queue", "--database", url)
    assert mobilenas(*judged, "--name", "impossible", "--target", "0.000001ms").code == 0
    assert mobilenas(*arguments, "--name", "lost", "--data", "imagefolder:/no/such/folder").code == 0
    assert mobilenas(*arguments, "--name", "other", "--device", "phone").code == 0
    child = coordinator(url, queued, "--drain", "--device", "local")
    _, told = child.communicate(timeout=1200)
    assert child.returncode == 0, told
    with closing(Store.open(url)) as store:
        states = {search.name: (search.state, search.error or "") for search in store.searches.all()}
    assert states["impossible"][0] == "failed"
    assert "out of reach" in states["impossible"][1]
    assert states["lost"][0] == "failed"
    assert "/no/such/folder" in states["lost"][1]
    assert states["other"] == ("queued", "")
    assert not (queued / "impossible").exists()
