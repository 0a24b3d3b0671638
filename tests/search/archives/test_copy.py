"""Copies, backups and checks of a whole record, between databases of every kind."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from search.archives.consistency import check
from search.archives.copy import backup, copy
from search.record.database import Database
from search.record.store import Store
from space.errors import StoreError
from tests.postgres import PostgresServer
from tests.search.content import fill, rows
from tests.search.makers import ask, new_search, trial


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """A database that is closed at the end."""
    database = Database(url)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture
def filled(store: Store, database_url: str) -> str:
    """The URL of a record with content."""
    fill(store)
    return database_url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_copy_keeps_every_row(kind: str, filled: str, tmp_path: Path, postgres: PostgresServer) -> None:
    """Between all kinds of databases a copy has the same rows and ids, and can be written to at once."""
    target = postgres.blank() if kind == "postgresql" else f"sqlite:///{tmp_path / 'copy.db'}"
    with opened(filled) as source, opened(target) as made:
        counts = copy(source, made)
    assert rows(target) == rows(filled)
    assert counts == {name: len(found) for name, found in rows(filled).items()}
    assert min(counts.values()) > 0, "the content does not use every table"
    with closing(Store.open(target)) as store:
        search = new_search(store, "next")
        assert search.id == max(row["id"] for row in rows(filled)["searches"]) + 1  # type: ignore[type-var, operator]
        store.trials.start(search.id, trial(0))
        assert not store.searches.get("cifar-phone-2").is_held


def test_copy_refuses_what_it_would_mix(filled: str, tmp_path: Path) -> None:
    """A target with content, and a source without the current schema, are refused."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with closing(Store.open(other)) as store:
        new_search(store, "mine")
    before = rows(other)
    with opened(filled) as source, opened(other) as target:
        with pytest.raises(StoreError, match=r"not empty .*searches.*; name a blank one"):
            copy(source, target)
        with pytest.raises(StoreError, match="not empty"):
            copy(source, source)
    assert rows(other) == before
    blank = Database(f"sqlite:///{tmp_path / 'blank.db'}")
    with opened(f"sqlite:///{tmp_path / 'new.db'}") as target, pytest.raises(StoreError, match="mobilenas db upgrade"):
        copy(blank, target)


def test_backup_is_one_file_that_opens(filled: str, tmp_path: Path) -> None:
    """A backup is a database of its own in a single file, and none is written over."""
    out = tmp_path / "backup" / "record.db"
    out.parent.mkdir()
    with opened(filled) as database:
        backup(database, out)
        with pytest.raises(StoreError, match="exists already"):
            backup(database, out)
    assert [path.name for path in out.parent.iterdir()] == ["record.db"]
    assert rows(f"sqlite:///{out}") == rows(filled)
    with opened(f"sqlite:///{out}") as database:
        assert list(check(database)) == []


def test_check_finds_nothing_in_a_good_record(filled: str) -> None:
    """What the store wrote has no faults."""
    with opened(filled) as database:
        assert list(check(database)) == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE trials SET top1 = NULL WHERE id = 2", "trial 1 of search 'shoes-desk-1' is complete without a result"),
        ("UPDATE trials SET top1 = 1.5 WHERE id = 2", "has a top-1 outside"),
        ("UPDATE trials SET latency_ms = 0 WHERE id = 2", "has a latency that is not positive"),
        ("UPDATE trials SET state = 'running' WHERE id = 5", "is running in a search that is done"),
        ("UPDATE trials SET number = 99 WHERE id = 6", "the last one's number is 99"),
        ("UPDATE trials SET arch_id = 'x' WHERE id = 3", "architecture of trial 2 of search 'shoes-desk-1'"),
        ("UPDATE trials SET architecture = '{}' WHERE id = 3", "architecture of trial 2 of search 'shoes-desk-1'"),
        ("UPDATE trials SET reused_from = 4 WHERE id = 6", "takes its result from a trial that has none"),
        ("UPDATE latency_entries SET key = 'x' WHERE id = 1", "an entry 'x', which is no block"),
        ("UPDATE netadapt_steps SET parent = 2 WHERE id = 2", "NetAdapt step 2 of search 'shoes-desk-1' does not"),
        ("UPDATE mobilenas_alembic_version SET version_num = '0001'", "mobilenas db upgrade"),
    ],
)
def test_check_finds_each_fault(filled: str, damage: str, told: str) -> None:
    """Whatever is wrong is told with its place."""
    engine = create_engine(filled)
    with engine.begin() as connection:
        connection.execute(text(damage))
    engine.dispose()
    with opened(filled) as database:
        faults = list(check(database))
    assert any(told in fault for fault in faults), faults


def test_other_schemas_of_a_database_are_left_alone(postgres: PostgresServer) -> None:
    """Two records and somebody else's tables live in one PostgreSQL, each in its own schema."""
    url = postgres.blank()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trials (theirs TEXT)"))
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
    with pytest.raises(StoreError, match=r"did not make: trials; name another database, or add \?schema=mobilenas"):
        Store.open(url)
    for schema in ("mobilenas", "second"):
        with closing(Store.open(f"{url}?schema={schema}")) as store:
            new_search(store, f"search-of-{schema}")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM trials")).scalar() == 0
        assert connection.execute(text("SELECT name FROM second.searches")).scalars().all() == ["search-of-second"]
    engine.dispose()


@pytest.mark.parametrize("schema", ["a;b", "A", "1a", "a b", "", "x" * 64])
def test_unfit_schema_names_are_refused(schema: str) -> None:
    """A schema's name is never anything but a plain word."""
    with pytest.raises(StoreError, match="schema"):
        Database(f"postgresql://host/db?schema={schema}")


def test_sqlite_has_no_schemas_and_no_roles(tmp_path: Path) -> None:
    """What SQLite does not have is refused with a reason."""
    with pytest.raises(StoreError, match="no schemas"):
        Database(f"sqlite:///{tmp_path / 'a.db'}?schema=x")
    with opened(f"sqlite:///{tmp_path / 'a.db'}") as database, pytest.raises(StoreError, match="no roles"):
        database.grant_reader("reader", "secret")


def test_reader_may_read_and_nothing_else(postgres: PostgresServer) -> None:
    """The role reads tables, views and what a later migration adds, writes nothing, and can get a new password."""
    url = postgres.blank()
    with closing(Store.open(url)) as store:
        new_search(store, "one")
    name = f"reader_{url[-6:]}"
    with opened(url) as database:
        database.grant_reader(name, "fir'st")
        database.grant_reader(name, "second")
    reader = url.replace("tester@", f"{name}:second@")
    assert ask(reader, "SELECT name FROM searches") == [{"name": "one"}]
    assert ask(reader, "SELECT count(*) AS n FROM trial_summary") == [{"n": 0}]
    with closing(Store.open(reader)) as store:
        assert [search.name for search in store.searches.all()] == ["one"]
        changes: list[Callable[[], object]] = [
            lambda: store.searches.request_stop(1),
            lambda: new_search(store, "two"),
        ]
        for change in changes:
            with pytest.raises(StoreError, match="cannot be used"):
                change()
    engine = create_engine(reader)
    with engine.connect() as connection, pytest.raises(Exception, match=r"permission denied|read-only"):
        connection.execute(text("CREATE TABLE mine (id INTEGER)"))
    engine.dispose()
