"""The commands that run searches."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import (
    DATABASE,
    OWNER,
    RUNS,
    SEARCH,
    Baseline,
    BaselineLabels,
    BaselinePreprocess,
    Budget,
    Config,
    Data,
    Database,
    DataDir,
    Device,
    Enqueue,
    Fresh,
    Init,
    Label,
    Name,
    NoHtml,
    NoReuse,
    Note,
    Owner,
    Priority,
    Queue,
    Repeat,
    Resolution,
    Runs,
    Sampler,
    Seed,
    SkipDamaged,
    Space,
    StartFrom,
    Target,
    Until,
    Width,
    Workers,
)


def search(
    config: Config = None,
    name: Annotated[str | None, typer.Option(help="Name of the search; default: <data>-<device>-<n>.")] = None,
    device: Device = None,
    data: Data = None,
    data_dir: DataDir = None,
    resolution: Resolution = None,
    skip_damaged: SkipDamaged = False,
    space: Space = None,
    width: Width = None,
    init: Init = None,
    baseline: Baseline = None,
    baseline_labels: BaselineLabels = None,
    baseline_preprocess: BaselinePreprocess = None,
    target: Target = None,
    seed: Seed = None,
    workers: Workers = None,
    enqueue: Enqueue = None,
    sampler: Sampler = None,
    repeat: Repeat = 1,
    start_from: StartFrom = None,
    no_reuse: NoReuse = False,
    fresh: Fresh = False,
    no_html: NoHtml = False,
    budget: Budget = "default",
    until: Until = None,
    queue: Queue = False,
    priority: Priority = None,
    owner: Owner = OWNER,
    label: Label = None,
    note: Note = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Search a network for a device, then refine, train, measure and export it; or queue that for a coordinator."""
    from search.lifecycle.creation import SearchRequest
    from service.commands import search
    from space.errors import InvalidConfig

    if priority is not None and not queue:
        raise InvalidConfig("--priority is for searches in the queue; add --queue")
    request = SearchRequest(owner=owner, labels=tuple(label or ()), note=note, budget=budget, priority=priority or 0)

    settings = search.configuration(
        config,
        name=name,
        device=device,
        data=data,
        data_dir=data_dir,
        resolution=resolution,
        skip_damaged=skip_damaged,
        space=space,
        width=width,
        init=init,
        baseline=baseline,
        baseline_labels=baseline_labels,
        baseline_preprocess=baseline_preprocess,
        target=target,
        seed=seed,
        workers=workers,
        sampler=sampler,
        enqueue=enqueue or (),
        start_from=start_from or (),
        reuse=not no_reuse,
        fresh=fresh,
        html=not no_html,
    )
    if queue and until:
        raise InvalidConfig("--until is for searches in the foreground; leave --queue out")
    if queue:
        search.queue(settings, database, request, repeat)
    else:
        search.start(settings, database, runs, request, until, repeat)


