"""Where evaluations run: the protocol that executors keep, and the local one, a pool of worker processes."""

import atexit
import errno
import multiprocessing
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from search.evaluation.job import Interim, Job, Outcome, OwnEvaluation, ask_own
from search.evaluation.processes import StartContext, interrupts_ignored, start_context, take_environment
from search.evaluation.shared import SharedTraining, run_shared_training
from space.errors import Diverged, MobilenasError, RunError, TimeLimit
from space.packages import foreign

_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that ended: with an outcome, or with the reason why there is none.

    `would_recur` says that another attempt would end alike. `stopped` is what it had reached where it was stopped
    early, since others had done better.
    """

    job: Job
    outcome: Outcome | None
    error: str | None
    is_disk_full: bool = False
    would_recur: bool = False
    stopped: Interim | None = None


def failed(job: Job, error: BaseException) -> Finished:
    """A job that ended with an error: ours says all by itself."""
    reason = str(error) if isinstance(error, MobilenasError) else f"{type(error).__name__}: {error}"
    is_disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Finished(
        job=job,
        outcome=None,
        error=" ".join(reason.split()),  # a trial is told of in one line
        is_disk_full=is_disk_full,
        would_recur=isinstance(error, Diverged | TimeLimit),
    )


class Executor(Protocol):
    """Runs jobs, several at a time. Used by one thread."""

    @property
    def slots(self) -> int:
        """How many jobs run at once."""

    def submit(self, job: Job) -> None:
        """Start a job, or queue it where all slots are taken."""

    def wait(self, seconds: float) -> list[Finished]:
        """The jobs that ended, as soon as there is one; empty after so many seconds without."""

    def progress(self) -> Mapping[int, float]:
        """The share done (0-1) of each running job that has told, by trial number."""

    def close(self) -> None:
        """Stop everything that still runs."""


def end_with_parent(*, group: bool = False) -> None:
    """End this process, or its group, with the coordinator; else a killed search would go on training unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        if group:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def run_job(
    job: Job, *, threads: int, progress: Callable[[int, int], None], interim: Callable[[Interim], None]
) -> Outcome:
    """Evaluate a network in this process.

    `progress` hears of (images seen, images in all), `interim` of what a watched training reached so far.

    Raises:
        MobilenasError: it cannot be done; and whatever a user's own evaluator raises.
    """
    if isinstance(job.evaluation, OwnEvaluation):
        return ask_own(job.evaluation)
    import torch  # takes seconds and 200 MB, which a user's own evaluator may do without

    from search.evaluation.worker import run_training

    torch.set_num_threads(threads)
    if isinstance(job.evaluation, SharedTraining):
        return run_shared_training(job, progress)
    return run_training(job, progress, interim)


def _work(pipe: "Connection[object, object]", threads: int, gpu: str | None, environment: Mapping[str, str]) -> None:
    """A worker's life: jobs in; that each is taken, shares done, interim results, and then how it ended, out."""
    end_with_parent()
    take_environment(environment)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before torch looks for devices, and then sees no other
    problem = foreign()
    with suppress(EOFError, OSError):  # the coordinator died; there is nobody left to tell
        while True:
            job = pipe.recv()
            assert isinstance(job, Job)
            pipe.send(0.0)
            pipe.send(failed(job, RunError(problem)) if problem else _finished(job, pipe, threads))


def _finished(job: Job, pipe: "Connection[object, object]", threads: int) -> Finished:
    told = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            pipe.send(done / total)

    try:
        outcome = run_job(job, threads=threads, progress=report, interim=pipe.send)
        return Finished(job=job, outcome=outcome, error=None)
    # Whatever a trial raises is recorded as its failure, even what is meant to end a process: Ctrl-C is ignored here.
    except BaseException as error:  # noqa: BLE001
        return failed(job, error)


class _Worker:
    """One process and its pipe; shared with no other worker, so that a killed one holds no lock of theirs.

    It is no daemon in multiprocessing's sense, which may have no processes of its own, such as those that read ahead.
    """

    def __init__(self, context: StartContext, threads: int, gpu: str | None) -> None:
        self.gpu = gpu
        ours, theirs = context.Pipe()
        self.pipe: Connection[object, object] = ours
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, threads, gpu, dict(os.environ)))
        with interrupts_ignored():
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.has_worked = False
        self.is_taken = False
        self.deadline = float("inf")
        self.share = 0.0
        self.interim: Interim | None = None

    def start(self, job: Job, seconds: float) -> None:
        self.job, self.deadline, self.share = job, time.monotonic() + seconds, 0.0
        self.interim, self.is_taken = None, False
        with suppress(OSError):  # a worker that died this moment is noticed, like any other, when it is looked at
            self.pipe.send(job)

    def stop(self, error: str, *, would_recur: bool = False) -> Finished:
        """Its job will not end by itself."""
        assert self.job is not None
        return Finished(job=self.job, outcome=None, error=error, would_recur=would_recur)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


