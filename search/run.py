"""A whole search from start to export, and the same from where it stopped."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from latency.collect import measure_missing
from latency.device import Device
from latency.meter import Meter
from latency.table import LatencyTable
from search.config.load import BUDGETS, RunConfig, budget_hours, parse_config
from search.evaluation.data import Images
from search.events import Line, LineListener, Listener
from search.executors import executor_for
from search.objective.latency import DeviceLatency, Goal, OwnLatency
from search.plan import Inputs, Range, calibrate_speed, latency_range, look_up, sampled_range, within_hours
from search.plugins import Plugin
from search.record.heartbeat import Heartbeat
from search.record.recorded_search import RecordedSearch
from search.record.rows import FurtherTarget, SearchRecord, SearchStart
from search.record.searches import NameTaken
from search.record.store import Store
from search.reports.markdown import write_report
from search.stages.blocks import search_blocks
from search.stages.certify import certify_on_devices
from search.stages.export import upload_export
from search.stages.final import export_found, export_spec, train_finals
from search.stages.refine import pause_before_refinement, refine
from search.stages.session import Interrupted, Session
from search.tables import settings_for, workspace
from search.trial import SearchStage, Trial
from space.arch import Architecture
from space.cost import cost_of
from space.errors import DeviceError, InfeasibleTarget, RunError
from space.keys import keys_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What people say of a search."""

    owner: str | None = None
    labels: tuple[str, ...] = ()
    note: str | None = None
    budget: str | None = None
    group: str | None = None
    priority: int = 0


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


def with_device(inputs: Inputs, store: Store) -> Inputs:
    """The same with the device as it was added to the record.

    Raises:
        InvalidConfig: it was added with other threads than the configuration has.
    """
    return replace(inputs, settings=settings_for(store, inputs.config.device))


def table_for(store: Store, inputs: Inputs, listener: Listener) -> tuple[int, LatencyTable]:
    """The recorded table of this device and space; where the device is this machine, a newly measured one will do.

    Raises:
        MissingBlock: another device lacks blocks; the message says what measures them.
    """
    tables = inputs.tables(store)
    if not inputs.settings.is_local:
        known = tables.require(run_options(inputs))
    else:
        found = tables.known()
        if found is None:
            meter = tables.meter
            assert meter is not None
            with meter.keeping():
                found = tables.known()  # another search may have measured it while this one waited
                if found is None:
                    table_id, collected = tables.collect(listener)
                    return table_id, collected.table
        known = found
    name = inputs.settings.name
    listener.note(f"latency table {known[0]} of device '{name}' is reused ({len(known[1].entries):,} blocks)")
    return known


def require_table(store: Store, inputs: Inputs) -> None:
    """Refuse to start where another device than this machine lacks blocks.

    Raises:
        MissingBlock: it does; the message says what measures them.
    """
    if inputs.config.latency is not None:
        return
    for name in inputs.config.devices:
        one = with_device(replace(inputs, config=inputs.config.for_device(name)), store)
        if not one.settings.is_local:
            one.tables(store).require(run_options(one))


def run_options(inputs: Inputs) -> str:
    """The options that name to the commands that measure what a run needs."""
    space, chosen, enqueued = inputs.space, inputs.config.space, inputs.config.blocks.enqueue
    if any(named.startswith("{") for named in enqueued):
        return "--config RUN.yaml (this run's)"
    sizes = f"--resolution {space.resolution} --classes {space.num_classes} --in-channels {space.in_channels}"
    return " ".join(
        [f"--space {chosen.preset} --width {chosen.width!r} {sizes}", *(f"--enqueue {named}" for named in enqueued)]
    )


def check_target(target_ms: float, reach: Range, what: str = "target") -> None:
    """Refuse a target, or a limit, that no network of the space can meet.

    Raises:
        InfeasibleTarget: the target lies below the fastest network.
    """
    if target_ms < reach.fastest_ms:
        reference = "" if reach.reference_ms is None else f" (its reference {reach.reference_ms:.3f} ms)"
        raise InfeasibleTarget(
            f"{what} {target_ms:.4g} ms is out of reach: the space's networks take {reach.fastest_ms:.3f} to "
            f"{reach.slowest_ms:.3f} ms on this device{reference}; "
            "choose a target in this range or a smaller width multiplier"
        )


