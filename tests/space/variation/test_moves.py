"""Moves on rows: always members, always others, and what `space.variation` does one by one."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space.choices import SearchSpace
from space.encoding import INACTIVE, Codes, Encoding
from space.preset import preset_names
from space.variation.moves import canonical, crossover, members, mutate
from tests.space.test_presets import shipped
from tests.strategies import free_space, small_space


@lru_cache
def encoding_of(name: str) -> Encoding:
    """The encoding of a shipped preset, or of a small space."""
    small = {"alike": small_space, "free": free_space, "rounded": rounded_space}
    return Encoding(small[name]() if name in small else shipped(name))


def rounded_space() -> SearchSpace:
    """Of alike blocks; 3 and 3.25 times 8 channels round to the same 24, 3 and 3.25 times 16 do not."""
    space = free_space()
    first, second = space.preset.stages
    first = replace(first, blocks="alike", expansion=(3, 3.25, 1))
    second = replace(second, expansion=(3, 3.25), width=(0.5, 1.0))
    return replace(space, preset=replace(space.preset, stages=(first, second)))


SPACES = ("alike", "free", "rounded", *preset_names())
seeds = st.integers(0, 2**32 - 1)
names = st.sampled_from(SPACES)
ALL = pytest.mark.parametrize("name", SPACES)


def any_rows(encoding: Encoding, count: int, rng: np.random.Generator) -> Codes:
    """Valid rows, among them such as `encode` would not give: each choice drawn by itself."""
    parameters = encoding.space.parameters
    rows = np.stack([rng.integers(0, len(choices), count) for choices in parameters.values()], axis=1).astype(np.int16)
    for stage in encoding.stages:
        for slot in range(1, stage.slots):
            stage.slot(rows, slot)[stage.depths[rows[:, stage.column]] <= slot] = INACTIVE
    assert encoding.valid(rows).all()
    return rows


def kept(row: Codes) -> tuple[int, ...]:
    """A row as a value."""
    return tuple(row.tolist())


@settings(max_examples=60)
@given(names, seeds, st.none() | st.floats(0, 1))
def test_mutations_are_other_members(name: str, seed: int, rate: float | None) -> None:
    """A mutation is valid, another member, and has another choice in a column that its parent uses."""
    encoding, rng = encoding_of(name), np.random.default_rng(seed)
    rows = any_rows(encoding, 30, rng)
    before = rows.copy()
    children = mutate(encoding, rows, rng, rate)
    assert (rows == before).all()
    assert children.dtype == rows.dtype
    assert encoding.valid(children).all()
    both = (rows != INACTIVE) & (children != INACTIVE)
    assert ((rows != children) & both).any(axis=1).all()
    assert (canonical(encoding, rows) != canonical(encoding, children)).any(axis=1).all()


@ALL
def test_a_rate_of_zero_changes_one_choice(name: str) -> None:
    """At rate 0 one column of the parent's changes, at rate 1 every open one, by default one on average."""
    encoding, rng = encoding_of(name), np.random.default_rng(0)
    rows = encoding.sample(1000, rng)

    def changes(rate: float | None) -> np.ndarray:
        children = mutate(encoding, rows, rng, rate)
        return np.asarray(((rows != children) & (rows != INACTIVE) & (children != INACTIVE)).sum(axis=1))

    open_columns = np.array([len(choices) > 1 for choices in encoding.space.parameters.values()])
    every = mutate(encoding, rows, rng, 1.0)
    both = (rows != INACTIVE) & (every != INACTIVE)
    assert (changes(0.0) == 1).all()
    assert (rows != every)[both & open_columns].all()
    assert 1.2 < changes(None).mean() < 1.6  # 1, and 1 more in the 37 % of rows where chance changes none


@ALL
def test_mutations_reach_every_choice(name: str) -> None:
    """Mutation by mutation every choice of every column comes up in rows as `encode` gives them, unless none has it."""
    encoding, rng = encoding_of(name), np.random.default_rng(1)
    rows = encoding.sample(1, rng)
    rows = np.repeat(rows, 300, axis=0)
    seen = {(column, choice) for column, choice in enumerate(rows[0].tolist())}
    for _ in range(60):
        rows = mutate(encoding, rows, rng)
        for column, choices in enumerate(canonical(encoding, rows).T):
            seen |= {(column, choice) for choice in np.unique(choices).tolist()}
    drawn = encoding.sample(20_000, rng)
    expected = {(column, choice) for column, found in enumerate(drawn.T) for choice in np.unique(found).tolist()}
    assert expected <= seen


