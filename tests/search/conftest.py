"""Blank databases of every kind that the record supports, and an archive of a search."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from search.record.store import Store
from tests.postgres import PostgresServer
from tests.search.archives.packing import pack


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a blank database, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'record.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.blank()
    yield url
    server.drop(url)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store on a blank database."""
    opened = Store.open(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive of a done search."""
    return pack(tmp_path_factory.mktemp("packed"))
