"""Commands that run a search: search, plan, resume, finish, stop, coordinator."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import structlog
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from latency.meter import DeviceSettings
from latency.probe import processor_name
from latency.results import read_results_file
from search.config.load import BUDGETS, RunConfig, budget_hours, load_config
from search.config.sections import parse_target
from search.coordinator import serve
from search.evaluation.data import Images
from search.events import Listener, Listeners
from search.executors import cluster_of
from search.groups import group_name, is_group, members, searches_of
from search.plan import Inputs, Plan, calibrate_speed, look_up, make_plan, within_hours
from search.record.heartbeat import hold
from search.record.recorded_search import RecordedSearch
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.markdown import comparison, spec_alone, verdict
from search.run import (
    RecordListener,
    SearchRequest,
    begin,
    check_limits,
    check_target,
    create,
    drive,
    enqueue,
    require_table,
    session,
    with_device,
)
from search.run_folder import EXPORTED, REPORT, SPEC
from search.stages.certify import certify as complete
from search.stages.session import Interrupted, Session
from search.trial import SearchStage
from service.settings import load_settings
from service.terminal.console import console, say
from service.terminal.logs import listener_for, logged
from service.terminal.progress import TerminalListener
from service.terminal.rows import scientific
from space.errors import MobilenasError, RunError, StoreError
from space.preset import load_preset
from trainer.data import Dataset, Splits, images_per_class

# A database may be away for so long before a running search gives up; nothing that was trained is lost either way.
RETRY_S = 900.0

Until = Literal["blocks", "refine"] | None

log = structlog.stdlib.get_logger("mobilenas.coordinator")


def configuration(
    path: Path | None,
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
) -> RunConfig:
    """The configuration file, or the default, with what the command line changes."""
    overrides: dict[str, Any] = {
        "name": name,
        "seed": seed,
        "workers": workers,
        "target": parse_target(target) if target else None,
        "device": {"name": device} if device else None,
        "blocks": {
            key: value
            for key, value in (
                ("sampler", sampler),
                ("enqueue", list(enqueue) or None),
                ("start_from", list(start_from) or None),
                ("reuse", None if reuse else False),
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
            )
            if value is not None
        }
        or None,
    }
    return load_config(path, {key: value for key, value in overrides.items() if value is not None}).from_anywhere()


def looked_up(config: RunConfig, budget: str) -> Inputs:
    """Everything that the configuration names, before any database is touched."""
    scaled = config if budget_hours(budget) is not None else config.scaled(BUDGETS[budget])
    with TerminalListener(console) as listener:
        begun = False

        def decoded(done: int, total: int) -> None:
            nonlocal begun
            if not begun:
                listener.begin(f"decoding {total:,} pictures", total)
                begun = True
            listener.advance(done)

        inputs = look_up(scaled, decoded)
        listener.end()
        return inputs


def planned(inputs: Inputs, store: Store, budget: str) -> Plan:
    """Calibrate, and scale the run to its budget if that is a time."""
    hours = budget_hours(budget)
    with console.status("calibrating: how fast does this machine train and measure?"):
        speed = calibrate_speed(inputs, store)
    return make_plan(inputs if hours is None else within_hours(inputs, speed, hours), speed)


def print_plan(plan: Plan) -> None:
    """What will be done, and how long it should take."""
    inputs, config, speed = plan.inputs, plan.inputs.config, plan.speed
    if isinstance(inputs.data, Images):
        _print_images(inputs.data.dataset, inputs.data.splits)
    enqueued = len(config.blocks.networks(inputs.space))
    lines = [
        f"space        {inputs.space.preset.name}, width {config.space.width:g}, "
        f"{scientific(inputs.space.size)} networks at {inputs.space.resolution} px",
        *_device_lines(plan),
        f"target       {_target_text(plan)}",
        f"trials       {config.blocks.trials} on {_where_trials_run(inputs)}, {_per_trial(config)}",
        *([f"enqueued     {enqueued} networks are tried first"] if enqueued else []),
        f"expected     {plan.minutes:.1f} minutes: table {speed.table_minutes:.1f}, search {plan.search_minutes:.1f}, "
        f"NetAdapt {plan.netadapt_minutes:.1f}, final training {plan.final_minutes:.1f} "
        f"({speed.images_per_second:.0f} images/s per thread{_as_if(inputs)})"
        if plan.is_known
        else f"expected     nobody knows how long {config.evaluator} takes",
    ]
    for line in lines:
        say(line)


def _print_images(dataset: Dataset, splits: Splits) -> None:
    table = Table(title=escape(f"{dataset.name}: images per class"), title_justify="left")
    for header in ("class", "train", "reward", "test"):
        table.add_column(header, justify="left" if header == "class" else "right")
    for name, counts in images_per_class(dataset, splits).items():
        table.add_row(escape(name), *(f"{count:,}" for count in counts))
    console.print(table)


def _device_lines(plan: Plan) -> list[str]:
    inputs, config, speed = plan.inputs, plan.inputs.config, plan.speed
    if config.latency is not None:
        return [f"latency      {config.latency} predicts it; nothing is measured"]
    reach = speed.range
    return [
        f"device       {inputs.settings.name}: {where(inputs.settings)}, {inputs.settings.threads} thread(s)"
        + (f"; one network for {', '.join(config.devices)}" if len(config.devices) > 1 else ""),
        f"blocks       {speed.blocks_in_space:,} in the space, {speed.blocks_to_measure:,} to measure",
        "range        known once the blocks are measured"
        if reach is None
        else f"range        {reach.fastest_ms:.3f} to {reach.slowest_ms:.3f} ms, reference {reach.reference_ms:.3f} ms",
    ]


def _where_trials_run(inputs: Inputs) -> str:
    address, most = cluster_of(inputs.config), inputs.config.ray.max_concurrent_trials
    if address is None:
        return f"{inputs.workers} worker(s)"
    return f"the Ray cluster {address}{f', at most {most} at once' if most else ''}"


def _as_if(inputs: Inputs) -> str:
    """Nobody knows a cluster before the search joins it."""
    return "" if cluster_of(inputs.config) is None else f", as if it were {inputs.workers} such threads"


def _per_trial(config: RunConfig) -> str:
    if config.evaluator is not None:
        return f"each judged by {config.evaluator}"
    several = f" of the best {config.final.top_k} and the reference" if config.final.top_k > 1 else ""
    return f"{config.blocks.images:,} images each; final training{several} {config.final.images:,} images each"


def where(settings: DeviceSettings) -> str:
    """How a device is reached, in words."""
    if settings.is_kit:
        return "reached by kit"
    return processor_name() if settings.is_local else settings.address


def _target_text(plan: Plan) -> str:
    target, factor = plan.inputs.config.target, plan.inputs.config.seed_factor
    known = f"{plan.target_ms:.3f} ms" if plan.target_ms is not None else ""
    share = f"{target.relative:.0%} of the reference" if target.relative is not None else ""
    return f"{known}{f' ({share})' if known and share else share}, block-level search aims at {factor:g} × that"


def show_plan(config: RunConfig, database: str, budget: str) -> None:
    """The command `plan`: refuses what `search` would refuse, and starts nothing."""
    inputs = looked_up(config, budget)
    store = Store.open(database)
    try:
        plan = planned(with_device(inputs, store), store, budget)
        print_plan(plan)
        check_limits(inputs)
        if plan.speed.range is not None and plan.target_ms is not None:
            check_target(plan.target_ms, plan.speed.range)
    finally:
        store.close()


def start(
    config: RunConfig, database: str, runs: Path, request: SearchRequest, until: Until = None, repeat: int = 1
) -> None:
    """The command `search`: one search, or a group of them, one after the other."""
    store = Store.open(database)
    store.retry_s = RETRY_S
    try:
        _check_sources(store, config)
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
        for record in records:
            _drive(store, record, runs, until)
        say(f"group        {name}: {', '.join(record.name for record in records)}")
    finally:
        store.close()


def _check_sources(store: Store, config: RunConfig) -> None:
    """Refuse now what a search would find missing only once it is recorded, and its name taken."""
    for name in config.blocks.start_from:
        store.searches.get(name)


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
    with _Ending().said("nothing was started"), telling(None) as listener:
        record = create(store, plan.inputs, runs, listener, request, weights)
    say(f"search       {record.name}")
    say(f"run folder   {record.require_start().run_folder}")
    return record


def queue(config: RunConfig, database: str, request: SearchRequest, repeat: int = 1) -> None:
    """The command `search --queue`: what can be checked without the device's machine is checked here."""
    budget_hours(request.budget or "default")
    load_preset(config.space.preset)
    store = Store.open(database)
    try:
        _check_sources(store, config)
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
        for record in _waiting(store, name):
            _resume(store, record, runs, finish=finish, queue=queue)
    finally:
        store.close()


