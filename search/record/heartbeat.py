"""The sign of life of whoever runs a search, and what the record says back."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from search.record.claims import HEARTBEAT_S
from search.record.database import Unavailable
from search.record.store import Store
from search.record.transactions import ClaimLost
from space.errors import StoreError

_log = logging.getLogger("mobilenas.heartbeat")


class Heartbeat:
    """Renews the claim of a search in a thread of its own, and releases it at the end of the context.

    `stop_requested` turns true when somebody asks the search to stop. `beaten` hears of every renewal; `ends` tells
    whether the process is being stopped.
    """

    def __init__(
        self,
        store: Store,
        search_id: int,
        beaten: Callable[[], None] = lambda: None,
        ends: Callable[[], bool] = lambda: False,
    ) -> None:
        self.stop_requested = False
        self._ends = ends
        self._store = store
        self._search_id = search_id
        self._beaten = beaten
        self._lost: ClaimLost | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{search_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        try:
            self._thread.join()
        finally:
            self._store.searches.release(self._search_id)

    @property
    def lost(self) -> bool:
        """Whether another process runs the search now."""
        return self._lost is not None

    def check(self) -> None:
        """Find out whether the search is still ours, and shall go on.

        Raises:
            ClaimLost: another process runs it now.
            KeyboardInterrupt: the process is being stopped; where the signal's own interrupt got lost, as it does in a
                finalizer, this one does not.
        """
        if self._ends():
            raise KeyboardInterrupt
        if self._lost is not None:
            raise self._lost

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            try:
                self.stop_requested = self._store.searches.heartbeat(self._search_id)
                self._beaten()
            except Unavailable as error:
                _log.warning("%s", error)
            except ClaimLost as error:
                self._lost = error
                return
            except StoreError:
                _log.exception("the claim of search %d cannot be renewed", self._search_id)


def hold(store: Store, search_id: int, ends: Callable[[], bool]) -> Heartbeat:
    """Claim a search, and give the context that keeps the claim.

    Raises:
        Held: a living process runs it.
    """
    store.searches.claim(search_id)
    return Heartbeat(store, search_id, ends=ends)
