"""The end by a signal, which finds a process anywhere: what then fails half put away is no failure of a search."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest

from search.coordinator import serve
from search.evaluation.executor import LocalExecutor
from search.evaluation.job import Job, OwnEvaluation
from search.events import Listener
from search.plugins import Plugin
from search.record.heartbeat import hold
from search.record.store import Store
from space.errors import RunError
from space.reference import mobilenet_v3_small_32px
from tests.search.killing import write_run
from tests.search.makers import CONFIG
from tests.tiny import Result


class Ended(BaseException):
    """Raised by a signal's handler, say."""


@contextmanager
def ended_at(line: int, file: str) -> Iterator[set[int]]:
    """Raise `Ended` where this thread first comes to a line of a file; yields the lines it came to until then."""
    met: set[int] = set()

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        if not frame.f_code.co_filename.endswith(file):
            return None
        if event == "line":
            met.add(frame.f_lineno)
            if frame.f_lineno == line:
                raise Ended
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        yield met
    finally:
        sys.settrace(before)


def two_jobs(folder: Path, line: int) -> set[int]:
    """Have two jobs done, ended at a line; then close everything. Returns the lines that were come to."""
    plugin = Plugin(name="quick:top1", folder=str(folder))
    evaluation = OwnEvaluation(architecture=mobilenet_v3_small_32px(), evaluator=plugin, content=plugin.content)
    executor = LocalExecutor(1, job_seconds=600)
    met: set[int] = set()
    try:
        with suppress(Ended), ended_at(line, "search/evaluation/executor.py") as met:
            for number in range(2):
                executor.submit(Job(number=number, attempt=1, evaluation=evaluation))
            left = 2
            while left:
                left -= len(executor.wait(1))
    finally:
        executor.close()
    return met


@pytest.fixture
def interrupts_kept() -> Iterator[None]:
    """SIGINT means afterwards what it meant before."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("interrupts_kept")
def test_an_executor_closes_wherever_it_was_ended(tmp_path: Path) -> None:
    """Ended at any line that it comes to while it runs two jobs, it closes without a word."""
    (tmp_path / "quick.py").write_text("import time\n\n\ndef top1(arch):\n    time.sleep(0.1)\n    return 0.5\n")
    lines = two_jobs(tmp_path, 0)
    assert len(lines) > 30
    for line in lines:
        assert line in two_jobs(tmp_path, line)


def test_an_interrupt_that_got_lost_ends_a_search_at_its_next_look(tmp_path: Path) -> None:
    """Where it met a finalizer, say, which ignores it, the search ends all the same, and is given back."""
    store = Store.open(f"sqlite:///{tmp_path / 'record.db'}")
    record = store.searches.create(name="one", config=CONFIG)
    ended = False
    with hold(store, record.id, lambda: ended) as heartbeat:
        heartbeat.check()
        ended = True
        with pytest.raises(KeyboardInterrupt):
            heartbeat.check()
    assert store.searches.get("one").holder is None
    store.close()


@pytest.mark.parametrize("error", [KeyError("half put away"), RunError("half put away")])
def test_a_coordinator_that_ends_blames_no_search(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a search raises after the signal leaves it as it was, in the queue, and no other one is begun."""
    ended = False
    store = Store.open(f"sqlite:///{tmp_path / 'record.db'}")
    for name in ("first", "second"):
        store.searches.create(name=name, config=CONFIG)

    def begin(*_: object) -> NoReturn:
        nonlocal ended
        ended = True
        raise error

    monkeypatch.setattr("search.coordinator.begin", begin)
    with pytest.raises(KeyboardInterrupt):
        serve(store, tmp_path, lambda _name: nullcontext(Listener()), lambda *_: None, ends=lambda: ended)
    assert [(each.name, each.state, each.error, each.holder) for each in store.searches.all()] == [
        ("first", "queued", None, None),
        ("second", "queued", None, None),
    ]
    store.close()


def told_to_end(*_: object, **__: object) -> NoReturn:
    """SIGTERM, and an error of what is then put away."""
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        raise RunError("half put away")


def test_a_search_that_is_told_to_end_has_not_failed(
    mobilenas: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends the command with 130 and how to go on, whatever fails then; no error is recorded."""
    monkeypatch.setattr("search.lifecycle.driving.drive", told_to_end)
    url = f"sqlite:///{tmp_path / 'record.db'}"
    config = write_run(tmp_path / "run")
    told = mobilenas("search", "--config", config, "--name", "told", "--runs", tmp_path / "runs", "--database", url)
    assert told.code == 130
    assert "mobilenas resume told" in told.err
    store = Store.open(url)
    assert store.searches.get("told").error is None
    store.close()


def test_a_coordinator_that_is_told_to_end_ends_well(
    mobilenas: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends it with 0, whatever fails then."""
    monkeypatch.setattr("service.commands.search.serve", told_to_end)
    assert mobilenas("coordinator", "--database", f"sqlite:///{tmp_path / 'record.db'}").code == 0