def _waiting(store: Store, name: str) -> list[SearchRecord]:
    """The search of this name, or those of a group that are not done."""
    found = searches_of(store, name)
    waiting = [record for record in found if record.stage not in (SearchStage.AWAITING, SearchStage.DONE)]
    if len(found) > 1 and not waiting:
        raise RunError(f"the searches of group '{name}' are done: {', '.join(record.name for record in found)}")
    return waiting or found


def _resume(store: Store, record: SearchRecord, runs: Path, *, finish: bool, queue: bool) -> None:
    name = record.name
    if record.stage is SearchStage.DONE:
        raise RunError(f"search '{name}' is done; its report is {record.require_start().files.report}")
    if record.stage is SearchStage.AWAITING:
        raise RunError(f"search '{name}' awaits certification; complete it with: mobilenas certify {name}")
    if finish:
        store.searches.request_finish(record.id)
    if finish and record.is_held:
        say(f"the process that runs '{name}' will now end its block-level search and finish")
    elif queue:
        store.searches.enqueue(record.id)
        say(f"search '{name}' is queued; follow it with: mobilenas logs -f {name}")
    else:
        _drive(store, record, runs)


def certify(name: str, database: str, source: Path | None) -> None:
    """The command `certify`."""
    text = None if source is None else read_results_file(source)
    store = Store.open(database)
    try:
        print_result(complete(store, name, text))
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
            raise RunError(f"search '{name}' is not running, it awaits certification: mobilenas certify {name}")
        store.searches.request_stop(record.id)
    finally:
        store.close()
    what = "will stop when its running trials have ended" if record.is_held else "is stopped"
    say(f"search '{name}' {what}; go on with: mobilenas resume {name}, or resume --queue")


