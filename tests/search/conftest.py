"""A store on every kind of database, and an archive of a search."""

from collections.abc import Iterator

import pytest

from search.record.store import Store
from tests.search.archives.packing import pack


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
