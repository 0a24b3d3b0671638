"""The record of all searches in SQL. The coordinator of a search is its only writer; anyone may read meanwhile."""

from typing import Self

from search.record.database import Database
from search.record.devices import Devices
from search.record.searches import Searches
from search.record.signals import Signals
from search.record.tables import Tables
from search.record.transactions import Transactions
from search.record.trials import Trials


class Store:
    """All that mobilenas remembers; every method of its parts is one transaction and may raise StoreError.

    Threads may share a store; processes open one each. Where the database is away, everything is tried again for
    `retry_s` seconds.
    """

    def __init__(self, url: str, retry_s: float = 0.0) -> None:
        self._transactions = Transactions(Database(url))
        self.retry_s = retry_s
        self.searches = Searches(self._transactions)
        self.trials = Trials(self._transactions)
        self.tables = Tables(self._transactions)
        self.devices = Devices(self._transactions)
        self.signals = Signals(self._transactions)

    @classmethod
    def open(cls, url: str, retry_s: float = 0.0) -> Self:
        """A store on a database of the current schema, which is waited for if it is away.

        Raises:
            StoreError: the database cannot be opened, is none, or was written by a newer mobilenas.
        """
        store = cls(url, retry_s)
        try:
            store.upgrade()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def retry_s(self) -> float:
        """How long everything is tried again while the database is away."""
        return self._transactions.retry_s

    @retry_s.setter
    def retry_s(self, seconds: float) -> None:
        self._transactions.retry_s = seconds

    @property
    def shown_url(self) -> str:
        """The database's URL with its password hidden."""
        return self._transactions.database.shown_url

    def upgrade(self) -> None:
        """Bring the database to the current schema.

        Raises:
            StoreError: the database cannot be opened, is none, or was written by a newer mobilenas.
        """
        self._transactions.again(self._transactions.database.upgrade)

    def close(self) -> None:
        """Close all connections."""
        self._transactions.database.close()
