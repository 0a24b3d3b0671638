"""One transaction after the other, again while the database is away: a restarted server must not cost a search."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Select, select, update

from search.record.database import Database, Unavailable
from search.record.schema import searches
from space.errors import StoreError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0

_log = logging.getLogger("mobilenas.store")

T = TypeVar("T")


class ClaimLost(StoreError):
    """Another process runs the search now."""


class Transactions:
    """How everything is read and written; where the database is away, work is tried again for `retry_s` seconds.

    `tokens` are the claims of this process by search: with one of them a search is changed only while it holds.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.retry_s = 0.0
        self.tokens: dict[int, str] = {}

    def read(self, work: Callable[[Connection], T]) -> T:
        """What work finds in one state of the database.

        Raises:
            StoreError: the database cannot be opened or read.
        """

        def once() -> T:
            with self.database.read() as connection:
                return work(connection)

        return self.again(once)

    def rows(self, query: Select[Any], make: Callable[[RowMapping], T]) -> list[T]:
        """The rows of a query as values.

        Raises:
            StoreError: as `read`.
        """
        return self.read(lambda connection: [make(row) for row in connection.execute(query).mappings()])

    def write(self, work: Callable[[Connection], T]) -> T:
        """What work gives, all of its changes committed or none.

        A connection may be lost after a commit and before we heard of it. So work must change nothing when what it
        would record is there already.

        Raises:
            StoreError: the database cannot be written, or a value breaks one of its constraints.
        """

        def once() -> T:
            with self.database.write() as connection:
                return work(connection)

        return self.again(once)

    def again(self, once: Callable[[], T]) -> T:
        """Call what uses the database, again and again while it is away and patience lasts.

        Raises:
            Unavailable: it is still away.
        """
        end, wait = time.monotonic() + self.retry_s, FIRST_WAIT_S
        while True:
            try:
                return once()
            except Unavailable as error:
                if time.monotonic() + wait > end:
                    raise
                _log.warning("%s; trying again", error)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    def change(self, connection: Connection, search_id: int, **values: object) -> None:
        """Change a search, or note that something of it changed.

        Every write of a coordinator passes here in its own transaction, and locks the row: who was taken over, after it
        had been silent for too long, cannot write any more.

        Raises:
            ClaimLost: this process had claimed the search, and another one has taken it over.
            StoreError: there is no such search.
        """
        change_search(connection, search_id, self.tokens.get(search_id), updated_at=datetime.now(UTC), **values)


def change_search(connection: Connection, search_id: int, token: str | None, **values: object) -> None:
    """Change a search; with the token of a claim only while it holds.

    Raises:
        ClaimLost: it does not hold any more.
        StoreError: there is no such search.
    """
    this = update(searches).where(searches.c.id == search_id).values(**values)
    if token is not None:
        this = this.where(searches.c.claimed_by == token)
    if connection.execute(this).rowcount:
        return
    name = connection.scalar(select(searches.c.name).where(searches.c.id == search_id))
    if name is None:
        raise unknown_search(search_id)
    raise ClaimLost(f"search {name!r} was taken over by another process; see: mobilenas status {name}")


def unknown_search(search_id: int) -> StoreError:
    """What is raised where there is no such search."""
    return StoreError(f"there is no search with id {search_id}; see: mobilenas searches")