class LocalExecutor:
    """A pool of worker processes on this machine, each with one torch thread by default.

    Parallel one-threaded trials beat one trial on several threads (measured: 257 images/s with one thread, 54 with
    two, while a neighbour was busy). A worker that dies takes only its own job with it, and is replaced. Each worker
    sees one of `gpus`, which they share evenly. They start at once where networks are trained (`trains`); what a user's
    own evaluator needs, each imports for itself.
    """

    def __init__(
        self,
        slots: int,
        *,
        job_seconds: float,
        threads: int = 1,
        gpus: tuple[str, ...] = (),
        trains: bool = True,
    ) -> None:
        self.slots = slots
        self._seconds, self._threads, self._gpus = job_seconds, threads, gpus
        self._context = start_context(trains=trains)
        self._workers: list[_Worker] = []
        self._queue: deque[Job] = deque()
        # Of the pipes of busy workers; with hundreds of them, to look at each whenever one speaks takes longer than
        # everything else.
        self._selector = selectors.DefaultSelector()
        # Else multiprocessing would wait, at the end of this process, for workers that wait for jobs.
        atexit.register(self.close)

    def submit(self, job: Job) -> None:
        """See `Executor`."""
        self._queue.append(job)
        self._dispatch()

    def _dispatch(self) -> None:
        for worker in [worker for worker in self._workers if worker.job is None]:
            if not worker.process.is_alive():
                self._remove(worker)
            elif self._queue:
                self._start(worker)
        while self._queue and len(self._workers) < self.slots:
            worker = _Worker(self._context, self._threads, self._least_used_gpu())
            self._workers.append(worker)
            self._start(worker)

    def _least_used_gpu(self) -> str | None:
        used = [worker.gpu for worker in self._workers]
        return min(self._gpus, key=used.count, default=None)

    def _start(self, worker: _Worker) -> None:
        worker.start(self._queue.popleft(), self._seconds)
        self._selector.register(worker.pipe, selectors.EVENT_READ, worker)

    def _end(self, worker: _Worker, finished: Finished) -> Finished:
        self._selector.unregister(worker.pipe)
        worker.job, worker.deadline, worker.has_worked = None, float("inf"), True
        return finished

    def _remove(self, worker: _Worker) -> None:
        if worker.job is not None:
            self._selector.unregister(worker.pipe)
        worker.kill()
        self._workers.remove(worker)

    def wait(self, seconds: float) -> list[Finished]:
        """See `Executor`."""
        end = time.monotonic() + seconds
        finished: list[Finished] = []
        while not finished and (left := end - time.monotonic()) > 0:
            soonest = min((worker.deadline for worker in self._workers), default=end)
            patience = max(0.0, min(left, soonest - time.monotonic()))
            speaking = [key.data for key, _ in self._selector.select(patience)]
            late = [worker for worker in self._workers if worker.deadline <= time.monotonic()]
            looked_at = dict.fromkeys(speaking + late)
            finished = [result for worker in looked_at if (result := self._look(worker)) is not None]
        self._dispatch()
        return sorted(finished, key=lambda result: result.job.number)

    def _look(self, worker: _Worker) -> Finished | None:
        """What a busy worker has to tell, if it ended its job, died or ran out of time."""
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                worker.is_taken = True
                if isinstance(message, Finished):
                    return self._end(worker, message)
                if isinstance(message, Interim):
                    worker.interim = message
                else:
                    assert isinstance(message, float)
                    worker.share = message
        except (EOFError, OSError):
            worker.process.join()
            if worker.has_worked and not worker.is_taken:
                # It died while it was idle, which shows late in a process of many threads: not the job's doing.
                assert worker.job is not None
                self._queue.appendleft(worker.job)
                self._remove(worker)
                self._dispatch()
                return None
            result = self._end(worker, worker.stop(f"its worker process died (exit code {worker.process.exitcode})"))
            self._remove(worker)
            return result
        if time.monotonic() < worker.deadline:
            return None
        late = f"it took longer than {self._seconds / 60:g} minutes (trial_minutes)"
        # A training's time is that of all its attempts; what else hangs may do so once.
        has_limit = worker.job is not None and worker.job.limit_seconds is not None
        result = self._end(worker, worker.stop(late, would_recur=has_limit))
        self._remove(worker)
        return result

    def progress(self) -> Mapping[int, float]:
        """See `Executor`."""
        return {worker.job.number: worker.share for worker in self._workers if worker.job is not None and worker.share}

    def interims(self) -> Mapping[int, Interim]:
        """The newest of each running job that is watched, by trial number."""
        return {worker.job.number: worker.interim for worker in self._workers if worker.job and worker.interim}

    def close(self) -> None:
        """See `Executor`; whatever else was under way when a signal put an end to it."""
        atexit.unregister(self.close)
        self._queue.clear()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        self._selector.close()
