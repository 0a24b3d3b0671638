"""Opening recorded searches: what they were started with."""

import random
from dataclasses import replace

import pytest

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


def test_a_table_of_another_space_is_none_of_a_search() -> None:
    """Another scope, or two different ones."""
    now, other = shipped("ofa-mbv3"), small_space()
    assert as_recorded(now, [other.scope], []) is None
    assert as_recorded(now, [now.scope, other.scope], []) is None


@pytest.mark.parametrize("name", ["ofa-mbv3", "mobilenet-v3-small"])
def test_networks_that_are_no_members_say_nothing(name: str) -> None:
    """Without tables: a search that has but its reference, a walk from narrowed networks, one that has none yet."""
    space = shipped(name)
    assert space.reference not in space
    assert as_recorded(space, [], [space.reference]) == space
    assert as_recorded(space, [], []) == space
