"""A database that is away for a while loses nothing and doubles nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection

from search.record import transactions
from search.record.database import Database, Unavailable
from search.record.schema import metadata
from search.record.store import Store
from search.trial import State
from tests.postgres import PostgresServer
from tests.search.content import fill
from tests.search.makers import ask, completed, new_search, trial


class Unreliable:
    """Transactions of a database that fail by turns: before their commit, or after it and before anybody hears so."""

    def __init__(self, database: Database, failures: str) -> None:
        self._write = database.write
        self._failures = failures
        self.count = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `Database.write`."""
        failure = self._failures[self.count % len(self._failures)]
        self.count += 1
        with self._write() as connection:
            yield connection
            if failure == "b":
                raise Unavailable("lost before the commit")
        if failure == "a":
            raise Unavailable("lost after the commit")


def content(url: str) -> dict[str, list[dict[str, Any]]]:
    """What a record tells, without its moments and ids, and how many rows each table has."""
    queries = {
        "trials": "SELECT search, number, stage, state, top1, reward, attempt, reused FROM trial_summary "
        "ORDER BY search, number",
        "searches": "SELECT name, stage, owner, note, error, claims FROM searches ORDER BY name",
        "lines": "SELECT message FROM log_lines ORDER BY id",
        **{f"count {table}": f"SELECT COUNT(*) AS rows FROM {table}" for table in metadata.tables},  # noqa: S608
    }
    return {name: ask(url, query) for name, query in queries.items()}


@pytest.mark.parametrize("failures", ["a.", "b.", ".b.a"])
def test_repeated_writes_record_once(
    store: Store, database_url: str, failures: str, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer
) -> None:
    """However transactions fail, a record has the same content as one where none failed."""
    monkeypatch.setattr(transactions, "FIRST_WAIT_S", 0.0)
    expected_url = postgres.blank()
    with closing(Store.open(expected_url)) as smooth:
        fill(smooth)
    unreliable = Unreliable(store._transactions.database, failures)
    monkeypatch.setattr(store._transactions.database, "write", unreliable.write)
    store.retry_s = 600
    fill(store)
    assert unreliable.count > 100
    assert content(database_url) == content(expected_url)


def test_impatient_store_tells_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without patience the first failure is the user's; nothing is tried again."""
    search = new_search(store)
    unreliable = Unreliable(store._transactions.database, "b")
    monkeypatch.setattr(store._transactions.database, "write", unreliable.write)
    with pytest.raises(Unavailable):
        store.searches.request_finish(search.id)
    assert unreliable.count == 1


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_server_that_restarts_loses_and_doubles_nothing(
    mode: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the server is stopped and started twice, a coordinator goes on, and every trial is there exactly once."""
    monkeypatch.setattr("search.record.claims.CLAIM_EXPIRES_S", 3600.0)  # this coordinator has no heart
    url = postgres.blank()
    with closing(Store.open(url)) as store:
        store.retry_s = 600
        search = new_search(store)
        store.searches.claim(search.id)
        ended = threading.Event()
        failures: list[BaseException] = []

        def coordinate() -> None:
            number = 0
            try:
                while not ended.is_set() or number < 20:
                    running = store.trials.start(search.id, trial(number))
                    store.trials.finish(search.id, completed(running, top1=number / 1e6), reward=number / 1e6)
                    number += 1
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)

        thread = threading.Thread(target=coordinate)
        thread.start()
        for _ in range(2):
            time.sleep(0.3)
            postgres.stop(mode)
            time.sleep(0.3)
            postgres.start()
        time.sleep(0.3)
        ended.set()
        thread.join(600)
        assert failures == []
        found = store.trials.of(search.id)
        assert [each.number for each in found] == list(range(len(found)))
        assert all(each.state is State.COMPLETE and each.attempt == 1 for each in found)
        assert [each.scores.top1 for each in found] == [each.number / 1e6 for each in found]
        assert store.searches.get(search.name).is_held


def test_unreachable_server_is_unavailable_and_a_wrong_one_is_not(postgres: PostgresServer) -> None:
    """Waiting is for what may pass: a refused connection, not a database or role that does not exist."""
    nowhere = postgres.url("postgres").replace(str(postgres.port), "1")
    with pytest.raises(Unavailable, match="check that the server runs"):
        Store.open(nowhere)
    start = time.monotonic()
    for url in (postgres.url("nothing"), postgres.url("postgres", user="nobody")):
        with pytest.raises(Exception, match=r"create it first") as caught:
            Store.open(url, retry_s=600)
        assert not isinstance(caught.value, Unavailable)
    assert time.monotonic() - start < 300


def test_trial_of_another_process_is_not_taken_for_a_repeat(store: Store) -> None:
    """A number that is recorded with another trial is refused, also by a patient store."""
    store.retry_s = 600
    search = new_search(store)
    first = store.trials.start(search.id, trial(0))
    with pytest.raises(Exception, match="has a trial 0 already"):
        store.trials.start(search.id, replace(trial(0), seed=8, started_at=first.started_at))
