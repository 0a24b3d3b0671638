"""Rows of integers stand for members: checked one by one against the objects."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import INACTIVE, Encoding
from space.errors import InvalidArchitecture
from space.preset import preset_names
from space.reference import REFERENCES
from tests.space.test_presets import shipped
from tests.strategies import free_space, members, small_space

SMALL = pytest.mark.parametrize("space", [small_space(), free_space()], ids=["alike", "free"])
NAMES = pytest.mark.parametrize("name", preset_names())


@SMALL
def test_every_member_has_one_row(space: SearchSpace) -> None:
    """Encoding and decoding are inverse over all members, each row has one column per parameter and is valid."""
    encoding = Encoding(space)
    found = set(members(space))
    rows = {tuple(encoding.encode(arch).tolist()) for arch in found}
    assert len(rows) == len(found)
    assert {encoding.decode(np.array(row)) for row in rows} == found
    assert encoding.valid(np.array(list(rows))).all()
    assert all(len(row) == len(space.parameters) for row in rows)


@SMALL
def test_drawn_rows_are_uniform(space: SearchSpace) -> None:
    """Every member is drawn equally often (chi-square, 0.1 %), each by the one row that encode gives."""
    encoding = Encoding(space)
    codes = encoding.sample(40 * space.size, np.random.default_rng(0))
    drawn = Counter(map(tuple, codes.tolist()))
    assert set(drawn) == {tuple(encoding.encode(arch).tolist()) for arch in members(space)}
    assert chisquare(list(drawn.values())).pvalue > 0.001


@NAMES
def test_costs_of_rows_are_those_of_the_networks(name: str) -> None:
    """Multiply-adds, parameters and peak memory of drawn rows equal cost_of, and the rows are valid."""
    space = shipped(name)
    encoding = Encoding(space)
    codes = encoding.sample(150, np.random.default_rng(1))
    costs = encoding.cost(codes)
    assert encoding.valid(codes).all()
    for index, code in enumerate(codes):
        arch = encoding.decode(code)
        cost = cost_of(arch)
        assert arch in space
        assert (encoding.encode(arch) == code).all()
        assert (cost.madds, cost.params) == (costs.madds[index], costs.params[index])
        assert (cost.batch_norm_params, cost.peak_bytes) == (costs.batch_norm_params[index], costs.peak_bytes[index])


@SMALL
def test_validity_is_that_of_decoding(space: SearchSpace) -> None:
    """A row of any small integers is valid exactly where it names one choice per active parameter."""
    encoding = Encoding(space)
    rng = np.random.default_rng(2)
    codes = rng.integers(-1, 4, (4000, len(encoding.names)), dtype=np.int16)
    good = encoding.sample(2000, rng)
    changed = good.copy()
    changed[np.arange(2000), rng.integers(0, len(encoding.names), 2000)] += 1
    sizes = np.array([len(choices) for choices in space.parameters.values()])
    for row, valid in zip(np.vstack([codes, changed]), encoding.valid(np.vstack([codes, changed])), strict=True):
        columns = dict(zip(encoding.names, row.tolist(), strict=True))
        expected = True
        for name, size in zip(encoding.names, sizes, strict=True):
            stage, _, rest = name.partition(".")
            depths = space.parameters[f"{stage}.depth"]
            depth = columns[f"{stage}.depth"]
            position = int(rest[5 : rest.index(".")]) if rest.startswith("block") else 1
            beyond = position > 1 and 0 <= depth < len(depths) and position > depths[depth]
            expected &= columns[name] == INACTIVE if beyond else 0 <= columns[name] < size
        assert valid == expected


def test_sampling_follows_the_generator() -> None:
    """Equal seeds draw equal rows."""
    encoding = Encoding(shipped("ofa-mbv3"))
    drawn = [encoding.sample(100, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()


def test_depths_of_once_for_all_are_weighted_by_their_forms() -> None:
    """Depths 2, 3 and 4 come up as 81 : 729 : 6561, since all networks are equally likely."""
    encoding = Encoding(shipped("ofa-mbv3"))
    column = encoding.names.index("stage2.depth")
    found = np.bincount(encoding.sample(50_000, np.random.default_rng(5))[:, column], minlength=3)
    assert chisquare(found, 50_000 * np.array([81, 729, 6561]) / 7371).pvalue > 0.001


def test_wrong_rows_are_refused() -> None:
    """A row of another length, or with an impossible choice, and a stranger are refused."""
    encoding = Encoding(small_space())
    with pytest.raises(InvalidArchitecture, match="is no row of space 'small'"):
        encoding.decode(np.zeros(3, dtype=np.int16))
    with pytest.raises(InvalidArchitecture, match="is no row of space 'small'"):
        encoding.decode(np.full(len(encoding.names), 9, dtype=np.int16))
    with pytest.raises(InvalidArchitecture, match=r"rows of shape \(2, 3\) do not fit; 12 columns"):
        encoding.valid(np.zeros((2, 3), dtype=np.int16))
    with pytest.raises(InvalidArchitecture, match="is not in space 'small': resolution is 224"):
        encoding.encode(REFERENCES["mobilenet_v2"]())
