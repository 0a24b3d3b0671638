"""The third executor: jobs are done where they are submitted, so what a coordinator makes of them takes no time."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from search.evaluation.executor import Finished, failed, run_job
from search.evaluation.job import Job
from search.events import Listener
from search.plan import Inputs


class InlineExecutor:
    """Runs each job in this process; results come one by one, in an order that nobody may rely on."""

    def __init__(self, slots: int, seed: int = 0) -> None:
        self.slots = slots
        self.jobs: list[Job] = []
        self._results: list[Finished] = []
        self._rng = random.Random(seed)

    def submit(self, job: Job) -> None:
        """See `Executor`."""
        self.jobs.append(job)
        try:
            outcome = run_job(job, threads=1, progress=lambda _done, _total: None, interim=lambda _: None)
            self._results.append(Finished(job=job, outcome=outcome, error=None))
        except Exception as error:  # noqa: BLE001 - whatever a job raises is its failure
            self._results.append(failed(job, error))

    def wait(self, seconds: float) -> list[Finished]:  # noqa: ARG002 - nothing is waited for
        """See `Executor`."""
        return [self._results.pop(self._rng.randrange(len(self._results)))] if self._results else []

    def progress(self) -> Mapping[int, float]:
        """See `Executor`."""
        return {}

    def close(self) -> None:
        """See `Executor`."""


@contextmanager
def killed_after(
    monkeypatch: pytest.MonkeyPatch, jobs: int, by: type[BaseException] = KeyboardInterrupt
) -> Iterator[None]:
    """Whoever submits another job than so many is interrupted, as by Ctrl-C."""
    submit, asked = InlineExecutor.submit, 0

    def submit_or_end(self: InlineExecutor, job: Job) -> None:
        nonlocal asked
        asked += 1
        if asked > jobs:
            raise by
        submit(self, job)

    with monkeypatch.context() as patched:
        patched.setattr(InlineExecutor, "submit", submit_or_end)
        yield


def use_inline(monkeypatch: pytest.MonkeyPatch) -> list[InlineExecutor]:
    """Have searches of this process run their trials inline; the list gets the executor of each."""
    made: list[InlineExecutor] = []

    def executor_for(inputs: Inputs, listener: Listener) -> InlineExecutor:  # noqa: ARG001 - see `search.executors`
        made.append(InlineExecutor(inputs.workers, seed=len(made)))
        return made[-1]

    monkeypatch.setattr("search.lifecycle.opening.executor_for", executor_for)
    return made
