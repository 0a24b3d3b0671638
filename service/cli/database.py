"""The commands that keep the record."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.options import DATABASE, KEEP, RUNS, Database, Runs
from service.cli.records import annotate

db_app = typer.Typer(help="The database that keeps the record.", no_args_is_help=True)


def archive(
    name: Annotated[str | None, typer.Argument(help="The search to put into an archive.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, or - for stdout; default: <name>.zip.")] = None,
    source: Annotated[Path | None, typer.Option("--import", help="Import this archive instead; - for stdin.")] = None,
    new_name: Annotated[
        str | None, typer.Option("--name", help="With --import: name to record the search under.")
    ] = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Put a search with its latency tables and files into a zip file, or import such a file."""
    from service.commands import database as commands
    from space.errors import InvalidConfig

    if (name is None) == (source is None):
        raise InvalidConfig("name a search to archive, or an archive with --import")
    if source is not None:
        commands.import_archive(database, source, runs, new_name)
    elif name is not None:
        commands.archive(database, name, out or Path(f"{name}.zip"))


def gc(
    search: Annotated[str | None, typer.Option(help="Only in this search.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be deleted, and delete nothing.")] = False,
    database: Database = DATABASE,
) -> None:
    """Delete weights of finished searches that nobody should need: not those of the best, final and exported trials."""
    from service.commands import database as commands

    commands.gc(database, search, dry_run=dry_run)


@db_app.command("upgrade")
def db_upgrade(database: Database = DATABASE) -> None:
    """Create the schema or bring it up to date; on PostgreSQL also the read-only role of MOBILENAS_READER_PASSWORD."""
    from service.commands import database as commands

    commands.upgrade(database)


@db_app.command("check")
def db_check(database: Database = DATABASE) -> None:
    """Check the database file and the consistency of its rows; change nothing."""
    from service.commands import database as commands

    commands.check(database)


@db_app.command("copy")
def db_copy(
    source: Annotated[str, typer.Argument(help="URL of the database to read.", show_default=False)],
    target: Annotated[str, typer.Argument(help="URL of an empty database to write.", show_default=False)],
) -> None:
    """Copy the whole record into an empty database, keeping ids; SQLite and PostgreSQL in either direction."""
    from service.commands import database as commands

    commands.copy(source, target)


@db_app.command("backup")
def db_backup(
    out: Annotated[Path, typer.Option(help="SQLite file to write.", show_default=False)], database: Database = DATABASE
) -> None:
    """Copy the whole record into a new SQLite file; searches may go on running."""
    from service.commands import database as commands

    commands.backup(database, out)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (annotate, archive, gc):
        app.command(rich_help_panel=KEEP)(command)