def check_limits(inputs: Inputs) -> None:
    """Refuse a limit that no network of the space can keep, unless others are to be tried first.

    Raises:
        InfeasibleTarget: it lies below what the smallest network has.
    """
    blocks, smallest = inputs.config.blocks, cost_of(inputs.space.smallest)
    if blocks.enqueue or blocks.start_from:
        return
    for name in ("madds", "params", "peak_bytes"):
        limit, least = getattr(inputs.config.limits, name), getattr(smallest, name)
        if limit is not None and limit < least:
            raise InfeasibleTarget(
                f"limits.{name} {limit:,} is out of reach: the space's smallest network has {least:,}; raise it, or "
                "choose a smaller width multiplier"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """What a device can reach, and what is wanted there."""

    table_id: int | None
    reach: Range
    target_ms: float

    @property
    def further(self) -> FurtherTarget:
        assert self.table_id is not None
        assert self.reach.reference_ms is not None
        return FurtherTarget(table_id=self.table_id, target_ms=self.target_ms, reference_ms=self.reach.reference_ms)


def _reached(store: Store, inputs: Inputs, listener: Listener) -> Iterator[_Reached]:
    """Per device, the tables measured where they are missing and can be, the targets checked."""
    config = inputs.config
    for name, target in config.devices.items():
        on = f"on '{name}' " if len(config.devices) > 1 else ""
        if config.latency is not None:
            table_id = None
            reference = inputs.space.reference if config.blocks.reference else None
            reach = sampled_range(own_latency(config), inputs.space, reference)
        else:
            one = with_device(replace(inputs, config=config.for_device(name)), store)
            table_id, table = table_for(store, one, listener)
            reference = _reference(inputs)
            table = _with_blocks(store, table_id, table, one, reference)
            reach = latency_range(table, inputs.space, reference)
        takes = "" if reach.reference_ms is None else f", the reference takes {reach.reference_ms:.3f} ms"
        listener.note(f"{on}the space reaches {reach.fastest_ms:.3f} to {reach.slowest_ms:.3f} ms{takes}")
        target_ms = target.in_ms(reach.reference_ms)
        if config.netadapt.start is None:
            check_target(target_ms, reach)
            if config.limits.latency_ms is not None:
                check_target(config.limits.latency_ms, reach, "limits.latency_ms")
        elif reach.reference_ms is not None and target_ms >= reach.reference_ms:
            raise InfeasibleTarget(
                f"target {target_ms:.3f} ms is met already: the network takes {reach.reference_ms:.3f} ms; ask for less"
            )
        yield _Reached(table_id=table_id, reach=reach, target_ms=target_ms)


def _reference(inputs: Inputs) -> Architecture:
    """What targets are relative to: the space's reference, or the network that a walk starts from."""
    start = inputs.config.netadapt.start
    return inputs.space.reference if start is None else Architecture.from_json(start.network)


def _with_blocks(store: Store, table_id: int, table: LatencyTable, inputs: Inputs, arch: Architecture) -> LatencyTable:
    """The table with the blocks of a network that is none of its space's, measured where they can be."""
    missing = table.missing(keys_of(arch))
    meter = inputs.settings.meter(workspace())
    if not missing or meter is None:
        return table
    store.tables.add_entries(
        table_id, measure_missing(table, missing, meter, inputs.config.device.protocol), reason="enqueued"
    )
    return store.tables.load(table_id)


def own_latency(config: RunConfig) -> OwnLatency:
    """The user's own function from architecture to ms."""
    assert config.latency is not None
    return OwnLatency(Plugin(name=config.latency, folder=config.plugins))


def _prepare(
    store: Store, inputs: Inputs, name: str, runs: Path, listener: Listener
) -> tuple[SearchStart, list[FurtherTarget]]:
    """Measure what is missing, check the targets, and make the run folder; nothing is recorded but tables."""
    folder = (runs / name).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"folder {folder} is not empty; choose another --name or remove it")
    if inputs.config.netadapt.start is None:
        check_limits(inputs)
    first, *others = _reached(store, inputs, listener)
    folder.mkdir(parents=True, exist_ok=True)
    start = SearchStart(
        run_folder=folder,
        data_hash=inputs.data.content,
        table_id=first.table_id,
        target_ms=first.target_ms,
        seed_target_ms=first.target_ms * inputs.config.seed_factor,
        fastest_ms=first.reach.fastest_ms,
        slowest_ms=first.reach.slowest_ms,
        reference_ms=first.reach.reference_ms,
    )
    return start, [other.further for other in others]


def names_for(store: Store, config: RunConfig, runs: Path | None) -> Iterator[str]:
    """The name that the user gave, or all that nobody has taken: <data>-<device>-<n>."""
    if config.name is not None:
        yield config.name
        return
    data = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(config.data.source.removeprefix("imagefolder:")).name)
    taken = {name for search in store.searches.all() for name in (search.name, search.group)}
    for number in count(1):
        name = f"{data or 'photos'}-{config.device.name}-{number}"
        if name not in taken and not (runs and (runs / name).exists()):
            yield name


