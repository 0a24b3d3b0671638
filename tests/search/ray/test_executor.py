"""The coordinator's side of a Ray cluster, and its driver, which may hang or end at any time."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from search.evaluation.executor import Finished
from search.evaluation.job import Job, Outcome, OwnEvaluation
from search.plugins import Plugin
from search.ray.executor import SILENCE_S, START_S, RayExecutor, _Driver
from search.ray.messages import Alive, Capacity, DriverLost, Note, SharesDone
from space.errors import RunError
from space.reference import mobilenet_v3_small_32px
from tests.tiny import RAY_HERE
from tests.waiting import HANGS_S, has_ended, wait_for


@pytest.fixture
def evaluation(tmp_path: Path) -> OwnEvaluation:
    """An evaluator that answers at once."""
    (tmp_path / "quick.py").write_text("def top1(arch): return 0.5\n")
    plugin = Plugin(name="quick:top1", folder=str(tmp_path))
    return OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    """One that has no driver yet."""
    made = RayExecutor(RAY_HERE)
    yield made
    made.close()


def test_a_driver_whose_tune_hangs_is_silent(executor: RayExecutor) -> None:
    """What a thread beside Tune tells does not count as a sign of life; Tune's own beats and results do."""
    driver = cast("_Driver", SimpleNamespace(deadline=0.0))
    for message in (Capacity(3), SharesDone({}), Note("x")):
        executor._heard(driver, message)
        assert driver.deadline == 0.0
    for beat, least, most in ((Alive(), 0, SILENCE_S), (Alive(is_start=True), SILENCE_S, START_S)):
        before = time.monotonic()
        executor._heard(driver, beat)
        assert before + least < driver.deadline <= time.monotonic() + most


def told(executor: RayExecutor, *messages: object, driver_dies: bool = False) -> "Connection[object, object]":
    """Have a driver of the executor's say something; returns its end of the pipe."""
    ours, theirs = multiprocessing.Pipe()
    driver = SimpleNamespace(pipe=ours, deadline=time.monotonic() + HANGS_S, endings=0, kill=ours.close)
    driver.send = lambda _: None
    executor._driver = cast("_Driver", driver)
    for message in messages:
        theirs.send(message)
    if driver_dies:
        theirs.close()
    return theirs


@pytest.mark.parametrize("driver_dies", [False, True])
def test_a_result_is_not_lost_with_the_cluster(
    evaluation: OwnEvaluation, monkeypatch: pytest.MonkeyPatch, driver_dies: bool
) -> None:
    """What was told just before the end is given to the coordinator, and only then is the end an error."""
    monkeypatch.setattr(RayExecutor, "_restart", lambda _: None)
    executor = RayExecutor(RAY_HERE, retry_s=-1.0)
    jobs = [Job(number=number, attempt=1, evaluation=evaluation) for number in range(2)]
    for job in jobs:
        executor.submit(job)
    done = Finished(job=jobs[1], outcome=Outcome(top1=0.5), error=None)
    verdict = () if driver_dies else (DriverLost("node 10.0.0.2 cannot run trials: x", is_final=True),)
    theirs = told(executor, done, *verdict, driver_dies=driver_dies)
    assert executor.wait(HANGS_S) == [done]
    for _ in range(2):
        with pytest.raises(RunError, match=r"cannot run trials: x|its driver process died"):
            executor.wait(HANGS_S)
    theirs.close()
    executor.close()


def hang(_pipe: object, _setup: object) -> None:
    """A driver that never reads what it is sent."""
    time.sleep(HANGS_S)


@pytest.mark.slow
def test_a_driver_that_never_reads_is_noticed(evaluation: OwnEvaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    """More jobs than a pipe takes are handed in at once, and the driver is given up when its time is over."""
    monkeypatch.setattr("search.ray.executor.START_S", 2.0)
    monkeypatch.setattr("search.ray.executor._drive", hang)
    notes: list[str] = []
    executor = RayExecutor(RAY_HERE, note=notes.append)
    try:
        for number in range(1000):
            executor.submit(Job(number=number, attempt=1, evaluation=evaluation))
        end = time.monotonic() + HANGS_S
        while len(notes) < 2 and time.monotonic() < end:
            assert executor.wait(0.5) == []
    finally:
        executor.close()
    assert len(notes) == 2
    assert all("stopped answering" in note and "1000 trials start again" in note for note in notes)


@pytest.mark.slow
def test_a_cluster_of_its_own_is_no_other_one(evaluation: OwnEvaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Ray remembers a cluster that this machine was in, a search without an address does not look for that."""
    # The paths of sockets must be short; and Ray's processes may write a last line.
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        monkeypatch.setenv("RAY_TMPDIR", folder)
        executor = RayExecutor(RAY_HERE, retry_s=0.0)
        try:
            executor.submit(Job(number=0, attempt=1, evaluation=evaluation))
            finished: list[Finished] = []
            end = time.monotonic() + HANGS_S
            while not finished and time.monotonic() < end:
                finished = executor.wait(1.0)
        finally:
            executor.close()
    assert [result.error for result in finished] == [None]


STARTS_A_DRIVER = """
import os, signal
from dataclasses import replace
from pathlib import Path
from search.ray.executor import _Driver
from tests.tiny import RAY_HERE

if __name__ == "__main__":
    print(_Driver(replace(RAY_HERE, folder=Path(__file__).parent)).process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_driver_whose_coordinator_dies_ends_alone(tmp_path: Path) -> None:
    """While it still starts, too, it ends with its coordinator, and without the script that called that."""
    (tmp_path / "coordinator.py").write_text(STARTS_A_DRIVER)
    caller = f"{sys.executable} {tmp_path}/coordinator.py; sleep 5; echo I live"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        ["sh", "-c", caller], stdout=subprocess.PIPE, env=environment, start_new_session=True, text=True, check=False
    )
    pid, *words = done.stdout.split()
    assert " ".join(words) == "I live"
    wait_for(lambda: has_ended(int(pid)))
