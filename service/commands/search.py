"""Commands that run a search: search, plan, resume, finish, stop, coordinator."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import structlog

from latency.results import read_results_file
from search.budget import ENOUGH_EPOCHS, budget_that_suffices, by_counts, lower_resolution, within_budget
from search.config.budget import budget_hours
from search.config.load import RunConfig, load_config
from search.config.sections import parse_target
from search.coordinator import serve
from search.events import Listeners
from search.groups import group_name, is_group, members, searches_of
from search.lifecycle.creation import SearchRequest, check_sources, create, enqueue
from search.lifecycle.driving import RecordListener, run_claimed
from search.lifecycle.opening import check_resumable
from search.lifecycle.reach import check_limits, check_target, require_table, with_device
from search.plan import Inputs, Plan, calibrate_speed, check_supernet, look_up, make_plan
from search.record.heartbeat import hold
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.stages.certify import certify as complete
from search.stages.session import AwaitsKit
from search.trial import SearchStage
from service.report.written import write_page
from service.settings import load_settings
from service.terminal.console import console, say, tell
from service.terminal.logs import logged, telling
from service.terminal.progress import TerminalListener
from service.terminal.searches import print_plan, print_result
from service.terminal.signals import ProcessEnd, first_interrupt_stops
from space.errors import RunError
from space.preset import load_preset

# A database may be away for so long before a running search gives up; nothing that was trained is lost either way.
RETRY_S = 900.0

Until = Literal["blocks", "refine"] | None

log = structlog.stdlib.get_logger("mobilenas.coordinator")


def configuration(
    source: str | Path | Mapping[str, Any] | None,
    *,
    name: str | None,
    device: str | None,
    data: str | None,
    data_dir: Path | None,
    resolution: int | None,
    target: str | None,
    seed: int | None,
    workers: int | None,
    sampler: str | None = None,
    enqueue: Sequence[str] = (),
    start_from: Sequence[str] = (),
    reuse: bool = True,
    fresh: bool = False,
    html: bool = True,
    skip_damaged: bool = False,
    space: str | None = None,
    width: float | None = None,
    init: str | None = None,
    baseline: Path | None = None,
    baseline_labels: Path | None = None,
    baseline_preprocess: str | None = None,
) -> RunConfig:
    """A configuration file, or its content, or the default, with what the command line changes."""
    overrides: dict[str, Any] = {
        "space": {key: value for key, value in (("preset", space), ("width", width)) if value is not None} or None,
        "name": name,
        "seed": seed,
        "init": init,
        "present": present_section(baseline, baseline_labels, baseline_preprocess),
        "workers": workers,
        "html": None if html else False,
        "target": parse_target(target) if target else None,
        "device": {"name": device} if device else None,
        "blocks": {
            key: value
            for key, value in (
                ("sampler", sampler),
                ("enqueue", list(enqueue) or None),
                ("start_from", list(start_from) or None),
                ("reuse", None if reuse else False),
                ("warm_start", False if fresh else None),
            )
            if value is not None
        }
        or None,
        "data": {
            key: value
            for key, value in (
                ("source", data),
                ("resolution", resolution),
                ("data_dir", str(data_dir) if data_dir else None),
                ("skip_damaged", skip_damaged or None),
            )
            if value is not None
        }
        or None,
    }
    return load_config(source, {key: value for key, value in overrides.items() if value is not None}).from_anywhere()


def present_section(model: Path | None, labels: Path | None, preprocess: str | None) -> dict[str, str | None] | None:
    """The section about the present model: that of another model says nothing about a new one."""
    said = {"labels": None if labels is None else str(labels), "preprocess": preprocess}
    if model is not None:
        return {"model": str(model), **said}
    return {key: value for key, value in said.items() if value is not None} or None


def looked_up(config: RunConfig, budget: str) -> Inputs:
    """Everything that the configuration names, before any database is touched."""
    scaled = by_counts(config, budget)
    with TerminalListener(console) as listener:
        begun = False

        def decoded(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                listener.begin(f"decoding {total:,} pictures", total)
                begun = True
            listener.advance(done)

        inputs = look_up(scaled, decoded, tell)
        check_supernet(inputs)
        listener.end()
        return inputs


def planned(inputs: Inputs, store: Store, budget: str) -> Plan:
    """Calibrate, and scale the run to its budget if that is a time."""
    with console.status("calibrating how fast this machine trains and measures"):
        speed = calibrate_speed(inputs, store)
    plan = make_plan(within_budget(inputs, speed, budget), speed)
    plan = replace(plan, lower_resolution=lower_resolution(plan, budget))
    if not inputs.config.race.fills_budget or plan.epochs is None or plan.epochs >= ENOUGH_EPOCHS:
        return plan
    return replace(plan, sufficient_budget=budget_that_suffices(inputs, speed))


def show_plan(config: RunConfig, database: str, budget: str, *, start_with: str) -> None:
    """The command `plan`: refuses what `search` would refuse, starts nothing, and ends with the line that would."""
    each = members(config, "planned", 1) if is_group(config, 1) else (config,)
    looked = [looked_up(one, budget) for one in each]
    store = Store.open(database)
    try:
        for inputs in looked:
            plan = planned(with_device(inputs, store), store, budget)
            print_plan(plan)
            check_limits(inputs)
            if plan.speed.range is not None and plan.target_ms is not None:
                check_target(plan.target_ms, plan.speed.range)
        say(f"start it     {start_with}")
    finally:
        store.close()


def start(
    config: RunConfig, database: str, runs: Path, request: SearchRequest, until: Until = None, repeat: int = 1
) -> None:
    """The command `search`: one search, or a group of them, one after the other."""
    store = Store.open(database)
    store.retry_s = RETRY_S
    try:
        check_sources(store, config)
        if not is_group(config, repeat):
            record = _created(store, config.with_first_device(), runs, request)
            _drive(store, record, runs, until)
            return
        name = group_name(store, config)
        records = [
            _created(store, member, runs, replace(request, group=name)) for member in members(config, name, repeat)
        ]
        if config.targets and config.mode == "per-device":
            # Each learns from what all have trained before any of them chooses a network.
            for record in records:
                _drive(store, record, runs, "blocks")
        _one_after_another(records, lambda record: _drive(store, record, runs, until))
        say(f"group        {name}: {', '.join(record.name for record in records)}")
    finally:
        store.close()


def _one_after_another(records: Sequence[SearchRecord], drive: Callable[[SearchRecord], None]) -> None:
    """Searches of a group; one that waits for a kit does not keep the others.

    Raises:
        AwaitsKit: some do.
    """
    awaiting = []
    for record in records:
        try:
            drive(record)
        except AwaitsKit as error:
            if len(records) == 1:
                raise
            say(str(error))
            awaiting.append(record.name)
    if awaiting:
        raise AwaitsKit(f"waiting for kits: {', '.join(awaiting)}")


def run_alone(config: RunConfig, database: str, runs: Path) -> str:
    """One search from its first line to its report; returns its name."""
    with closing(Store.open(database)) as store:
        store.retry_s = RETRY_S
        request = SearchRequest(owner=load_settings().owner)
        record = _created(store, config.with_first_device(), runs, request)
        _drive(store, record, runs)
        return record.name


def start_walk(store: Store, config: RunConfig, runs: Path, request: SearchRequest, weights: bytes) -> None:
    """A search that is but a walk from a network with these weights."""
    _drive(store, _created(store, config, runs, request, weights), runs)


def _created(
    store: Store, config: RunConfig, runs: Path, request: SearchRequest, weights: bytes | None = None
) -> SearchRecord:
    """A new search, its plan shown and its table measured."""
    budget = request.budget or "default"
    inputs = with_device(looked_up(config, budget), store)
    require_table(store, inputs)
    plan = planned(inputs, store, budget)
    print_plan(plan)
    say(f"database     {store.shown_url}")
    with ProcessEnd().said("nothing was started"), telling(None) as listener:
        record = create(store, plan.inputs, runs, listener, request, weights)
    say(f"search       {record.name}")
    say(f"run folder   {record.require_start().run_folder}")
    return record


def queue(config: RunConfig, database: str, request: SearchRequest, repeat: int = 1) -> None:
    """The command `search --queue`: what can be checked without the device's machine is checked here."""
    budget_hours(request.budget or "default")
    if config.space.preset is not None:
        load_preset(config.space.preset)
    store = Store.open(database)
    try:
        check_sources(store, config)
        if is_group(config, repeat):
            name = group_name(store, config)
            request = replace(request, group=name)
            records = [enqueue(store, member, request) for member in members(config, name, repeat)]
        else:
            records = [enqueue(store, config.with_first_device(), request)]
    finally:
        store.close()
    for record in records:
        say(f"search '{record.name}' is queued; follow it with: mobilenas logs -f {record.name}")