def create(
    store: Store, inputs: Inputs, runs: Path, listener: Listener, request: SearchRequest, weights: bytes | None = None
) -> SearchRecord:
    """Measure what is missing, check the target, and record a new search; nothing is trained yet.

    `weights` are those of the network that a walk starts from.

    Raises:
        InfeasibleTarget: no network of the space can be so fast.
        RunError: the run folder is taken.
        StoreError: the name is taken.
    """
    name = next(names_for(store, inputs.config, runs))
    if name in {search.name for search in store.searches.all()}:
        raise RunError(f"a search named '{name}' exists already; resume it (mobilenas resume {name}) or choose another")
    _refuse_group_name(store, name)
    start, further = _prepare(store, inputs, name, runs, listener)
    if weights is not None:
        start.files.start_weights.write_bytes(weights)
    config = _named(inputs.config, name)
    return store.searches.create(name=name, config=config, start=start, further=further, **asdict(request))


def enqueue(store: Store, config: RunConfig, request: SearchRequest) -> SearchRecord:
    """Record a search for a coordinator to begin.

    Raises:
        StoreError: the name is taken.
    """
    names = names_for(store, config, None)
    while True:
        name = next(names)
        _refuse_group_name(store, name)
        try:
            return store.searches.create(name=name, config=_named(config, name), **asdict(request))
        except NameTaken:
            if config.name is not None:
                raise


def _refuse_group_name(store: Store, name: str) -> None:
    if any(name == search.group for search in store.searches.all()):
        raise NameTaken(
            f"a group named '{name}' exists already, and commands would take it for that; choose another name"
        )


def _named(config: RunConfig, name: str) -> dict[str, Any]:
    return config.model_copy(update={"name": name}).model_dump(mode="json")


def begin(store: Store, record: SearchRecord, runs: Path, listener: Listener) -> None:
    """Take a queued search to its first stage, on this machine.

    Raises:
        MobilenasError: as `look_up` and `create` do.
    """
    config, budget = parse_config(dict(record.config)), record.budget or "default"
    hours = budget_hours(budget)
    inputs = with_device(look_up(config if hours is not None else config.scaled(BUDGETS[budget])), store)
    if hours is not None:
        inputs = within_hours(inputs, calibrate_speed(inputs, store), hours)
    start, further = _prepare(store, inputs, record.name, runs, listener)
    store.searches.begin(record.id, _named(inputs.config, record.name), start, further)


# A user's functions may be slow: on resume they are asked again about so many of the first and of the last trials.
_ASKED_AGAIN = 4


def _check_unchanged(record: SearchRecord, inputs: Inputs) -> None:
    data_hash, now = record.require_start().data_hash, inputs.data.content
    if now != data_hash:
        what = inputs.data.name
        raise RunError(
            f"search '{record.name}' was started on data {data_hash}, but '{what}' now is {now}; restore it or start a "
            "new search"
        )


def _check_device(record: SearchRecord, inputs: Inputs, table: LatencyTable, device: Device | None) -> None:
    if table.scope != inputs.space.scope:
        raise RunError(f"the search space of '{record.name}' has changed; restore its file or start a new search")
    if device is not None and table.device.fingerprint != device.fingerprint:
        raise RunError(
            f"search '{record.name}' was started on {table.device.processor} with ONNX Runtime "
            f"{table.device.runtime_version}; this is {device.processor} with {device.runtime_version}: "
            "go on there, or start a new search here"
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
def session(store: Store, name: str, listener: Listener, heart: Heartbeat) -> Iterator[Session]:
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
            heart=heart,
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
                f"{what} says {now} of trial {trial.number}, where {said} is recorded; restore it, or start a new "
                "search"
            )


def drive(running: Session, until: Literal["blocks", "refine"] | None = None) -> Path | None:
    """Take a search through the stages that are left, and return the report's path.

    With `until` "blocks" it ends behind the block-level search, quietly. Where the device is reached by kit alone, it
    ends at `SearchStage.AWAITING`, and `certify` completes it.

    Raises:
        Interrupted: it was stopped, before NetAdapt by `until` or for a kit; everything finished is recorded.
        RunError: a stage cannot be completed.
    """
    _enter(running, SearchStage.BLOCKS)
    search_blocks(running)
    if until == "blocks":
        return None
    if until == "refine":
        raise Interrupted(pause_before_refinement(running))
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
    report = write_report(RecordedSearch.read(running.store, running.record.name))
    upload_export(running.record.name, export, report, running.listener.note)
    _enter(running, SearchStage.DONE if certified else SearchStage.AWAITING)
    return report


_ORDER = (SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL, SearchStage.AWAITING, SearchStage.DONE)


def _enter(running: Session, stage: SearchStage) -> None:
    """Record a stage; a resumed search never falls back to an earlier one."""
    if _ORDER.index(stage) > _ORDER.index(running.record.stage):
        running.store.searches.set_stage(running.record.id, stage)
        running.record = replace(running.record, stage=stage)
