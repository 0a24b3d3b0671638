"""Searches: one contract for every database."""

from datetime import UTC

import pytest

from search.record.store import Store
from search.trial import SearchStage
from space.errors import StoreError
from tests.search.makers import CONFIG, completed, new_search, new_start, record_table, trial


def test_search_round_trip(store: Store) -> None:
    """A search comes back by name and in the list, with all that was said of it."""
    table_id = record_table(store)
    start = new_start(store, table_id=table_id)
    config = {**CONFIG, "a": [1, None, {"b": 0.1}], "ü": "→"}
    created = new_search(
        store, "first", config=config, start=start, owner="ada", labels=["zoo", "alpha"], note="two\nlines", budget="4h"
    )
    assert created.config == config
    assert (created.stage, created.start) == (SearchStage.BLOCKS, start)
    assert (created.owner, created.labels, created.note, created.budget) == (
        "ada",
        ("alpha", "zoo"),
        "two\nlines",
        "4h",
    )
    assert (created.finish_requested, created.stop_requested, created.error) == (False, False, None)
    assert created.state == "stopped"
    assert created.created_at.tzinfo is UTC
    assert store.searches.get("first") == created
    second = new_search(store, "second")
    assert store.searches.all() == [created, second]


def test_taken_name_is_refused(store: Store) -> None:
    """Two searches cannot share a name."""
    first = new_search(store, "first")
    with pytest.raises(StoreError, match="'first' exists already"):
        new_search(store, "first", data_hash="other")
    assert store.searches.all() == [first]


def test_unknown_search_names_the_nearest(store: Store) -> None:
    """A mistyped name is answered with the nearest ones."""
    with pytest.raises(StoreError, match="none yet"):
        store.searches.get("cifra")
    for name in ("cifar", "flowers", "cifar-2", "pets"):
        new_search(store, name)
    with pytest.raises(StoreError, match=r"'cifra'; the nearest names are 'cifar', 'cifar-2', '\w+'; see: mobilenas"):
        store.searches.get("cifra")


def test_stages_and_errors(store: Store) -> None:
    """A stage can end in an error, resuming clears it, and only the last stage sets the end."""
    search = new_search(store)
    store.searches.set_stage(search.id, SearchStage.NETADAPT, error="disk full")
    stopped = store.searches.get(search.name)
    assert (stopped.stage, stopped.error, stopped.finished_at) == (SearchStage.NETADAPT, "disk full", None)
    assert stopped.updated_at >= search.updated_at
    store.searches.set_stage(search.id, SearchStage.DONE)
    done = store.searches.get(search.name)
    assert (done.stage, done.error) == (SearchStage.DONE, None)
    assert done.finished_at
    assert done.finished_at >= done.created_at


def test_finish_request(store: Store) -> None:
    """A request for an early end is seen by the coordinator, of this search only."""
    search, other = new_search(store), new_search(store)
    assert not store.searches.finish_requested(search.id)
    store.searches.request_finish(search.id)
    assert store.searches.finish_requested(search.id)
    assert not store.searches.finish_requested(other.id)


def test_unknown_search_id_is_refused(store: Store) -> None:
    """Nothing is recorded for a search that does not exist."""
    for use in (
        lambda: store.searches.set_stage(9, SearchStage.DONE),
        lambda: store.searches.request_finish(9),
        lambda: store.searches.finish_requested(9),
        lambda: store.trials.start(9, trial()),
        lambda: store.trials.finish(9, completed(trial())),
        lambda: store.trials.add_export(9, 0, folder="out", files={}),
    ):
        with pytest.raises(StoreError):
            use()
