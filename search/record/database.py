"""One database: how it is opened, brought to the current schema, read and written, and how its errors are told."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.dialects import postgresql as pg_dialect
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from search.record.schema import REVISIONS, VERSION_TABLE, metadata
from space.errors import StoreError
from space.paths import expanded, needs_home, recordable

MIGRATIONS = Path(__file__).parent / "migrations"

_SQLITE_MAGIC = b"SQLite format 3\0"

BUSY_TIMEOUT_S = 30
UPGRADE_TIMEOUT_S = 120
CONNECT_TIMEOUT_S = 10
_UPGRADE_LOCK = 0x6D6F62696C656E  # "mobilen": the number of our advisory lock in PostgreSQL

# Classes and codes of https://www.postgresql.org/docs/current/errcodes-appendix.html that a later attempt may not
# meet: lost connections, a server that stops, starts or is full, and a transaction that had to give way.
_PASSING = ("08", "57P01", "57P02", "57P03", "53300", "40001", "40P01")

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
    "permission denied": "connect as the role that owns the record; others may only read it",
    "password": "check the password in the URL or in PGPASSWORD",
    "does not exist": "create it first (createdb), or correct the URL",
    "refused": "check that the server runs and that the URL's host and port are its own",
}

# A refused connection has no code; these reasons for it do not go away by themselves.
_LASTING = ("password", "does not exist", "pg_hba.conf", "too long")


class Unavailable(StoreError):
    """The database cannot be reached at the moment, or asks to try again."""


class Database:
    """An engine for SQLite or PostgreSQL; safe to use from several threads, each transaction has its own connection."""

    def __init__(self, url: str) -> None:
        self._url, self._schema = _parse(url)
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.shown_url = self._url.render_as_string(hide_password=True)
        if self.is_sqlite:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"the database {self.shown_url} cannot be created: {error}") from error
        self._engine = _create_engine(self._url, self._schema)
        # In PostgreSQL each statement would see its own state otherwise.
        self._reader = self._engine if self.is_sqlite else self._engine.execution_options(**_PG_READ)

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
        with self._translated(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, or rolled back on any error.

        Raises:
            StoreError: the database cannot be written, or a value breaks one of its constraints.
        """
        # SQLite cannot always turn a reader into a writer, so a writer says at the start that it is one.
        immediate = self._engine.execution_options(sqlite_begin=("BEGIN IMMEDIATE",))
        with self._translated(), immediate.begin() as connection:
            yield connection

    def now(self, connection: Connection) -> datetime:
        """The moment by the one clock that all clients of the database share."""
        if self.is_sqlite:
            return datetime.now(UTC)
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def revision(self) -> str | None:
        """The schema's revision, None where the database is blank.

        Raises:
            StoreError: see `upgrade`.
        """
        if self.is_sqlite and self._is_blank_file():
            return None
        with self.read() as connection:
            return self._revision(connection)

    def upgrade(self) -> None:
        """Bring the database to the current schema; one process at a time does it, the others wait.

        Raises:
            StoreError: the file is no database, was written by a newer mobilenas, or holds tables of others.
        """
        # A blank file is not opened yet: a reader would disturb the one who is just creating the schema.
        if self.revision() == REVISIONS[-1]:
            return
        with self._exclusively():
            if self.is_sqlite:
                self._upgrade_sqlite()
            else:
                self._upgrade_postgresql()

    def _upgrade_sqlite(self) -> None:
        self._use_wal()
        # SQLite changes a table by making it anew, which the foreign keys of others must not notice; the switch
        # works outside a transaction alone, and the pool must not hand out a connection where it is off.
        engine = self._engine.execution_options(sqlite_begin=("PRAGMA foreign_keys = OFF", "BEGIN IMMEDIATE"))
        with self._translated(), engine.begin() as connection:
            if self._revision(connection) != REVISIONS[-1]:
                _migrate(connection)
                if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise StoreError(
                        f"the database {self.shown_url} cannot be upgraded: table {broken[0]} holds a row that refers "
                        "to a missing one; restore it from a backup"
                    )
        self._engine.dispose()

    def _upgrade_postgresql(self) -> None:
        with self.write() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            if self._revision(connection) != REVISIONS[-1]:
                if self._schema is not None:
                    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {self._schema}"))
                _migrate(connection)

    def grant_reader(self, role: str, password: str) -> None:
        """Let a role of PostgreSQL log in and read the record, and nothing else; it is made where there is none.

        Raises:
            StoreError: it is an SQLite database, or this user may not make roles.
        """
        if self.is_sqlite:
            raise StoreError(f"the database {self.shown_url} has no roles: whoever may read the file may read it")
        from psycopg import sql

        with self.write() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            driver: Any = connection.connection.driver_connection
            # The server hears the hash alone, so that the password is in no log of statements.
            secret = driver.pgconn.encrypt_password(password.encode(), role.encode()).decode()
            known = connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role})
            names = {
                "verb": sql.SQL("ALTER" if known else "CREATE"),
                "role": sql.Identifier(role),
                "secret": sql.Literal(secret),
                "database": sql.Identifier(str(connection.scalar(select(func.current_database())))),
                "schema": sql.Identifier(str(connection.scalar(select(func.current_schema())))),
            }
            for statement in (
                "{verb} ROLE {role} LOGIN PASSWORD {secret}",
                "ALTER ROLE {role} SET default_transaction_read_only = on",
                "GRANT CONNECT ON DATABASE {database} TO {role}",
                "GRANT USAGE ON SCHEMA {schema} TO {role}",
                "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
                "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
            ):
                connection.exec_driver_sql(sql.SQL(statement).format(**names).as_string(driver))

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
            remedy = "name another database" if self.is_sqlite else "name another database, or add ?schema=mobilenas"
            raise StoreError(
                f"the database {self.shown_url} holds tables that mobilenas did not make: {', '.join(foreign)}; "
                f"{remedy}"
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
        outside = self._engine.execution_options(sqlite_begin=())
        with self._translated(), outside.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    def merge_log(self) -> None:
        """Put everything into the one file of an SQLite database, so that it can be moved."""
        outside = self._engine.execution_options(sqlite_begin=())
        with self._translated(), outside.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = DELETE")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            cause = _cause(error)
            if isinstance(error, IntegrityError):
                raise StoreError(f"the database {self.shown_url} refused a row: {cause}") from error
            remedy = next((f"; {remedy}" for part, remedy in _REMEDIES.items() if part in cause), "")
            kind = Unavailable if _is_passing(error) else StoreError
            raise kind(f"the database {self.shown_url} cannot be used: {cause}{remedy}") from error


def _cause(error: DBAPIError | PoolTimeout) -> str:
    """What the driver says, in one line; psycopg puts the reason into the last of several."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()


def _is_passing(error: DBAPIError | PoolTimeout) -> bool:
    """Whether a later attempt may succeed; without a code there was no connection to get one over."""
    if isinstance(error, PoolTimeout):
        return True
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return str(code).startswith(_PASSING)
    if any(part in str(error.orig) for part in _LASTING):
        return False
    return error.connection_invalidated or type(error.orig).__module__.startswith("psycopg")


_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def insert_new(connection: Connection, table: Table, *unique: str) -> pg_dialect.Insert | sqlite_dialect.Insert:
    """An INSERT that leaves out rows whose `unique` columns are there already: of two clients at once, one inserts."""
    insert = pg_dialect.insert if connection.dialect.name == "postgresql" else sqlite_dialect.insert
    return insert(table).on_conflict_do_nothing(index_elements=unique)


def _parse(url: str) -> tuple[URL, str | None]:
    """The URL for SQLAlchemy, and the schema to work in if one is named."""
    example = "sqlite:///runs/mobilenas.db or postgresql://user@host/name"
    try:
        parsed = make_url(url)
        backend = parsed.drivername.partition("+")[0]
    except (ArgumentError, ValueError) as error:  # ValueError: the port is no number
        # The text itself may hold a password, so it is not repeated.
        raise StoreError(f"the database URL cannot be read; it looks like {example}") from error
    if parsed.drivername in ("postgresql", "postgres"):  # libpq knows both
        parsed, backend = parsed.set(drivername="postgresql+psycopg"), "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise StoreError(f"the database URL names {backend!r}; mobilenas keeps its record in {example}")
    if backend == "sqlite" and (parsed.database or ":memory:").startswith((":memory:", "file:")):
        raise StoreError(f"the database URL {url!r} names no file, so nothing would be kept; it looks like {example}")
    if backend == "sqlite" and parsed.database is not None:
        if needs_home(parsed.database):
            raise StoreError(
                f"the database {url} lies in the home folder, and HOME is not set; set MOBILENAS_DATABASE_URL, or "
                "give --database"
            )
        parsed = parsed.set(database=str(recordable(expanded(parsed.database), "database")))
    schema = parsed.query.get("schema")
    if re.search(r"[?&]schema=(&|$)", url):
        schema = ""  # SQLAlchemy leaves empty ones out, and the record would be in another place than was meant
    if schema is None:
        return parsed, None
    if backend == "sqlite":
        raise StoreError("an SQLite file has no schemas; leave ?schema= out of the database URL")
    if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
        raise StoreError(f"schema {schema!r} in the database URL must match {_SCHEMA.pattern}, such as mobilenas")
    return parsed.difference_update_query(["schema"]), schema


_PG_READ = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _create_engine(url: URL, schema: str | None) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = {"timeout": BUSY_TIMEOUT_S}
    if not is_sqlite:
        arguments = {"application_name": "mobilenas", "connect_timeout": CONNECT_TIMEOUT_S}
        # A peer that is cut off is noticed, instead of being waited for.
        arguments |= {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30000}
        if schema is not None:
            arguments["options"] = " ".join([str(url.query.get("options", "")), f"-csearch_path={schema}"]).strip()
    try:
        engine = create_engine(url, connect_args=arguments, pool_pre_ping=not is_sqlite)
    except ModuleNotFoundError as error:
        package = "'mobilenas[postgres]'" if error.name == "psycopg" else error.name
        raise StoreError(f"{url.drivername!r} needs a package; run: pip install {package}") from error
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
    begin: tuple[str, ...] = connection.get_execution_options().get("sqlite_begin", ("BEGIN",))
    for statement in begin:
        connection.exec_driver_sql(statement)


def _migrate(connection: Connection) -> None:
    # Importing Alembic costs more than opening a current database, which does not need it.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with _alembic_lock:
        command.upgrade(config, "head")
