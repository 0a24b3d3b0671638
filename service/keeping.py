"""Commands that keep the record: db upgrade."""

from rich.console import Console

from search.database import Database
from service.settings import load_settings

READER = "mobilenas_reader"

console = Console()


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def upgrade(url: str) -> None:
    """The command `db upgrade`: the current schema, and on PostgreSQL a role that may read and nothing else."""
    password = load_settings().reader_password
    database = Database(url)
    try:
        before = database.revision()
        database.upgrade()
        after = database.revision()
        changed = f"schema {before or 'none'} → {after}" if before != after else f"schema {after} is current"
        _say(f"{database.shown_url}: {changed}")
        if password is None:
            return
        if database.is_sqlite:
            _say(f"no role {READER}: whoever may read an SQLite file may read it")
        else:
            database.grant_reader(READER, password.get_secret_value())
            _say(f"role {READER} may read")
    finally:
        database.close()
