"""Which table a search gets, where others of its machine want the same one."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

from latency.table import LatencyTable
from search.events import Listener
from search.plan import Inputs
from search.record.store import Store
from search.start import table_for
from tests.strategies import random_table, small_space


def test_who_waited_uses_the_table_that_was_just_recorded() -> None:
    """Another search measures while this one waits for its turn: nothing is measured once more."""
    recorded: list[tuple[int, LatencyTable]] = []

    @contextmanager
    def keeping() -> Iterator[None]:
        recorded.append((7, random_table(small_space(), 0)))
        yield

    tables = SimpleNamespace(known=lambda: next(iter(recorded), None), meter=SimpleNamespace(keeping=keeping))
    settings = SimpleNamespace(is_local=True, name="here")
    inputs = cast("Inputs", SimpleNamespace(settings=settings, tables=lambda _store: tables))
    assert table_for(cast("Store", None), inputs, Listener()) == recorded[0]
