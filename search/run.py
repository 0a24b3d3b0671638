"""Running a search that is recorded, from whichever stage it is at to its end."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

from latency.device import Device
from latency.meter import Meter
from latency.table import LatencyTable
from search.config.load import RunConfig, parse_config
from search.evaluation.data import Images
from search.events import Line, LineListener, Listener
from search.executors import executor_for
from search.objective.latency import DeviceLatency, Goal
from search.plan import Inputs, look_up
from search.record.heartbeat import Heartbeat
from search.record.recorded_search import RecordedSearch
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.markdown import write_report
from search.reports.summary import write_summary
from search.stages.blocks import search_blocks
from search.stages.certify import certify_on_devices
from search.stages.export import upload_export
from search.stages.final import export_found, export_spec, train_finals
from search.stages.race.rungs import run_race, winners
from search.stages.refine import pause_before_refinement, refine
from search.stages.session import Interrupted, Session
from search.start import begin, own_latency
from search.tables import settings_for, workspace
from search.trial import SearchStage, Trial
from space.errors import DeviceError, MobilenasError, RunError, StoreError

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


# A user's functions may be slow: on resume they are asked again about so many of the first and of the last trials.
_ASKED_AGAIN = 4


def check_resumable(record: SearchRecord) -> None:
    """Refuse to go on with a search that waits for its device.

    Raises:
        RunError: it awaits certification.
    """
    if record.stage is SearchStage.AWAITING:
        raise RunError(
            f"search '{record.name}' awaits certification; complete it with: mobilenas certify {record.name}"
        )


def _check_unchanged(record: SearchRecord, inputs: Inputs) -> None:
    data_hash, now = record.require_start().data_hash, inputs.data.content
    if now != data_hash:
        what = inputs.data.name
        raise RunError(
            f"search '{record.name}' was started on data {data_hash}, but '{what}' is now {now}; restore it, or start "
            "a new search"
        )


def _check_device(record: SearchRecord, inputs: Inputs, table: LatencyTable, device: Device | None) -> None:
    if table.scope != inputs.space.scope:
        raise RunError(f"the search space of '{record.name}' has changed; restore its file or start a new search")
    if device is not None and table.device.fingerprint != device.fingerprint:
        raise RunError(
            f"search '{record.name}' was started on {table.device.processor} with ONNX Runtime "
            f"{table.device.runtime_version}, but this is {device.processor} with {device.runtime_version}; "
            "resume it there, or start a new search here"
        )


def _device_now(meter: Meter | None, record: SearchRecord) -> Device | None:
    """The device as it is, if it can be asked; in the end a search can do without."""
    try:
        return meter.device if meter else None
    except DeviceError:
        if record.stage is SearchStage.FINAL:
            return None
        raise


def _goals(store: Store, record: SearchRecord, inputs: Inputs) -> tuple[Goal, ...]:
    """The devices of a search as they are now."""
    goals = []
    for device in RecordedSearch(store, record).devices:
        meter = settings_for(store, inputs.config.device.named(device.name)).meter(workspace())
        _check_device(record, inputs, device.table, _device_now(meter, record))
        goals.append(Goal(table_id=device.table_id, table=device.table, meter=meter, target_ms=device.target_ms))
    return tuple(goals)


@contextmanager
def session(store: Store, name: str, listener: Listener, heartbeat: Heartbeat) -> Iterator[Session]:
    """The session of a claimed search that has begun, with its workers, which end with the context.

    Raises:
        RunError: device, data or space are not those that it was started with.
    """
    record = store.searches.get(name)
    config: RunConfig = parse_config(dict(record.config))
    record.require_start().run_folder.mkdir(parents=True, exist_ok=True)
    inputs = look_up(config)
    _check_unchanged(record, inputs)
    goals = _goals(store, record, inputs)
    executor = executor_for(inputs, listener)
    try:
        running = Session(
            store=store,
            record=record,
            config=config,
            space=inputs.space,
            data=inputs.data,
            goals=goals,
            latency=DeviceLatency(goals) if goals else own_latency(config),
            executor=executor,
            listener=listener,
            heartbeat=heartbeat,
        )
        _check_functions(running)
        yield running
    finally:
        executor.close()


def _check_functions(running: Session) -> None:
    """Refuse to go on where a user's latency or reward says something else than it said of recorded trials."""
    trials, rewards = running.trials(SearchStage.BLOCKS), running.store.trials.rewards(running.record.id)
    checked = [*trials[:_ASKED_AGAIN], *trials[_ASKED_AGAIN:][-_ASKED_AGAIN:]]
    found: list[tuple[str, Trial, float, float | None]] = []
    if running.config.latency is not None:
        found += [
            (
                f"latency {running.config.latency}",
                trial,
                trial.scores.latency_ms,
                running.latency.estimate(trial.architecture),
            )
            for trial in checked
        ]
    if ":" in running.config.blocks.reward.kind:
        found += [
            (f"reward {running.config.blocks.reward.kind}", trial, rewards[trial.number], running.reward_of(trial))
            for trial in checked
            if trial.number in rewards
        ]
    for what, trial, said, now in found:
        if now is None or not math.isclose(said, now, rel_tol=1e-9):
            raise RunError(
                f"{what} has changed: it gives {now} for trial {trial.number}, where {said} is recorded; restore it, "
                "or start a new search"
            )


def drive(running: Session, page: PageWriter, until: Until | None = None) -> Path | None:
    """Take a search through the stages that are left, and return the report's path.

    With `until` "blocks" it ends behind the block-level search, before a race goes on, quietly. Where the device is
    reached by kit alone, it ends at `SearchStage.AWAITING`, and `certify` completes it.

    Raises:
        Interrupted: it was stopped, before NetAdapt by `until` or for a kit; everything finished is recorded.
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
        best = refine(running)
    _enter(running, SearchStage.FINAL)
    if isinstance(running.data, Images):
        train_finals(running, best)
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
