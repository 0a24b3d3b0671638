"""What signals are worth on a data set, in the record; on both databases."""

import math
from dataclasses import replace

from search.record.rows import LookedAt
from search.record.store import Store
from tests.search.makers import LOOK

NOTHING = replace(
    LOOK, signal="random order", images=None, tau=math.nan, low=math.nan, high=math.nan, regrets={}, seconds=None
)


HERE = LookedAt(data_hash="abc", scope="space", recipes="fed")


def test_what_was_found_out_comes_back(store: Store) -> None:
    """In its order, with what is not known; of other data, spaces and recipes nothing is known."""
    store.signals.put(HERE, "a, b", [NOTHING, LOOK])
    ((source, (nothing, look)),) = store.signals.of(HERE).items()
    assert (source, look) == ("a, b", LOOK)
    assert (nothing.signal, nothing.images, nothing.regrets, nothing.seconds) == ("random order", None, {}, None)
    assert math.isnan(nothing.tau)
    for name in ("data_hash", "scope", "recipes"):
        assert store.signals.of(replace(HERE, **{name: "other"})) == {}


def test_who_looks_again_replaces_what_was_said(store: Store) -> None:
    """The same searches once more: their last word counts, and comes first."""
    store.signals.put(HERE, "a", [LOOK, NOTHING])
    store.signals.put(HERE, "a", [replace(LOOK, tau=0.5)])
    assert store.signals.of(HERE) == {"a": [replace(LOOK, tau=0.5)]}
    store.signals.put(HERE, "b", [LOOK])
    assert list(store.signals.of(HERE)) == ["b", "a"]
    store.signals.put(HERE, "a", [LOOK])
    assert list(store.signals.of(HERE)) == ["a", "b"]
