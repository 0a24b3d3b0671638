"""Running a search that is recorded, from whichever stage it is at to its end."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

from search.evaluation.data import Images
from search.events import Line, LineListener, Listener
from search.lifecycle.creation import begin
from search.lifecycle.opening import session
from search.record.heartbeat import Heartbeat
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.markdown import write_report
from search.reports.recorded_search import RecordedSearch
from search.reports.summary import write_summary
from search.stages.blocks import search_blocks
from search.stages.certify import certify_on_devices
from search.stages.export import upload_export
from search.stages.final import export_found, export_spec, has_chosen, train_finals
from search.stages.present import ask_present
from search.stages.race.rungs import run_race, winners
from search.stages.session import Interrupted, Session
from search.stages.walk.refine import pause_before_refinement, refine
from search.trial import SearchStage
from space.errors import MobilenasError, StoreError

PageWriter = Callable[[Store, str, Callable[[str], None]], None]
"""Writes the page about a search that has ended, which is made elsewhere; the last argument is told what went wrong."""
Until = Literal["blocks", "refine"]
"""A stage to stop behind or before."""


class RecordListener(LineListener):
    """Keeps what it hears in the record's log, but for refused trials, which are in the record already."""

    def __init__(self, store: Store, search_id: int) -> None:
        super().__init__()
        self._store = store
        self._search_id = search_id

    def line(self, line: Line) -> None:
        """Record it."""
        if line.level != "debug":
            self._store.searches.add_log_line(
                self._search_id, level=line.level, event=line.event, message=line.message, trial=line.trial
            )


def drive(running: Session, page: PageWriter, until: Until | None = None) -> Path | None:
    """Take a search through the stages that are left, and return the report's path.

    With `until` "blocks" it ends behind the block-level search, before a race goes on, quietly. Where a device is out
    of reach in the end, it ends at `SearchStage.AWAITING`, and `certify` completes it.

    Raises:
        Interrupted: it was stopped, by `until` before NetAdapt, or `AwaitsKit`; everything finished is recorded.
        RunError: a stage cannot be completed.
    """
    _enter(running, SearchStage.BLOCKS)
    search_blocks(running)
    if until == "blocks":
        return None
    run_race(running)
    if until == "refine":
        raise Interrupted(pause_before_refinement(running))
    if running.config.races:
        best = winners(running)
    else:
        _enter(running, SearchStage.NETADAPT)
        best = [] if has_chosen(running) else refine(running)
    _enter(running, SearchStage.FINAL)
    if isinstance(running.data, Images):
        train_finals(running, best)
        ask_present(running)
        export = export_found(running)
        certified = certify_on_devices(running)
    else:
        export = export_spec(running, best[0])
        certified = True  # there is no network to measure, only its spec
    recorded = RecordedSearch.read(running.store, running.record.name)
    report = write_report(recorded)
    upload_export(running.record.name, export, (report, write_summary(recorded)), running.listener.note)
    _enter(running, SearchStage.DONE if certified else SearchStage.AWAITING)
    page(running.store, running.record.name, running.listener.note)
    return report


def run_claimed(
    store: Store,
    record: SearchRecord,
    runs: Path,
    listener: Listener,
    heartbeat: Heartbeat,
    page: PageWriter,
    until: Until | None = None,
    *,
    ends: Callable[[], bool] = lambda: False,
    beside: Callable[[Session], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> None:
    """Take a search that this process has claimed through what is left of it; why a stage failed is recorded.

    `beside` is entered while trials run, and `ends` tells whether the process is being stopped: what fails then, half
    put away, is no failure of the search.

    Raises:
        MobilenasError: as `begin`, `session` and `drive` do.
    """
    if record.stage is SearchStage.QUEUED:
        begin(store, record, runs, listener)
    with session(store, record.name, listener, heartbeat) as running, beside(running):
        try:
            drive(running, page, until)
        except (Interrupted, StoreError):
            raise  # nothing failed; or it is another one's now, or there is nowhere to write it
        except MobilenasError as error:
            if not ends():
                store.searches.set_stage(record.id, running.record.stage, error=str(error))
            raise


_ORDER = (SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL, SearchStage.AWAITING, SearchStage.DONE)


def _enter(running: Session, stage: SearchStage) -> None:
    """Record a stage; a resumed search never falls back to an earlier one."""
    if _ORDER.index(stage) > _ORDER.index(running.record.stage):
        running.store.searches.set_stage(running.record.id, stage)
        running.record = replace(running.record, stage=stage)
