"""The coordinator's side of a Ray cluster: hands jobs to a driver process, watches it, and replaces it if need be."""

import logging
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from queue import SimpleQueue

from search.evaluation.executor import Finished, end_with_parent
from search.evaluation.job import Job
from search.evaluation.processes import interrupts_ignored, large_pages
from search.ray.messages import (
    Alive,
    Capacity,
    Close,
    ClusterSetup,
    DriverLost,
    EvaluatorSources,
    Note,
    RunJob,
    SharesDone,
    Waiting,
)
from space.errors import RunError

# A driver that starts a cluster, or looks for one, may be silent for so long; later Tune goes round several times a
# second.
START_S, SILENCE_S = 120.0, 30.0
# How long the cluster may be away before the search gives up.
RETRY_S = 900.0
_RESTART_S = 3.0
_CLOSE_S, _LEAVE_S = 10.0, 1.0

_log = logging.getLogger("mobilenas.ray")


class _Driver:
    """One driver process and its pipe."""

    def __init__(self, setup: ClusterSetup) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self.pipe: Connection[object, object] = ours
        self.process: SpawnProcess = context.Process(target=_drive, args=(theirs, setup), daemon=False)
        with large_pages(), interrupts_ignored():  # for a cluster that it starts here, too
            self.process.start()
        theirs.close()
        self.deadline = time.monotonic() + START_S
        self.endings = 0
        # A pipe takes only so much while nobody reads, and who waits for it does not see that the driver hangs.
        self._outbox: SimpleQueue[object] = SimpleQueue()
        self._postman = threading.Thread(target=self._post, daemon=True)
        self._postman.start()

    def send(self, message: object) -> None:
        """Have it sent, as soon as it is read."""
        self._outbox.put(message)

    def _post(self) -> None:
        with suppress(OSError):  # a driver that died this moment is noticed when it is listened to
            while (message := self._outbox.get()) is not None:
                self.pipe.send(message)

    def kill(self) -> None:
        """End it, and the processes of Ray that it started; a node that leaves by itself is missed at once."""
        assert self.process.pid is not None
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            self.process.join(_LEAVE_S)
        self.process.kill()  # before it leads a group, it is none
        self.process.join()
        self._outbox.put(None)
        self._postman.join()
        self.pipe.close()


def _drive(pipe: "Connection[object, object]", setup: ClusterSetup) -> None:
    os.setsid()  # all that is started here can be ended at once, and nothing else with it
    end_with_parent(group=True)
    from search.ray.driver import drive

    drive(pipe, setup)


