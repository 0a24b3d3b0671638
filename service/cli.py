"""The command line. Heavy imports happen inside the commands, so that --help answers at once."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.settings import DATABASE_VARIABLE, default_database, default_runs
from space.errors import MobilenasError

app = typer.Typer(
    help="Finds the network for your device: hardware-aware search over MobileNetV3-class networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="The configuration of a run.", no_args_is_help=True)
app.add_typer(config_app, name="config")

DATABASE = default_database()
RUNS = default_runs()

Format = Literal["table", "csv", "json"]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file with what differs from the default run.")]
Database = Annotated[
    str, typer.Option(envvar=DATABASE_VARIABLE, help="SQLAlchemy URL of the record; default: an SQLite file of yours.")
]
Budget = Annotated[str, typer.Option(help="quick, default, thorough, or a time such as 4h or 30m.")]
Name = Annotated[str, typer.Argument(help="The search's name.", show_default=False)]
Data = Annotated[str | None, typer.Option(help="fashion-mnist, cifar10 or imagefolder:PATH.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder to look for the data set first.")]
Device = Annotated[str | None, typer.Option(help="Name of this device in the record.")]
Resolution = Annotated[int | None, typer.Option(help="Side of the input images in pixels.")]
Target = Annotated[str | None, typer.Option(help="Latency target: 4.0ms, or 80% of the reference's.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Workers = Annotated[int | None, typer.Option(help="Trials that run at once.")]
Run = Annotated[Path, typer.Argument(help="A run folder, or an exported model.onnx.", show_default=False)]
Form = Annotated[Format, typer.Option("--format", help="How to print.")]


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
    budget: Budget = "default",
    runs: Annotated[Path, typer.Option(help="Folder for the run folders.")] = RUNS,
    database: Database = DATABASE,
) -> None:
    """Search, refine, train, measure and export a network for this device."""
    from service import running

    settings = running.configuration(
        config,
        name=name,
        device=device,
        data=data,
        data_dir=data_dir,
        resolution=resolution,
        target=target,
        seed=seed,
        workers=workers,
    )
    running.start(settings, database, runs, budget)


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
    from service import running

    settings = running.configuration(
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
    running.show_plan(settings, database, budget)


@app.command()
def resume(name: Name, database: Database = DATABASE) -> None:
    """Go on with a search that was stopped or killed, in whichever stage it was."""
    from service import running

    running.resume(name, database)


@app.command()
def finish(name: Name, database: Database = DATABASE) -> None:
    """End the block-level search now: the best so far goes through NetAdapt, final training and export."""
    from service import running

    running.resume(name, database, finish=True)


@app.command()
def status(name: Name, database: Database = DATABASE) -> None:
    """Say where a search stands."""
    from service import records

    records.status(database, name)


@app.command()
def trials(
    search: Annotated[str | None, typer.Option(help="Only this search.")] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by, such as reward, top1 or latency_ms.")] = "number",
    form: Form = "table",
    database: Database = DATABASE,
) -> None:
    """List recorded trials."""
    from service import records

    records.trials(database, search, sort, form)


@app.command()
def searches(form: Form = "table", database: Database = DATABASE) -> None:
    """List recorded searches."""
    from service import records

    records.searches(database, form)


@app.command()
def devices(form: Form = "table", database: Database = DATABASE) -> None:
    """List devices and their latency tables."""
    from service import records

    records.devices(database, form)


@app.command()
def export(
    name: Name,
    trial: Annotated[int | None, typer.Option(help="Number of a completed trial; default: the found network.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: <name>-trial-<n>.")] = None,
    database: Database = DATABASE,
) -> None:
    """Write spec, weights, ONNX file, labels and preprocessing of a trial."""
    from service import exported

    exported.export(database, name, trial, out)


@app.command()
def predict(
    run: Run,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.")] = 3,
) -> None:
    """Classify your own pictures with an exported network."""
    from service import exported

    exported.predict(run, pictures, top)


@app.command()
def evaluate(
    run: Run,
    data: Annotated[str, typer.Option(help="fashion-mnist, cifar10 or imagefolder:PATH.")],
    data_dir: DataDir = None,
    everything: Annotated[bool, typer.Option("--all", help="All images, not the test split alone.")] = False,
) -> None:
    """Top-1 with interval, recall per class and confusion matrix of an exported network."""
    from service import exported

    exported.evaluate(run, data, data_dir, everything=everything)


@config_app.command("show")
def config_show(config: Config = None) -> None:
    """Print the effective configuration; without a file the default one, with its comments."""
    from search.config import default_text, load_config

    if config is None:
        typer.echo(default_text(), nl=False)
        return
    import yaml

    typer.echo(yaml.safe_dump(load_config(config).model_dump(mode="json"), sort_keys=False), nl=False)


def main() -> None:
    """Run the command line; an error that a user can mend is one line and exit code 2, an interruption 130."""
    try:
        app()
    except MobilenasError as error:
        from search.session import Interrupted

        interrupted = isinstance(error, Interrupted)
        typer.echo(("" if interrupted else "error: ") + " ".join(str(error).split()), err=True)
        sys.exit(130 if interrupted else 2)
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