def coordinate(database: str, runs: Path, device: str | None, health_file: Path | None, *, drain: bool) -> None:
    """The command `coordinator`."""

    def alive() -> None:
        if health_file is not None:
            health_file.touch()

    ending = _Ending()
    try:
        with ending.heard(), closing(Store.open(database, RETRY_S)) as store:
            log.info("coordinator waits for searches", database=store.shown_url, device=device, runs=str(runs))
            serve(store, runs, logged, device=device, drain=drain, alive=alive, ends=lambda: ending.require_start)
    except KeyboardInterrupt:
        # What ran is taken up again by the next coordinator.
        log.info("coordinator stopped")


class _Ending:
    """The end of this process at once, by SIGTERM or Ctrl-C, wherever it is.

    What fails while it is put away half done is no failure of anything, so it is remembered that the end has begun.
    """

    def __init__(self) -> None:
        self.require_start = False

    def begin(self, _number: int, _frame: object) -> None:
        """The handler of a signal."""
        self.require_start = True
        raise KeyboardInterrupt

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to signals; what fails once the end has begun is logged, and all that is left is KeyboardInterrupt."""
        before = {number: signal.signal(number, self.begin) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        except BaseException as error:
            if not self.require_start or isinstance(error, KeyboardInterrupt):
                raise
            log.warning("something failed at the end", error=repr(error))
            raise KeyboardInterrupt from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def said(self, meaning: str) -> Iterator[None]:
        """Listen to signals, and say what it means that this ended at once."""
        try:
            with self.heard():
                yield
        except KeyboardInterrupt as error:
            raise Interrupted(f"stopped at once; {meaning}") from error


@contextmanager
def _first_interrupt_stops(running: Session, ending: _Ending) -> Iterator[None]:
    """The first Ctrl-C lets running trials end; the second one ends at once, and what runs is done again on resume."""

    def on_signal(number: int, frame: object) -> None:
        if running.stopping:
            ending.begin(number, frame)
        running.stop()
        console.print("stopping: running trials may end (Ctrl-C again: stop at once)")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _drive(store: Store, record: SearchRecord, runs: Path, until: Until = None) -> None:
    stopped = f"all that was finished is recorded; go on with: mobilenas resume {record.name}"
    ending = _Ending()
    held = hold(store, record.id, lambda: ending.require_start)
    with ending.said(stopped), held as heart, telling(record.name) as shown:
        listener = Listeners(shown, RecordListener(store, record.id))
        if record.stage is SearchStage.QUEUED:
            begin(store, record, runs, listener)
        with session(store, record.name, listener, heart) as running, _first_interrupt_stops(running, ending):
            try:
                drive(running, until)
            except (Interrupted, StoreError):
                raise  # nothing failed; or it is another one's now, or there is nowhere to write it
            except MobilenasError as error:
                if not ending.require_start:
                    store.searches.set_stage(record.id, running.record.stage, error=str(error))
                raise
        listener.note("")
    if until != "blocks":
        print_result(RecordedSearch.read(store, record.name))


@contextmanager
def telling(search: str | None = None, *, quiet: bool = False) -> Iterator[Listener]:
    """Who tells of what goes on; on stderr where stdout is for a program."""
    with listener_for(load_settings(), Console(stderr=True) if quiet else console, search=search) as listener:
        yield listener


def print_result(recorded: RecordedSearch) -> None:
    """The comparison, the findings, and where the files are."""
    if not recorded.has_finals:
        for line in spec_alone(recorded):
            say(line)
        for name in (REPORT, SPEC):
            say(str(recorded.start.run_folder / name))
        return
    header, *rows = comparison(recorded)
    table = Table(title=recorded.record.name, title_justify="left")
    for title in header:
        table.add_column(title)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for line in verdict(recorded):
        say(f"- {line}")
    say("")
    for name in (REPORT, *EXPORTED):
        say(str(recorded.start.run_folder / name))
