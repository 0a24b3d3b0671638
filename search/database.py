"""One database: how it is opened, brought to the current schema, read and written, and how its errors are told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from search.schema import REVISIONS, VERSION_TABLE, metadata
from space.errors import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"

_SQLITE_MAGIC = b"SQLite format 3\0"

BUSY_TIMEOUT_S = 30
UPGRADE_TIMEOUT_S = 120
_UPGRADE_LOCK = 0x6D6F62696C656E  # "mobilen": the number of our advisory lock in PostgreSQL

# Alembic's `context` is global to the process.
_alembic_lock = threading.Lock()

# What a driver's message means to the user, by a part of it.
_REMEDIES = {
    "not a database": "name another file",
    "malformed": "restore it from a backup",
    "database is locked": "another process is writing to it; try again when it has finished",
    "disk is full": "free some space and resume",
    "unable to open": "check that its folder exists and may be written to",
    "readonly": "check the permissions of the file and its folder",
}


class Database:
    """An engine for SQLite or PostgreSQL; safe to use from several threads, each transaction has its own connection."""

    def __init__(self, url: str) -> None:
        self._url = _parse(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.shown_url = self._url.render_as_string(hide_password=True)
        if self.is_sqlite:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"the database {self.shown_url} cannot be created: {error}") from error
        self._engine = _create_engine(self._url)

    @property
    def _path(self) -> Path:
        assert self._url.database
        return Path(self._url.database)

    def close(self) -> None:
        """Close all connections; a later use opens new ones."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and does not block the writer.

        Raises:
            StoreError: the database cannot be opened or read.
        """
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or rolled back on any error.

        Raises:
            StoreError: the database cannot be written, or a value breaks one of its constraints.
        """
        # SQLite cannot always turn a reader into a writer, so a writer says at the start that it is one.
        immediate = self._engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with self._translated(), immediate.begin() as connection:
            yield connection

    def upgrade(self) -> None:
        """Bring the database to the current schema; one process at a time does it, the others wait.

        Raises:
            StoreError: the file is no database, was written by a newer mobilenas, or holds tables of others.
        """
        if self._is_current():
            return
        with self._exclusively():
            if self.is_sqlite:
                self._use_wal()
            with self.write() as connection:
                if not self.is_sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                if self._revision(connection) != REVISIONS[-1]:
                    _migrate(connection)

    def _is_current(self) -> bool:
        # A blank file is not opened yet: a reader would disturb the one who is just creating the schema.
        if self.is_sqlite and self._is_blank_file():
            return False
        with self.read() as connection:
            return self._revision(connection) == REVISIONS[-1]

    def _is_blank_file(self) -> bool:
        # SQLite itself would take a file of a few bytes for a blank database, and write over it.
        try:
            with self._path.open("rb") as file:
                start = file.read(len(_SQLITE_MAGIC))
        except FileNotFoundError:
            return True
        except OSError as error:
            raise StoreError(f"the database {self.shown_url} cannot be opened: {error}") from error
        if start not in (b"", _SQLITE_MAGIC):
            raise StoreError(f"the database {self.shown_url} cannot be opened: it is not a database; name another file")
        return not start

    def _revision(self, connection: Connection) -> str | None:
        """The revision of the database, None where it is blank."""
        inspector = inspect(connection)
        if inspector.has_table(VERSION_TABLE):
            revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - ours
            if revision not in REVISIONS:
                raise StoreError(
                    f"the database {self.shown_url} was written by a newer mobilenas (schema {revision}); "
                    "upgrade mobilenas, or name another database"
                )
            return revision
        if foreign := sorted(set(inspector.get_table_names()) & set(metadata.tables)):
            raise StoreError(
                f"the database {self.shown_url} holds tables that mobilenas did not make: {', '.join(foreign)}; "
                "name another database"
            )
        return None

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        # PostgreSQL has a lock of its own, taken inside the transaction.
        lock = FileLock(f"{self._path}.lock", timeout=UPGRADE_TIMEOUT_S) if self.is_sqlite else nullcontext()
        try:
            lock.__enter__()
        except OSError as error:  # also filelock's Timeout
            raise StoreError(f"the database {self.shown_url} cannot be locked: {error}") from error
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def _use_wal(self) -> None:
        # Readers and the writer do not block each other then. The mode stays with the file; it cannot be changed
        # inside a transaction.
        outside = self._engine.execution_options(sqlite_begin=None)
        with self._translated(), outside.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            cause = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            if isinstance(error, IntegrityError):
                raise StoreError(f"the database {self.shown_url} refused a row: {cause}") from error
            remedy = next((f"; {remedy}" for part, remedy in _REMEDIES.items() if part in cause), "")
            raise StoreError(f"the database {self.shown_url} cannot be used: {cause}{remedy}") from error


def _parse(url: str) -> URL:
    example = "sqlite:///runs/mobilenas.db or postgresql://user@host/name"
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError) as error:  # ValueError: the port is no number
        # The text itself may hold a password, so it is not repeated.
        raise StoreError(f"the database URL cannot be read; it looks like {example}") from error
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(f"the database URL names {backend!r}; mobilenas keeps its record in {example}")
    if backend == "sqlite" and (parsed.database or ":memory:").startswith((":memory:", "file:")):
        raise StoreError(f"the database URL {url!r} names no file, so nothing would be kept; it looks like {example}")
    return parsed


def _create_engine(url: URL) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        engine = create_engine(
            url, connect_args={"timeout": BUSY_TIMEOUT_S} if is_sqlite else {}, pool_pre_ping=not is_sqlite
        )
    except ModuleNotFoundError as error:
        raise StoreError(f"{url.drivername!r} needs a package; run: pip install {error.name}") from error
    except ArgumentError as error:
        raise StoreError(f"{url.drivername!r} names no driver that SQLAlchemy knows: {error}") from error
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # Python's driver would begin transactions by its own rules, and never around DDL; `_begin_sqlite` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    if begin := connection.get_execution_options().get("sqlite_begin", "BEGIN"):
        connection.exec_driver_sql(begin)


def _migrate(connection: Connection) -> None:
    # Importing Alembic costs more than opening a current database, which does not need it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _alembic_lock:
        command.upgrade(config, "head")
