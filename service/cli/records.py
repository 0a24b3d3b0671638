"""The commands that ask the record of searches, and that annotate it."""

from typing import Annotated, Literal

import typer

from service.cli.options import DATABASE, DEVICES, LOOK, Database, Form, Name, Note, Out, Priority


def rescore(
    name: Name,
    reward: Annotated[str, typer.Option(help="hard, soft, absolute, or package.module:callable.", show_default=False)],
    exponent: Annotated[
        float | None, typer.Option(help="Exponent w of soft, or beta of absolute; default: that of the space.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Latency target, such as 4.0ms or 80%; default: the one the block-level search aimed at."),
    ] = None,
    form: Form = "table",
    out: Out = None,
    database: Database = DATABASE,
) -> None:
    """Rank the trials of a search by another reward or target; the record is not changed."""
    from service.commands import records

    records.rescore(database, name, reward, exponent, target, form, out)


def status(name: Name, database: Database = DATABASE) -> None:
    """Say where a search stands, and what to do next."""
    from service.commands import records

    records.status(database, name)


def trials(
    search: Annotated[str | None, typer.Option(help="Only trials of this search.")] = None,
    sort: Annotated[str, typer.Option(help="Column to sort by, such as reward, top1 or latency_ms.")] = "number",
    form: Form = "table",
    out: Out = None,
    database: Database = DATABASE,
) -> None:
    """List recorded trials."""
    from service.commands import records

    records.trials(database, search, sort, form, out)


def searches(
    owner: Annotated[str | None, typer.Option(help="Only searches of this owner.")] = None,
    label: Annotated[str | None, typer.Option(help="Only searches with this label.")] = None,
    form: Form = "table",
    out: Out = None,
    database: Database = DATABASE,
) -> None:
    """List recorded searches."""
    from service.commands import records

    records.searches(database, form, owner, label, out)


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until the search ends.")] = False,
    form: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print.")] = "text",
    database: Database = DATABASE,
) -> None:
    """Print the log of a search, wherever it runs."""
    from service.commands import records

    records.logs(database, name, form, follow=follow)


def annotate(
    name: Name,
    owner: Annotated[str | None, typer.Option(help="New owner.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="New label, replacing all that it has; repeatable.")] = None,
    note: Note = None,
    priority: Priority = None,
    database: Database = DATABASE,
) -> None:
    """Change the owner, labels, note or priority of a search."""
    from service.commands import records

    records.annotate(database, name, owner, label, note, priority)


def devices(form: Form = "table", out: Out = None, database: Database = DATABASE) -> None:
    """List devices and their latency tables."""
    from service.commands import records

    records.devices(database, form, out)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (status, trials, searches, logs, rescore):
        app.command(rich_help_panel=LOOK)(command)
    app.command(rich_help_panel=DEVICES)(devices)