def resume(name: str, database: str, runs: Path, *, finish: bool = False, queue: bool = False) -> None:
    """The commands `resume` and `finish`, of a search or of what is left to do of a group."""
    store = Store.open(database)
    store.retry_s = RETRY_S
    try:
        waiting = _waiting(store, name)
        if not (finish or queue):
            for record in _sharing(waiting):
                check_resumable(record)
                _drive(store, record, runs, "blocks")
        _one_after_another(
            waiting,
            lambda record: _resume(store, store.searches.get(record.name), runs, finish=finish, queue=queue),
        )
    finally:
        store.close()


def _sharing(records: Sequence[SearchRecord]) -> list[SearchRecord]:
    """Those of a group for several devices that have yet to learn what the others train first."""
    before = (SearchStage.QUEUED, SearchStage.BLOCKS)
    shared = [record for record in records if (record.config.get("race") or {}).get("time_share", 1.0) < 1.0]
    return [record for record in shared if record.stage in before] if len(shared) > 1 else []


def _waiting(store: Store, name: str) -> list[SearchRecord]:
    """The search of this name, or those of a group that are not done."""
    found = searches_of(store, name)
    waiting = [record for record in found if record.stage not in (SearchStage.AWAITING, SearchStage.DONE)]
    if len(found) > 1 and not waiting:
        raise RunError(f"all searches of group '{name}' are done: {', '.join(record.name for record in found)}")
    return waiting or found


