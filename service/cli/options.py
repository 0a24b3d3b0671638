"""Options that many commands share."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer


def _database() -> str:
    from service.settings import load_settings

    return load_settings().database_url


# typer calls it for the value, and only where a command runs: --help works even while the settings are broken.
DATABASE = cast("str", _database)

Database = Annotated[
    str,
    typer.Option(
        envvar="MOBILENAS_DATABASE_URL",
        help="SQLAlchemy URL of the record; default: the settings', or an SQLite file of yours.",
        show_default=False,
    ),
]
Form = Annotated[Literal["table", "csv", "json", "parquet"], typer.Option("--format", help="How to print.")]
Out = Annotated[Path | None, typer.Option(help="File to write instead of printing.")]
Name = Annotated[str, typer.Argument(help="The search's name.", show_default=False)]
Priority = Annotated[
    int | None,
    typer.Option(
        min=-1000, max=1000, help="Of those that wait in the queue, the highest goes first.", show_default=False
    ),
]
Note = Annotated[str | None, typer.Option(help="Free text to keep with the search.")]


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
