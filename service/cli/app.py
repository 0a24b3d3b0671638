"""The command line. Heavy imports happen inside the commands, so that --help answers at once."""

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from service.cli import records, reports
from service.cli.bench import bench_app
from service.cli.latency import device_app, latency_app
from service.cli.options import DATABASE, Database, Name, Note, Priority
from service.cli.spaces import arch_app, space_app
from space.errors import MobilenasError

app = typer.Typer(
    help="Finds the network for your device: hardware-aware search over MobileNetV3-class networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="The configuration of a run.", no_args_is_help=True)
app.add_typer(config_app, name="config")
db_app = typer.Typer(help="The database that keeps the record.", no_args_is_help=True)
app.add_typer(db_app, name="db")
app.add_typer(arch_app, name="arch")
app.add_typer(space_app, name="space")
app.add_typer(latency_app, name="latency")
app.add_typer(device_app, name="device")
app.add_typer(bench_app, name="bench")


def _runs() -> Path:
    from service.settings import load_settings

    return load_settings().runs


def _owner() -> str:
    from service.settings import load_settings

    return load_settings().owner


# typer calls these for the value, and only where a command runs: --help works even while the settings are broken.
RUNS = cast("Path", _runs)
OWNER = cast("str", _owner)

Config = Annotated[Path | None, typer.Option("--config", help="YAML file with what differs from the default run.")]
Runs = Annotated[
    Path,
    typer.Option(
        envvar="MOBILENAS_RUNS", help="Folder for the run folders; default: the settings', or runs.", show_default=False
    ),
]
Budget = Annotated[str, typer.Option(help="quick, default, thorough, or a time such as 4h or 30m.")]
Data = Annotated[str | None, typer.Option(help="fashion-mnist, cifar10 or imagefolder:PATH.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder to look for the data set first.")]
Device = Annotated[str | None, typer.Option(help="Name of this device in the record.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the input images in pixels.")]
Target = Annotated[str | None, typer.Option(help="Latency target: 4.0ms, or 80% of the reference's.")]
Seed = Annotated[int | None, typer.Option(help="Seed of what is proposed; trainings have one of their own.")]
Workers = Annotated[int | None, typer.Option(help="Trials that run at once.")]
Enqueue = Annotated[list[str] | None, typer.Option(help="A published network or spec file to try first; repeatable.")]
Sampler = Annotated[
    str | None, typer.Option(help="feasible-first, tpe, nsga2, evolution, random, or package.module:callable.")
]
Repeat = Annotated[int, typer.Option(min=1, max=1000, help="So many searches with other seeds, as one group.")]
StartFrom = Annotated[
    list[str] | None,
    typer.Option(help="A recorded search whose trials are taken over; repeatable.", show_default=False),
]
NoReuse = Annotated[bool, typer.Option("--no-reuse", help="Train what earlier searches have trained once more.")]
Run = Annotated[Path, typer.Argument(help="A run folder, or an exported model.onnx.", show_default=False)]
Until = Annotated[Literal["refine"] | None, typer.Option(help="Stop before this stage, to measure on a device first.")]
Queue = Annotated[bool, typer.Option("--queue", help="Leave it to a coordinator.")]
Owner = Annotated[
    str,
    typer.Option(envvar="MOBILENAS_OWNER", help="Whose search it is; default: your login name.", show_default=False),
]
Label = Annotated[list[str] | None, typer.Option(help="A word to group searches by; repeatable.")]


def _show_version(asked: bool) -> None:
    """What a person who reports a fault is asked for; heavy packages are named, not imported."""
    if not asked:
        return
    from importlib.metadata import version
    from platform import python_version

    from search.record.schema import REVISIONS

    named = {"python": python_version(), "torch": version("torch"), "onnxruntime": version("onnxruntime")}
    told = ", ".join(f"{name} {number}" for name, number in {**named, "schema": REVISIONS[-1]}.items())
    typer.echo(f"mobilenas {version('mobilenas')} ({told})")
    raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print versions, and end.")
]


@app.callback()
def begin(version: Version = False) -> None:  # noqa: ARG001 - its callback answers
    """Put the settings in force, before any command."""
    if "--help" in sys.argv:
        return
    from service.settings import export_cache_dir, load_settings
    from service.terminal import logs

    settings = load_settings()
    export_cache_dir()
    logs.configure(settings.log_format, settings.log_level)


