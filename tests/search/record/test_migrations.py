"""Opening databases: blank, current, newer, foreign, broken, and many at once."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    Text,
    column,
    create_engine,
    insert,
    inspect,
    select,
    table,
    text,
    update,
)

from search.archives.consistency import check
from search.record.database import MIGRATIONS, Database
from search.record.schema import REVISIONS, VERSION_TABLE, UtcDateTime, metadata
from search.record.store import Store
from search.record.views import VIEWS
from space.errors import StoreError
from tests.postgres import PostgresServer
from tests.search.content import fill, rows
from tests.search.makers import CONFIG, DEVICE, architecture


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A plain connection beside the store, committed at the end."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def url_of(path: Path) -> str:
    """The URL of an SQLite file."""
    return f"sqlite:///{path}"


def open_and_close(url: str) -> None:
    """Open a store, read from it, close it."""
    with closing(Store.open(url)) as store:
        assert store.searches.all() == []


@pytest.mark.usefixtures("store")
def test_migrations_build_the_declared_schema(database_url: str) -> None:
    """All migrations on a blank database give exactly the tables of `search.record.schema`."""
    with connected(database_url) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.usefixtures("store")
def test_views_have_the_declared_columns(database_url: str) -> None:
    """Exactly the declared views exist, each with its columns in their order."""
    with connected(database_url) as connection:
        inspector = inspect(connection)
        found = {
            name: [column["name"] for column in inspector.get_columns(name)] for name in inspector.get_view_names()
        }
        assert found == {name: [column[0] for column in view.columns] for name, view in VIEWS.items()}


def test_views_have_the_declared_types(postgres: PostgresServer) -> None:
    """PostgreSQL gives every column of a view as the type that is documented; none is JSON or numeric."""
    url = postgres.blank()
    open_and_close(url)
    kinds = {Integer: "integer", BigInteger: "bigint", Double: "double precision", Text: "text"}
    kinds[UtcDateTime] = "timestamp with time zone"
    with connected(url) as connection:
        for name, view in VIEWS.items():
            query = text("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = :name")
            types = {row.column_name: row.data_type for row in connection.execute(query, {"name": name})}
            assert types == {column: kinds[kind] for column, kind, _ in view.columns}, name


def test_revisions_are_those_of_the_folder() -> None:
    """`REVISIONS` lists every migration, from the first to the head."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == REVISIONS


@pytest.mark.usefixtures("store")
def test_opening_a_current_database_needs_no_alembic(database_url: str) -> None:
    """A second opening in a fresh process does not import Alembic."""
    code = (
        "import sys; from search.record.store import Store; Store.open(sys.argv[1]).close(); "
        "print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, database_url], capture_output=True, text=True, check=True, timeout=1200
    )
    assert done.stdout.strip() == "False"


