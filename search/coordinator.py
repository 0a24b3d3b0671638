"""A coordinator: takes searches from the queue, one after the other, and runs each to its end."""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from search.events import Listener, Listeners
from search.lifecycle.creation import begin
from search.lifecycle.driving import PageWriter, RecordListener, drive
from search.lifecycle.opening import session
from search.record.database import Unavailable
from search.record.heartbeat import Heartbeat
from search.record.rows import SearchRecord
from search.record.store import Store
from search.record.transactions import ClaimLost
from search.stages.session import Interrupted
from search.trial import SearchStage
from space.errors import MobilenasError, StoreError

POLL_S = 2.0

_log = logging.getLogger("mobilenas.coordinator")

ListenerFor = Callable[[str], AbstractContextManager[Listener]]


def serve(
    store: Store,
    runs: Path,
    listener_for: ListenerFor,
    page: PageWriter,
    *,
    device: str | None = None,
    drain: bool = False,
    alive: Callable[[], None] = lambda: None,
    ends: Callable[[], bool] = lambda: False,
) -> None:
    """Run queued searches until the process is stopped; with `drain`, until the queue is empty.

    `device` leaves searches for devices of other names alone. `alive` is called every few seconds while all is well.
    `ends` tells whether the process is being stopped: what fails then, half put away, is no failure of a search.

    Raises:
        KeyboardInterrupt: it was stopped.
    """
    while True:
        if ends():
            raise KeyboardInterrupt
        try:
            record = store.searches.claim_next(device)
            alive()
        except Unavailable as error:
            _log.warning("%s", error)
            record = None
        if record is not None:
            _run(store, record, runs, listener_for, page, alive, ends)
        elif drain:
            return
        else:
            time.sleep(POLL_S)


def _run(
    store: Store,
    record: SearchRecord,
    runs: Path,
    listener_for: ListenerFor,
    page: PageWriter,
    alive: Callable[[], None],
    ends: Callable[[], bool],
) -> None:
    """Run a claimed search; whatever goes wrong is recorded with it, and the next one's turn comes."""
    with Heartbeat(store, record.id, alive, ends) as heartbeat, listener_for(record.name) as shown:
        listener = Listeners(shown, RecordListener(store, record.id))
        try:
            try:
                listener.note(f"running search '{record.name}', from stage {record.stage.value}")
                if record.stage is SearchStage.QUEUED:
                    begin(store, record, runs, listener)
                with session(store, record.name, listener, heartbeat) as running:
                    report = drive(running, page)
                outcome = store.searches.get(record.name).stage.value
                listener.note(f"search '{record.name}' is {outcome}; report: {report}")
            except (Interrupted, ClaimLost, Unavailable):
                raise
            except Exception as error:  # a mistake of ours must not keep the queue from the next search
                if ends():
                    raise KeyboardInterrupt from error
                if isinstance(error, MobilenasError):
                    _fail(store, record, listener, str(error))
                else:
                    _log.exception("search '%s' failed", record.name)
                    _fail(store, record, listener, f"{type(error).__name__}: {error}")
        except Interrupted as error:
            listener.note(str(error))
        except StoreError as error:  # lost to another one, or no database for a long time: both go on by themselves
            _log.error("this coordinator gives up search '%s': %s", record.name, error)


def _fail(store: Store, record: SearchRecord, listener: Listener, error: str) -> None:
    line = " ".join(error.split())
    store.searches.set_stage(record.id, store.searches.get(record.name).stage, error=line)
    listener.note(f"search '{record.name}' failed: {line}")
