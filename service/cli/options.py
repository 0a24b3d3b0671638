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
