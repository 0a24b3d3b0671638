"""The commands about data sets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import DataDir

data_app = typer.Typer(help="Data sets: photos of your own, and the published ones.", no_args_is_help=True)


@data_app.command("check")
def check(
    path: Annotated[Path, typer.Argument(help="Folder of photos, as for imagefolder:PATH.", show_default=False)],
    form: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print.")] = "table",
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Draw ten pictures of each class on this page, a .png file.")
    ] = None,
) -> None:
    """Say what a folder of photos holds: classes, splits, kinds, sizes, damaged files, duplicates, what is left out."""
    from service.commands import data

    data.check(path, form, contact_sheet)


@data_app.command("get")
def get(
    name: Annotated[
        Literal["fashion-mnist", "cifar10", "nas-bench-macro"],
        typer.Argument(help="The data set to fetch.", show_default=False),
    ],
    data_dir: DataDir = None,
) -> None:
    """Fetch a published data set into the cache, unless it is there, and say where it is."""
    from service.commands import data

    data.get(name, data_dir)