@settings(max_examples=60)
@given(names, seeds)
def test_crossovers_take_from_both(name: str, seed: int) -> None:
    """A child is valid; each of its columns is one of its parents', and that parent's which has the block."""
    encoding, rng = encoding_of(name), np.random.default_rng(seed)
    one, other = any_rows(encoding, 30, rng), any_rows(encoding, 30, rng)
    children = crossover(encoding, one, other, rng)
    assert children.dtype == one.dtype
    assert encoding.valid(children).all()
    used = children != INACTIVE
    assert ((children == one) | (children == other))[used].all()
    assert (crossover(encoding, one, one, rng) == one).all()


@ALL
def test_crossovers_take_equally_from_both(name: str) -> None:
    """Where two parents differ, about half of the columns come from either."""
    encoding, rng = encoding_of(name), np.random.default_rng(2)
    one, other = encoding.sample(2000, rng), encoding.sample(2000, rng)
    children = crossover(encoding, one, other, rng)
    differ = (one != other) & (one != INACTIVE) & (other != INACTIVE) & (children != INACTIVE)
    assert (children == one)[differ].mean() == pytest.approx(0.5, abs=0.02)


@settings(max_examples=40)
@given(names, seeds)
def test_the_canonical_row_is_that_of_the_member(name: str, seed: int) -> None:
    """It is what decoding and encoding give, and its own canonical row."""
    encoding = encoding_of(name)
    rows = any_rows(encoding, 10, np.random.default_rng(seed))
    found = canonical(encoding, rows)
    assert [kept(row) for row in found] == [kept(encoding.encode(encoding.decode(row))) for row in rows]
    assert (canonical(encoding, found) == found).all()


def test_some_spaces_have_several_rows_per_member() -> None:
    """The tests above meet rows that are not canonical, of free and of alike blocks."""
    rng = np.random.default_rng(3)
    for name in ("free", "rounded"):
        rows = any_rows(encoding_of(name), 500, rng)
        assert (canonical(encoding_of(name), rows) != rows).any()


@ALL
def test_moves_follow_the_generator(name: str) -> None:
    """Equal generators move alike, others do not."""
    encoding = encoding_of(name)
    rows = encoding.sample(200, np.random.default_rng(4))

    def moved(seed: int) -> tuple[Codes, Codes]:
        rng = np.random.default_rng(seed)
        return mutate(encoding, rows, rng), crossover(encoding, rows, rows[::-1], rng)

    for once, again, different in zip(moved(5), moved(5), moved(6), strict=True):
        assert (once == again).all()
        assert (once != different).any()


def test_the_only_member_stays() -> None:
    """In a space of one there is nothing to change to."""
    space = small_space()
    fields = ("depth", "width", "kernel", "expansion", "se", "activation")
    stages = tuple(
        replace(stage, **{field: getattr(stage, field)[:1] for field in fields}) for stage in space.preset.stages
    )
    encoding = Encoding(replace(space, preset=replace(space.preset, stages=stages)))
    rows = encoding.sample(3, np.random.default_rng(7))
    assert (mutate(encoding, rows, np.random.default_rng(8)) == rows).all()
    assert (mutate(encoding, rows[:0], np.random.default_rng(8)) == rows[:0]).all()


@pytest.mark.parametrize("name", ["alike", "free", "rounded"])
def test_all_members_are_listed(name: str) -> None:
    """One canonical row for each; a space with more combinations than asked for is not gone through."""
    encoding = encoding_of(name)
    rows = members(encoding, 10_000)
    assert rows is not None
    assert rows.dtype == np.int16
    assert len({encoding.decode(row).arch_id for row in rows}) == len(rows) == encoding.space.size
    assert (canonical(encoding, rows) == rows).all()
    assert members(encoding, 100) is None
    assert members(encoding_of("ofa-mbv3"), 10_000) is None