class RayExecutor:
    """Runs jobs on a Ray cluster.

    A driver that ends or falls silent, because the cluster did, is replaced, and what it ran is run again as the same
    attempt: it can tell nothing any more, so no result comes twice.
    """

    def __init__(
        self,
        setup: ClusterSetup,
        *,
        concurrent: int | None = None,
        note: Callable[[str], None] = _log.warning,
        silence_s: float = SILENCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mobilenas-ray-")
        self._setup = replace(setup, folder=Path(self._folder.name))
        self._concurrent, self._note = concurrent, note
        self._silence_s, self._retry_s = silence_s, retry_s
        self._jobs: dict[tuple[int, int], Job] = {}
        self._sources: dict[str, Mapping[str, bytes]] = {}
        self._shares: Mapping[int, float] = {}
        self._room = 1
        self._driver: _Driver | None = None
        self._start_at = 0.0
        self._away_since: float | None = None
        self._reason: str | None = None
        self._is_answer_due = False
        self._verdict: RunError | None = None  # why there will be no more results

    @property
    def slots(self) -> int:
        """How many trials fit into the cluster now; never none, so that who waits for room goes on waiting."""
        return max(1, min(self._room, self._concurrent or self._room))

    def submit(self, job: Job) -> None:
        """See `Executor`."""
        self._jobs[job.number, job.attempt] = job
        for content, plugin in job.evaluation.plugins():
            if content not in self._sources:
                self._sources[content] = plugin.sources
                if self._driver is not None:
                    self._driver.send(EvaluatorSources(content, self._sources[content]))
        if self._driver is not None:
            self._driver.send(RunJob(job))
        elif self._verdict is None:
            self._restart()

    def _restart(self) -> None:
        """Start a driver with everything that is to be run."""
        self._driver = _Driver(self._setup)
        for content, files in self._sources.items():
            self._driver.send(EvaluatorSources(content, files))
        for job in self._jobs.values():
            self._driver.send(RunJob(job))

    def wait(self, seconds: float) -> list[Finished]:
        """See `Executor`.

        Raises:
            RunError: the cluster cannot run trials, or could not be reached for a long time.
        """
        if self._is_answer_due and self._driver is not None:
            self._driver.send(Waiting(self._driver.endings))
        end = time.monotonic() + seconds
        finished: list[Finished] = []
        while not finished and (left := end - time.monotonic()) > 0:
            if self._verdict is not None:
                raise self._verdict
            if self._driver is None:
                if time.monotonic() < self._start_at:
                    time.sleep(min(left, 0.1))
                    continue
                self._restart()
            assert self._driver is not None
            finished = self._listen(self._driver, left)
        self._is_answer_due = bool(finished)
        return sorted(finished, key=lambda result: result.job.number)

    def _listen(self, driver: _Driver, seconds: float) -> list[Finished]:
        """What a driver has to tell within so many seconds; one that is dead or silent is ended."""
        patience = max(0.0, min(seconds, driver.deadline - time.monotonic()))
        finished: list[Finished] = []
        try:
            if driver.pipe.poll(patience):
                while driver.pipe.poll():
                    finished += self._heard(driver, driver.pipe.recv())
                return finished
        except (EOFError, OSError):
            self._lose(driver, self._reason or "its driver process died")
            return finished
        if time.monotonic() >= driver.deadline:
            self._lose(driver, "its driver stopped answering")
        return finished

    def _heard(self, driver: _Driver, message: object) -> list[Finished]:
        if isinstance(message, DriverLost) and message.is_final:
            self._verdict = RunError(message.reason)
        elif isinstance(message, DriverLost):
            self._reason = message.reason
            raise EOFError
        if isinstance(message, Alive | Finished):  # the others come from a thread that may outlive Tune
            is_start = isinstance(message, Alive) and message.is_start
            driver.deadline = time.monotonic() + (START_S if is_start else self._silence_s)
        if isinstance(message, Finished) or (isinstance(message, SharesDone) and message.shares):
            self._away_since = None  # only trials that run show that a driver is of use
        if isinstance(message, SharesDone):
            self._shares = message.shares
        elif isinstance(message, Capacity):
            self._told_room(message.trials)
        elif isinstance(message, Finished):
            driver.endings += 1
            return self._ended(message)
        elif isinstance(message, Note):
            self._note(message.text)
        else:
            assert isinstance(message, Alive | DriverLost)
        return []

    def _told_room(self, room: int) -> None:
        if room == 0 and self._room > 0 and self._jobs:
            wanted = ", ".join(f"{name} {amount:g}" for name, amount in self._setup.need.items() if amount)
            self._note(f"no node of the Ray cluster has room for a trial ({wanted}); waiting for one")
        self._room = room

    def _ended(self, finished: Finished) -> list[Finished]:
        """A result, unless it is of an attempt that nobody waits for."""
        job = self._jobs.pop((finished.job.number, finished.job.attempt), None)
        return [] if job is None else [replace(finished, job=job)]

    def _lose(self, driver: _Driver, what: str) -> None:
        """Give a driver up, and see to it that another one is started, unless that was tried for a long time."""
        last = _last_line(self._setup.log)
        driver.kill()
        self._driver, self._shares, self._reason = None, {}, None
        if self._verdict is not None:
            return
        now = time.monotonic()
        self._away_since = self._away_since or now
        where = self._setup.address or "on this machine"
        if now - self._away_since > self._retry_s:
            self._verdict = RunError(f"the Ray cluster {where} cannot be used ({what}: {last}); fix that, then resume")
            return
        self._note(f"the Ray cluster {where} was lost ({what}: {last}); {len(self._jobs)} trials start again")
        self._start_at = now + _RESTART_S

    def progress(self) -> Mapping[int, float]:
        """See `Executor`."""
        return self._shares

    def close(self) -> None:
        """See `Executor`."""
        self._jobs.clear()
        driver, self._driver = self._driver, None
        try:
            if driver is not None:
                self._take_leave(driver)
        finally:
            if driver is not None:
                driver.kill()
            self._folder.cleanup()

    def _take_leave(self, driver: _Driver) -> None:
        """Let a driver give back what it has on the cluster."""
        driver.send(Close())
        end = time.monotonic() + _CLOSE_S
        with suppress(EOFError, OSError):
            while (left := end - time.monotonic()) > 0 and driver.pipe.poll(left):
                if isinstance(driver.pipe.recv(), Close):
                    break


def _last_line(log: Path) -> str:
    """The last thing that Ray or the driver said."""
    with suppress(OSError):
        lines = [
            line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        if lines:
            return lines[-1][:300]
    return "it said nothing"
