"""The command lines that look back at searches: report, compare, dashboard."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import DATABASE, LOOK, Database

Names = Annotated[
    list[str], typer.Argument(help="Names of searches or groups; several are compared.", show_default=False)
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Common latency target when comparing, such as 4.0ms; default: the largest target of the searches."
    ),
]
Answer = Annotated[Literal["table", "json"], typer.Option("--format", help="Output format.")]


def report(
    names: Names,
    out: Annotated[Path | None, typer.Option(help="HTML file to write; default: <name>.html.")] = None,
    target: Target = None,
    database: Database = DATABASE,
) -> None:
    """Write one HTML file that opens offline: about a search, or about several compared."""
    from service.commands import reports

    reports.report(database, names, out, target)


def compare(
    one: Annotated[str, typer.Argument(help="Name of a search.", show_default=False)],
    other: Annotated[str, typer.Argument(help="Name of another search.", show_default=False)],
    target: Target = None,
    form: Answer = "table",
    database: Database = DATABASE,
) -> None:
    """Say how two searches differ: configuration, best networks within one target, cost, top-1 on the test split."""
    from service.commands import reports

    reports.compare(database, one, other, target, form)


def dashboard(
    name: Annotated[str | None, typer.Argument(help="Show only this search.", show_default=False)] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anyone who can reach it may read the record.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8080,
    database: Database = DATABASE,
) -> None:
    """Show searches in optuna-dashboard, read-only."""
    from service.commands import dashboard

    dashboard.dashboard(database, name, host, port)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (report, compare, dashboard):
        app.command(rich_help_panel=LOOK)(command)