def _resume(store: Store, record: SearchRecord, runs: Path, *, finish: bool, queue: bool) -> None:
    name = record.name
    if record.stage is SearchStage.DONE:
        raise RunError(f"search '{name}' is done; its report is {record.require_start().files.report}")
    check_resumable(record)
    if finish:
        store.searches.request_finish(record.id)
    if finish and record.is_held:
        say(f"the process that runs '{name}' will now end its block-level search and go on to the next stage")
    elif queue:
        store.searches.enqueue(record.id)
        say(f"search '{name}' is queued; follow it with: mobilenas logs -f {name}")
    else:
        _drive(store, record, runs)


def certify(name: str, database: str, source: Path | None, *, again: bool) -> None:
    """The command `certify`."""
    text = None if source is None else read_results_file(source)
    store = Store.open(database)
    try:
        following = complete(store, name, text, again=again)
        if following:
            say(following)
            return
        recorded = RecordedSearch.read(store, name)
        if recorded.is_certified:
            write_page(store, name, say)
        print_result(recorded)
    finally:
        store.close()


def stop(name: str, database: str) -> None:
    """The command `stop`."""
    store = Store.open(database)
    try:
        record = store.searches.get(name)
        if record.stage is SearchStage.DONE:
            raise RunError(f"search '{name}' is done; there is nothing to stop")
        if record.stage is SearchStage.AWAITING:
            raise RunError(f"search '{name}' is not running; it awaits certification: mobilenas certify {name}")
        store.searches.request_stop(record.id)
    finally:
        store.close()
    what = "will stop when its running trials have ended" if record.is_held else "is stopped"
    say(f"search '{name}' {what}; go on with: mobilenas resume {name} (or add --queue)")


def coordinate(database: str, runs: Path, device: str | None, health_file: Path | None, *, drain: bool) -> None:
    """The command `coordinator`."""

    def alive() -> None:
        if health_file is not None:
            health_file.touch()

    ending = ProcessEnd()
    try:
        with ending.heard(), closing(Store.open(database, RETRY_S)) as store:
            log.info("coordinator is waiting for searches", database=store.shown_url, device=device, runs=str(runs))
            serve(
                store, runs, logged, write_page, device=device, drain=drain, alive=alive, ends=lambda: ending.has_begun
            )
    except KeyboardInterrupt:
        # What ran is taken up again by the next coordinator.
        log.info("coordinator stopped")


def _drive(store: Store, record: SearchRecord, runs: Path, until: Until = None) -> None:
    stopped = f"all finished trials are recorded; go on with: mobilenas resume {record.name}"
    ending = ProcessEnd()
    held = hold(store, record.id, lambda: ending.has_begun)
    with ending.said(stopped), held as heartbeat, telling(record.name) as shown:
        listener = Listeners(shown, RecordListener(store, record.id))
        run_claimed(
            store,
            record,
            runs,
            listener,
            heartbeat,
            write_page,
            until,
            ends=lambda: ending.has_begun,
            beside=lambda running: first_interrupt_stops(running, ending),
        )
        listener.note("")
    if until != "blocks":
        print_result(RecordedSearch.read(store, record.name))
