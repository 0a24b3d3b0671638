"""Where evaluations run: the protocol that executors keep, and the local one, a pool of worker processes."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Protocol

from pebble import ProcessExpired, ProcessPool

from search.evaluate import Job, Outcome, run_job
from space.errors import MobilenasError

_progress: "Queue[tuple[int, float]] | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that ended: with an outcome, or with the reason why there is none."""

    job: Job
    outcome: Outcome | None
    error: str | None


class Executor(Protocol):
    """Runs jobs, several at a time. Used by one thread."""

    slots: int
    """How many jobs run at once."""

    def submit(self, job: Job) -> None:
        """Start a job, or queue it where all slots are taken."""

    def wait(self, seconds: float) -> list[Finished]:
        """The jobs that ended, as soon as there is one; empty after so many seconds without."""

    def progress(self) -> Mapping[int, float]:
        """The share done (0-1) of each running job that has told, by trial number."""

    def close(self) -> None:
        """Stop everything that still runs."""


def _follow_parent() -> None:
    """End this worker when the coordinator is gone; otherwise a killed search would go on training unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _start_worker(progress: "Queue[tuple[int, float]]", threads: int) -> None:
    global _progress  # noqa: PLW0603 - a worker process has one queue, given once at its start
    import torch

    torch.set_num_threads(threads)
    # Ctrl-C reaches the whole process group; what a worker does is for the coordinator to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _progress = progress


def _work(job: Job) -> Outcome:
    def report(done: int, total: int) -> None:
        if _progress is not None:
            _progress.put((job.number, done / total))

    return run_job(job, report)


class LocalExecutor:
    """A pool of worker processes on this machine, each with one torch thread.

    Parallel one-threaded trials beat one trial on several threads (measured: 257 images/s with one thread, 54 with
    two, while a neighbour was busy). A worker that dies takes only its own job with it.
    """

    def __init__(self, slots: int, *, job_seconds: float) -> None:
        self.slots = slots
        self._seconds = job_seconds
        context = multiprocessing.get_context("spawn")
        self._queue: Queue[tuple[int, float]] = context.Queue()
        self._pool = ProcessPool(
            max_workers=slots, initializer=_start_worker, initargs=(self._queue, 1), context=context
        )
        self._jobs: dict[Future[Outcome], Job] = {}
        self._done: dict[int, float] = {}

    def submit(self, job: Job) -> None:
        """See `Executor`."""
        self._jobs[self._pool.schedule(_work, args=(job,), timeout=self._seconds)] = job

    def wait(self, seconds: float) -> list[Finished]:
        """See `Executor`."""
        ended, _ = wait(self._jobs, timeout=seconds, return_when=FIRST_COMPLETED)
        finished = [self._result(future, self._jobs.pop(future)) for future in ended]
        for result in finished:
            self._done.pop(result.job.number, None)
        return sorted(finished, key=lambda result: result.job.number)

    def _result(self, future: "Future[Outcome]", job: Job) -> Finished:
        try:
            return Finished(job=job, outcome=future.result(), error=None)
        except TimeoutError:
            reason = f"it took longer than {self._seconds / 60:g} minutes (trial_minutes)"
        except ProcessExpired as error:
            reason = f"its worker process died (exit code {error.exitcode})"
        except MobilenasError as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a trial raises is recorded as its failure
            reason = f"{type(error).__name__}: {error}"
        return Finished(job=job, outcome=None, error=reason)

    def progress(self) -> Mapping[int, float]:
        """See `Executor`."""
        running = {job.number for job in self._jobs.values()}
        try:
            while True:
                number, share = self._queue.get_nowait()
                self._done[number] = share
        except queue.Empty:
            return {number: share for number, share in self._done.items() if number in running}

    def close(self) -> None:
        """See `Executor`."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._queue.close()
        self._queue.join_thread()