def old_database(url: str) -> dict[str, list[dict[str, object]]]:
    """A database of the first schema with some rows, as its own release wrote them; returns them by table."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    spec = architecture().to_json()
    device = {**asdict(DEVICE), "id": 3, "fingerprint": DEVICE.fingerprint}
    made = {"conditions": {"load": 1}, "protocol": "", "scope": "s", "created_at": moment, "finished_at": moment}
    search = {
        "id": 7,
        "name": "old",
        "config": CONFIG,
        "stage": "netadapt",
        "finish_requested": True,
        "error": "disk full",
        "run_folder": "/runs/old",
        "data_hash": "abc",
        "device_id": 3,
        "table_id": 5,
        "target_ms": 1.0,
        "seed_target_ms": 1.25,
        "fastest_ms": 0.5,
        "slowest_ms": 2.0,
        "reference_ms": 1.5,
        "created_at": moment,
        "updated_at": moment,
    }
    trial = {
        "search_id": 7,
        "stage": "blocks",
        "state": "complete",
        "origin": "tpe",
        "arch_id": architecture().arch_id,
        "architecture": spec,
        "top1": 0.5,
        "latency_ms": 1.1,
        "madds": 10**10,
        "params_count": 5,
        "seed": 0,
        "attempt": 1,
        "images_seen": 9,
        "started_at": moment,
        "finished_at": moment,
        "duration_s": 3600.0,
    }
    step = {
        "id": 1,
        "search_id": 7,
        "iteration": 1,
        "trial": 1,
        "parent": 0,
        "narrowed": "x",
        "proposals": 2,
        "latency_before_ms": 1.2,
        "latency_after_ms": 1.1,
        "top1_before": 0.5,
        "top1_after": 0.4,
    }
    rows: dict[str, list[dict[str, object]]] = {
        "devices": [device],
        "latency_tables": [{"id": 5, "device_id": 3, **made}],
        "searches": [search],
        "trials": [{"id": 11, "number": 0, **trial}, {"id": 12, "number": 1, "parent": 0, "reused_from": 11, **trial}],
        "netadapt_steps": [step],
        "exports": [{"id": 2, "search_id": 7, "trial_id": 12, "folder": "/x", "files": {}, "created_at": moment}],
    }
    with connected(url) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for name, written in rows.items():
            for row in written:
                connection.execute(insert(metadata.tables[name]).values(row))
    return rows


def test_first_schema_is_upgraded_with_its_content(database_url: str) -> None:
    """Every row of a record of the first schema is there after the upgrade, and everything refers to what it did."""
    rows = old_database(database_url)
    with closing(Store.open(database_url)) as store:
        search = store.searches.get("old")
        assert (search.stage.value, search.error, search.finish_requested) == ("netadapt", "disk full", True)
        assert (search.state, search.owner, search.labels, search.queued_at) == ("failed", None, (), None)
        assert search.require_start().table_id == 5
        assert [trial.id for trial in store.trials.of(search.id)] == [11, 12]
        assert [row["data"] for row in store.trials.summary_rows("old")] == ["fashion-mnist"] * 2
        store.searches.claim(search.id)
    with connected(database_url) as connection:
        for name, written in rows.items():
            found = connection.execute(select(metadata.tables[name]).order_by(metadata.tables[name].c.id)).mappings()
            for row, expected in zip(found, written, strict=True):
                changing = {"updated_at", "error"}
                assert {key: row[key] for key in expected if key not in changing} == {
                    key: value for key, value in expected.items() if key not in changing
                }
    database = Database(database_url)
    try:
        assert list(check(database)) == []
        with pytest.raises(StoreError, match="refused a row"), database.write() as connection:
            connection.execute(text("DELETE FROM searches"))
    finally:
        database.close()


def test_opening_twice_keeps_what_was_recorded(store: Store, database_url: str) -> None:
    """Upgrading a current database changes nothing: every row of every table is as it was."""
    fill(store)
    before = rows(database_url)
    store.upgrade()
    Store.open(database_url).close()
    assert rows(database_url) == before
    assert before["trials"]


def test_many_threads_open_a_blank_database_at_once(database_url: str) -> None:
    """Eight threads that open a blank database together all find the current schema."""
    barrier = Barrier(8)

    def open_together() -> None:
        barrier.wait()
        open_and_close(database_url)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(open_together) for _ in range(8)]:
            future.result(timeout=1200)


def test_several_processes_open_a_blank_database_at_once(database_url: str) -> None:
    """Eight processes that open a blank database together all succeed."""
    code = "import sys; from search.record.store import Store; sys.stdin.read(); Store.open(sys.argv[1]).close()"
    command = [sys.executable, "-W", "error", "-c", code, database_url]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(8)]
    for child in children:
        assert child.stdin
        child.stdin.close()
        child.stdin = None
    outcomes = [(child.communicate(timeout=1200)[1], child.returncode) for child in children]
    assert outcomes == [(b"", 0)] * 8


def test_newer_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    """A schema that this version does not know is refused with the remedy, and not a byte of the file changes."""
    path = tmp_path / "record.db"
    open_and_close(url_of(path))
    with connected(url_of(path)) as connection:
        connection.execute(update(table(VERSION_TABLE, column("version_num"))).values(version_num="9999"))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer mobilenas \(schema 9999\); upgrade mobilenas"):
        Store.open(url_of(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"x", b"not a database, but notes\n" * 200], ids=["tiny", "long"])
def test_text_file_is_refused_and_unchanged(tmp_path: Path, content: bytes) -> None:
    """A text file in the database's place is refused in one line, and stays as it is."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a database") as caught:
        Store.open(url_of(path))
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_foreign_tables_are_refused_and_unchanged(tmp_path: Path) -> None:
    """A database whose `trials` are somebody else's is refused and stays as it is."""
    path = tmp_path / "study.db"
    with connected(url_of(path)) as connection:
        connection.execute(text("CREATE TABLE trials (trial_id INTEGER)"))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="did not make: trials; name another"):
        Store.open(url_of(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("trials",)]
    assert path.read_bytes() == before


def test_foreign_alembic_version_is_left_alone(database_url: str) -> None:
    """Another tool's `alembic_version` in the same database keeps its revision."""
    with connected(database_url) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('v3.0.0.d')"))
    open_and_close(database_url)
    with connected(database_url) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["v3.0.0.d"]
        assert connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE))) == REVISIONS[-1]


def test_failed_migration_leaves_nothing_behind(database_url: str) -> None:
    """When the last statement of a migration fails, its first tables are gone too."""
    with connected(database_url) as connection:
        connection.execute(text("CREATE VIEW best_trial AS SELECT 1 AS one"))
    with pytest.raises(StoreError, match="best_trial"):
        Store.open(database_url)
    with connected(database_url) as connection:
        assert inspect(connection).get_table_names() == []


def test_broken_database_is_one_line(tmp_path: Path) -> None:
    """Damage in the middle of the file is told as such."""
    path = tmp_path / "record.db"
    open_and_close(url_of(path))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="restore it from a backup") as caught:
        open_and_close(url_of(path))
    assert "\n" not in str(caught.value)


def test_parent_folder_is_created(tmp_path: Path) -> None:
    """The folder of an SQLite file need not exist."""
    open_and_close(url_of(tmp_path / "runs" / "first" / "record.db"))
    assert (tmp_path / "runs" / "first" / "record.db").is_file()


def test_impossible_places_are_refused(tmp_path: Path) -> None:
    """A folder in the file's place, and a file in the folder's place, are told in one line."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "record.db"):
        with pytest.raises(StoreError, match="cannot be") as caught:
            Store.open(url_of(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "record.db",
        "mysql://user:secret@host/name",
        "postgresql+nothing://user:secret@host/name",
        "postgresql+psycopg://user:secret@127.0.0.1:1/name",
        "postgresql://user:secret@host:port/name",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:record.db?uri=true",
    ],
)
def test_unusable_urls_are_refused_without_their_password(url: str) -> None:
    """A URL that names no usable database is refused in one line, which never holds the password."""
    with pytest.raises(StoreError) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_locked_database_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits longer than the busy timeout is told to try again."""
    url = url_of(tmp_path / "record.db")
    open_and_close(url)
    monkeypatch.setattr("search.record.database.BUSY_TIMEOUT_S", 0.01)
    with closing(Store.open(url)) as store, closing(sqlite3.connect(tmp_path / "record.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="try again"):
            store.searches.request_finish(1)
        assert store.searches.all() == []
