"""Opening recorded searches: what they were started with."""

import random
from dataclasses import replace

from search.lifecycle.opening import as_recorded
from tests.space.test_presets import shipped
from tests.strategies import small_space


def test_a_search_of_version_0_1_goes_on_in_its_own_space() -> None:
    """Once-for-All's space had a bias and another epsilon then: tables and networks say which one it was."""
    now = shipped("ofa-mbv3")
    before = replace(now, preset=now.preset.as_in_0_1())
    assert before.scope != now.scope
    for space in (now, before):
        assert as_recorded(now, [space.scope, space.scope], []) == space
        assert as_recorded(now, [], [now.reference, space.sample(random.Random(0))]) == space
    assert as_recorded(now, [], []) == now


def test_a_space_that_has_changed_is_none_of_a_search() -> None:
    """Another scope, two scopes, or networks of another space."""
    now, other = shipped("ofa-mbv3"), small_space()
    assert as_recorded(now, [other.scope], []) is None
    assert as_recorded(now, [now.scope, other.scope], []) is None
    assert as_recorded(now, [], [other.sample(random.Random(0))]) is None