@app.command()
def search(
    config: Config = None,
    name: Annotated[str | None, typer.Option(help="Name of the search; default: <data>-<device>-<n>.")] = None,
    device: Device = None,
    data: Data = None,
    data_dir: DataDir = None,
    resolution: Resolution = None,
    target: Target = None,
    seed: Seed = None,
    workers: Workers = None,
    enqueue: Enqueue = None,
    sampler: Sampler = None,
    repeat: Repeat = 1,
    start_from: StartFrom = None,
    no_reuse: NoReuse = False,
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
    """Search, refine, train, measure and export a network for this device; or leave that to a coordinator."""
    from search.start import SearchRequest
    from service.commands import search
    from space.errors import InvalidConfig

    if priority is not None and not queue:
        raise InvalidConfig("--priority belongs to searches of the queue; add --queue")
    request = SearchRequest(owner=owner, labels=tuple(label or ()), note=note, budget=budget, priority=priority or 0)

    settings = search.configuration(
        config,
        name=name,
        device=device,
        data=data,
        data_dir=data_dir,
        resolution=resolution,
        target=target,
        seed=seed,
        workers=workers,
        sampler=sampler,
        enqueue=enqueue or (),
        start_from=start_from or (),
        reuse=not no_reuse,
    )
    if queue and until:
        raise InvalidConfig("--until belongs to searches in the foreground; leave out --queue")
    if queue:
        search.queue(settings, database, request, repeat)
    else:
        search.start(settings, database, runs, request, until, repeat)


@app.command()
def netadapt(
    source: Annotated[str, typer.Option("--from", help="A recorded search, or a run folder.", show_default=False)],
    target: Annotated[str, typer.Option(help="4.0ms, or 80% of the network's latency.", show_default=False)],
    trial: Annotated[
        int | None, typer.Option(help="Number of a completed trial of it; default: the found one.")
    ] = None,
    config: Config = None,
    name: Annotated[str | None, typer.Option(help="Name of the search; default: <data>-<device>-<n>.")] = None,
    device: Device = None,
    data: Data = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    owner: Owner = OWNER,
    label: Label = None,
    note: Note = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Walk from a trained network to a faster one by narrowing its layers, then fine-tune, measure and export it."""
    from search.start import SearchRequest
    from service.commands import netadapt

    request = SearchRequest(owner=owner, labels=tuple(label or ()), note=note)
    netadapt.netadapt(
        database,
        runs,
        request,
        netadapt.NetAdaptRequest(
            source=source,
            trial=trial,
            target=target,
            config=config,
            name=name,
            device=device,
            data=data,
            data_dir=data_dir,
            workers=workers,
        ),
    )


@app.command()
def plan(
    config: Config = None,
    device: Device = None,
    data: Data = None,
    data_dir: DataDir = None,
    resolution: Resolution = None,
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
        target=target,
        seed=None,
        workers=workers,
    )
    search.show_plan(settings, database, budget)


@app.command()
def resume(name: Name, queue: Queue = False, runs: Runs = RUNS, database: Database = DATABASE) -> None:
    """Go on with a search that was stopped or killed, in whichever stage it was."""
    from service.commands import search

    search.resume(name, database, runs, queue=queue)


@app.command()
def finish(name: Name, queue: Queue = False, runs: Runs = RUNS, database: Database = DATABASE) -> None:
    """End the block-level search now: the best so far goes through NetAdapt, final training and export."""
    from service.commands import search

    search.resume(name, database, runs, finish=True, queue=queue)


@app.command()
def certify(
    name: Name,
    source: Annotated[Path | None, typer.Option("--import", help="results.json of the search's certify.zip.")] = None,
    database: Database = DATABASE,
) -> None:
    """Complete a search that awaits certification: measured over ssh, or by the results of its kit."""
    from service.commands import search

    search.certify(name, database, source)


@app.command()
def stop(name: Name, database: Database = DATABASE) -> None:
    """Stop a search, wherever it runs, when its running trials have ended."""
    from service.commands import search

    search.stop(name, database)


@app.command()
def coordinator(
    device: Annotated[str | None, typer.Option(help="Only searches for the device of this name.")] = None,
    drain: Annotated[bool, typer.Option("--drain", help="End when the queue is empty.")] = False,
    health_file: Annotated[Path | None, typer.Option(help="File to touch every few seconds while all is well.")] = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Run queued searches, one after the other; several coordinators may share a queue."""
    from service.commands import search

    search.coordinate(database, runs, device, health_file, drain=drain)


@app.command()
def export(
    name: Name,
    trial: Annotated[int | None, typer.Option(help="Number of a completed trial; default: the found network.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to, or - for a tar file on stdout; default: <name>-trial-<n>.")
    ] = None,
    form: Annotated[
        list[str] | None,
        typer.Option("--format", help="Also for other tools: timm, torchvision, ofa or model.py; repeatable."),
    ] = None,
    database: Database = DATABASE,
) -> None:
    """Write spec, weights, ONNX file, labels and preprocessing of a trial."""
    from service.commands import networks

    networks.export(database, name, trial, out, form or [])


@app.command()
def predict(
    run: Run,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3,
) -> None:
    """Classify your own pictures with an exported network."""
    from service.commands import networks

    networks.predict(run, pictures, top)


@app.command()
def evaluate(
    run: Run,
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10 or imagefolder:PATH.")],
    data_dir: DataDir = None,
    everything: Annotated[bool, typer.Option("--all", help="All images, not the test split alone.")] = False,
) -> None:
    """Top-1 with interval, recall per class and confusion matrix of an exported network."""
    from service.commands import networks

    networks.evaluate(run, data, data_dir, everything=everything)


@app.command()
def archive(
    name: Annotated[str | None, typer.Argument(help="The search to hand over.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, or - for stdout; default: <name>.zip.")] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Archive to record instead, or - for stdin.")] = None,
    new_name: Annotated[str | None, typer.Option("--name", help="Name to record it under.")] = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Put one search with its tables and files into a zip file, or record the search of such a file."""
    from service.commands import database as commands
    from space.errors import InvalidConfig

    if (name is None) == (source is None):
        raise InvalidConfig("name a search to archive, or a file with --import")
    if source is not None:
        commands.import_archive(database, source, runs, new_name)
    elif name is not None:
        commands.archive(database, name, out or Path(f"{name}.zip"))


@app.command()
def gc(
    search: Annotated[str | None, typer.Option(help="Only this search.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be freed, and free nothing.")] = False,
    database: Database = DATABASE,
) -> None:
    """Free weights of finished searches, but for the best ten, exported and final networks, and their ancestors."""
    from service.commands import database as commands

    commands.gc(database, search, dry_run=dry_run)


@db_app.command("upgrade")
def db_upgrade(database: Database = DATABASE) -> None:
    """Create the schema or bring it up to date; on PostgreSQL also the read-only role of MOBILENAS_READER_PASSWORD."""
    from service.commands import database as commands

    commands.upgrade(database)


@db_app.command("check")
def db_check(database: Database = DATABASE) -> None:
    """Look for faults, in the file and in what its rows say of each other; change nothing."""
    from service.commands import database as commands

    commands.check(database)


@db_app.command("copy")
def db_copy(
    source: Annotated[str, typer.Argument(help="URL of the database to read.", show_default=False)],
    target: Annotated[str, typer.Argument(help="URL of a blank one.", show_default=False)],
) -> None:
    """Copy a whole record into a blank database, ids kept; SQLite and PostgreSQL in either direction."""
    from service.commands import database as commands

    commands.copy(source, target)


@db_app.command("backup")
def db_backup(
    out: Annotated[Path, typer.Option(help="SQLite file to write.", show_default=False)], database: Database = DATABASE
) -> None:
    """Copy a whole record into a new SQLite file; searches may run meanwhile."""
    from service.commands import database as commands

    commands.backup(database, out)


@config_app.command("show")
def config_show(config: Config = None) -> None:
    """Print the settings with their origins, and the run: the default one with its comments, or what a file makes."""
    from service.commands.config import config_text

    typer.echo(config_text(config), nl=False)


# Behind the commands above, as they stand in --help.
records.register(app)
reports.register(app)


def main() -> None:
    """Run the command line; an error that a user can mend is one line and exit code 2, an interruption 130."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.TyperException as error:
        # Without a message where the help was shown instead.
        if message := error.format_message().rstrip("."):
            _tell(f"{message}; see --help", error=True)
        sys.exit(2)
    except MobilenasError as error:
        from search.stages.session import Interrupted

        interrupted = isinstance(error, Interrupted)
        _tell(" ".join(str(error).split()), error=not interrupted)
        sys.exit(130 if interrupted else 2)
    except OSError as error:
        _tell(str(error), error=True)
        sys.exit(2)


def _tell(line: str, *, error: bool) -> None:
    """The last line, on stderr: in the form of a log where that is read by programs."""
    from service.settings import load_settings

    try:
        is_json = load_settings().log_format == "json"
    except MobilenasError:
        is_json = False  # the settings are what is wrong
    if is_json:
        import structlog

        log = structlog.stdlib.get_logger("mobilenas")
        (log.error if error else log.warning)(line)
    else:
        typer.echo(f"error: {line}" if error else line, err=True)
