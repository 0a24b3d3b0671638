"""Options that many commands share."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

# The headings of --help.
SEARCH, LOOK, DEVICES, NETWORKS, KEEP = "Search", "Look", "Devices", "Networks and data", "Keep"


def _database() -> str:
    from service.settings import load_settings

    return load_settings().database_url


# typer calls it for the value, and only where a command runs: --help works even while the settings are broken.
DATABASE = cast("str", _database)

Database = Annotated[
    str,
    typer.Option(
        envvar="MOBILENAS_DATABASE_URL",
        help="SQLAlchemy URL of the record; default: that of the settings, or an SQLite file in your data directory.",
        show_default=False,
    ),
]
Form = Annotated[Literal["table", "csv", "json", "parquet"], typer.Option("--format", help="Output format.")]
Out = Annotated[Path | None, typer.Option(help="Write to this file instead of printing.")]
Name = Annotated[str, typer.Argument(help="Name of the search.", show_default=False)]
Priority = Annotated[
    int | None,
    typer.Option(
        min=-1000,
        max=1000,
        help="Of the searches in the queue, the one with the highest priority goes first.",
        show_default=False,
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

Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with everything that differs from the default run.")
]
Runs = Annotated[
    Path,
    typer.Option(
        envvar="MOBILENAS_RUNS",
        help="Folder that holds the run folders; default: that of the settings, or runs.",
        show_default=False,
    ),
]
Budget = Annotated[
    str,
    typer.Option(help="How much to train: quick, default (15 minutes), thorough, or a time to fill such as 30m or 4h."),
]
Data = Annotated[str | None, typer.Option(help="Data set: fashion-mnist, cifar10 or imagefolder:PATH.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder in which to look for the data set first.")]
SkipDamaged = Annotated[
    bool, typer.Option("--skip-damaged", help="Leave out pictures that cannot be read, instead of refusing the data.")
]
Device = Annotated[
    str | None, typer.Option(help="Name of the device to search for; default: that of the configuration, or local.")
]
Resolution = Annotated[int | None, typer.Option(help="Side of the input images in pixels.")]
Space = Annotated[
    str | None,
    typer.Option(help="Search space, shipped or a YAML file; default: one for the resolution.", show_default=False),
]
Width = Annotated[
    float | None, typer.Option(help="Width multiplier of the space and its reference.", show_default=False)
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Latency target: a time such as 4.0ms, 30fps, or a share of the reference's latency such as 80%."
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seed of the sampler; training has a seed of its own, in the configuration.")
]
Workers = Annotated[int | None, typer.Option(help="Number of trials to run at once; default: one per core.")]
Enqueue = Annotated[
    list[str] | None,
    typer.Option(help="Published network or spec file to try before the sampler proposes any; repeatable."),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        help="Who proposes networks: feasible-first, tpe, nsga2, evolution, random, or package.module:callable."
    ),
]
Repeat = Annotated[
    int, typer.Option(min=1, max=1000, help="Number of searches to run as one group, each with the next seed.")
]
StartFrom = Annotated[
    list[str] | None,
    typer.Option(
        help="Earlier search whose trials are reused, and whose found network is tried first; repeatable.",
        show_default=False,
    ),
]
NoReuse = Annotated[
    bool, typer.Option("--no-reuse", help="Train every network, even those that earlier searches have trained.")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Let the sampler learn from this search alone, not from earlier ones, too.")
]
NoHtml = Annotated[bool, typer.Option("--no-html", help="Leave out report.html, which is 5 MB.")]
Run = Annotated[Path, typer.Argument(help="A run folder, or an exported model.onnx.", show_default=False)]
Until = Annotated[
    Literal["refine"] | None,
    typer.Option(help="Stop before NetAdapt (refine), so that its blocks can be measured on the device first."),
]
Queue = Annotated[bool, typer.Option("--queue", help="Put the search into the queue, for a coordinator to run.")]
Owner = Annotated[
    str,
    typer.Option(envvar="MOBILENAS_OWNER", help="Owner of the search; default: your login name.", show_default=False),
]
Label = Annotated[list[str] | None, typer.Option(help="Label of the search, to filter by later; repeatable.")]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="The model that you have now, an ONNX file: tested and measured beside what is found, in every report.",
        show_default=False,
    ),
]
BaselineLabels = Annotated[
    Path | None,
    typer.Option(
        help="A text file with the class of each of its outputs, a line each; default: as its metadata say.",
        show_default=False,
    ),
]
BaselinePreprocess = Annotated[
    str | None,
    typer.Option(
        help="How it takes pictures: imagenet, or a preprocess.json; default: as its metadata say.", show_default=False
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        help="Weights to begin with: a file of torchvision's, timm's or ours, a run folder, torchvision:NAME or "
        "timm:NAME (downloaded where it is nowhere here); or, for a search, imagenet: those of the space's reference.",
        show_default=False,
    ),
]
