"""What signals are worth on a data set, in the record; on both databases."""

import math
from dataclasses import replace

from search.record.rows import SignalQuality
from search.record.store import Store

LOOK = SignalQuality(
    signal="6,000 images, log-likelihood",
    images=6000,
    compared="near the limit",
    networks=24,
    trainings=2,
    tau=0.4,
    low=0.1,
    high=0.6,
    regrets={1: 0.5, 4: 0.25},
    seconds=12.5,
)
NOTHING = replace(
    LOOK, signal="random order", images=None, tau=math.nan, low=math.nan, high=math.nan, regrets={}, seconds=None
)


def test_what_was_found_out_comes_back(store: Store) -> None:
    """In its order, with what is not known; of another data set nothing is known."""
    store.signals.put("abc", "a, b", [NOTHING, LOOK])
    found = store.signals.newest("abc")
    assert found is not None
    source, (nothing, look) = found
    assert (source, look) == ("a, b", LOOK)
    assert (nothing.signal, nothing.images, nothing.regrets, nothing.seconds) == ("random order", None, {}, None)
    assert math.isnan(nothing.tau)
    assert store.signals.newest("other") is None


def test_who_looks_again_replaces_what_was_said(store: Store) -> None:
    """The same searches once more: the last word counts; other searches come first where they are newer."""
    store.signals.put("abc", "a", [LOOK, NOTHING])
    store.signals.put("abc", "a", [replace(LOOK, tau=0.5)])
    assert store.signals.newest("abc") == ("a", [replace(LOOK, tau=0.5)])
    store.signals.put("abc", "b", [LOOK])
    assert store.signals.newest("abc") == ("b", [LOOK])
    store.signals.put("abc", "a", [LOOK])
    assert store.signals.newest("abc") == ("a", [LOOK])
