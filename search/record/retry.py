"""Waiting for a database that is away for a while: a restarted server must not cost a search."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from search.record.database import Unavailable

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0

_log = logging.getLogger("mobilenas.store")


class HasPatience(Protocol):
    """Knows for how long to try again, in seconds."""

    patience_s: float


S = TypeVar("S", bound=HasPatience)
P = ParamSpec("P")
T = TypeVar("T")


def patiently(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Call a method again while the database is away, for up to `patience_s`.

    A connection may be lost after a transaction was committed and before we heard of it. So the method must change
    nothing when what it would record is there already.
    """

    @wraps(method)
    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        end, wait = time.monotonic() + self.patience_s, FIRST_WAIT_S
        while True:
            try:
                return method(self, *args, **kwargs)
            except Unavailable as error:
                if time.monotonic() + wait > end:
                    raise
                _log.warning("%s; trying again", error)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    return call