def netadapt(
    target: Annotated[
        str,
        typer.Option(
            help="Latency target: a time such as 4.0ms, or a share of the network's latency such as 70%.",
            show_default=False,
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Search or run folder whose network to start from.", show_default=False),
    ] = None,
    init: Init = None,
    trial: Annotated[
        int | None, typer.Option(help="Number of a completed trial of that search; default: its found network.")
    ] = None,
    config: Config = None,
    name: Annotated[str | None, typer.Option(help="Name of the search; default: <data>-<device>-<n>.")] = None,
    device: Device = None,
    data: Data = None,
    data_dir: DataDir = None,
    resolution: Resolution = None,
    skip_damaged: SkipDamaged = False,
    baseline: Baseline = None,
    baseline_labels: BaselineLabels = None,
    baseline_preprocess: BaselinePreprocess = None,
    workers: Workers = None,
    owner: Owner = OWNER,
    label: Label = None,
    note: Note = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Make a trained network faster by narrowing its layers, then fine-tune, measure and export it."""
    from search.lifecycle.creation import SearchRequest
    from service.commands import netadapt, search

    request = SearchRequest(owner=owner, labels=tuple(label or ()), note=note)
    netadapt.netadapt(
        database,
        runs,
        request,
        netadapt.NetAdaptRequest(
            source=source,
            init=init,
            resolution=resolution,
            trial=trial,
            target=target,
            config=config,
            name=name,
            device=device,
            data=data,
            data_dir=data_dir,
            workers=workers,
            skip_damaged=skip_damaged,
            present=search.present_section(baseline, baseline_labels, baseline_preprocess),
        ),
    )


def plan(
    context: typer.Context,
    config: Config = None,
    device: Device = None,
    data: Data = None,
    data_dir: DataDir = None,
    resolution: Resolution = None,
    skip_damaged: SkipDamaged = False,
    space: Space = None,
    width: Width = None,
    init: Init = None,
    baseline: Baseline = None,
    baseline_labels: BaselineLabels = None,
    baseline_preprocess: BaselinePreprocess = None,
    target: Target = None,
    workers: Workers = None,
    budget: Budget = "default",
    database: Database = DATABASE,
) -> None:
    """Say what a search would do and how long it would take, without starting it."""
    from service.commands import search

    settings = search.configuration(
        config,
        name=None,
        device=device,
        data=data,
        data_dir=data_dir,
        resolution=resolution,
        skip_damaged=skip_damaged,
        space=space,
        width=width,
        init=init,
        baseline=baseline,
        baseline_labels=baseline_labels,
        baseline_preprocess=baseline_preprocess,
        target=target,
        seed=None,
        workers=workers,
    )
    search.show_plan(settings, database, budget, start_with=_with_the_same_options(context, "search"))


_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@")


def _with_the_same_options(context: typer.Context, command: str) -> str:
    """The line of another command with what was given to this one."""
    words = ["mobilenas", command]
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        value = context.params[name]
        # What holds a password is no more shown than the record's address is elsewhere.
        if source is not None and source.name == "COMMANDLINE" and not _PASSWORD.search(str(value)):
            words += [option.opts[0]] if value is True else [option.opts[0], str(value)]
    return shlex.join(words)


def resume(name: Name, queue: Queue = False, runs: Runs = RUNS, database: Database = DATABASE) -> None:
    """Resume a search that was stopped or killed, at the stage where it was."""
    from service.commands import search

    search.resume(name, database, runs, queue=queue)


def finish(name: Name, queue: Queue = False, runs: Runs = RUNS, database: Database = DATABASE) -> None:
    """End the block-level search now, and take its best network through NetAdapt, final training and export."""
    from service.commands import search

    search.resume(name, database, runs, finish=True, queue=queue)


def certify(
    name: Name,
    source: Annotated[
        Path | None,
        typer.Option(
            "--import", help="results.json that a kit of the search, finalists.zip or certify.zip, has written."
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make a kit of the next finalists, where those measured miss the target.")
    ] = False,
    database: Database = DATABASE,
) -> None:
    """Go on with a search that waits for its device: import the results of its kit, or measure over ssh."""
    from service.commands import search
    from space.errors import InvalidConfig

    if again and source is not None:
        raise InvalidConfig("--again makes a kit and --import reads results; give one of them")
    search.certify(name, database, source, again=again)


def stop(name: Name, database: Database = DATABASE) -> None:
    """Stop a search, wherever it runs, once its running trials have ended."""
    from service.commands import search

    search.stop(name, database)


def coordinator(
    device: Annotated[str | None, typer.Option(help="Run only searches for the device of this name.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="Exit when the queue is empty.")] = False,
    health_file: Annotated[
        Path | None, typer.Option(help="File to touch every few seconds while the coordinator works.")
    ] = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Run queued searches, one after the other; several coordinators may share a queue."""
    from service.commands import search

    search.coordinate(database, runs, device, health_file, drain=drain)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (search, netadapt, plan, resume, finish, certify, stop, coordinator):
        app.command(rich_help_panel=SEARCH)(command)
