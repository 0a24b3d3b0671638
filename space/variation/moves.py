"""Moves on rows of `space.encoding`: mutation, crossover, the one row that stands for a member, and all rows.

What `space.variation` does with one architecture at a time, for thousands of networks at once.
"""

import math
from functools import lru_cache

import numpy as np

from space.encoding import INACTIVE, Codes, Encoding
from space.preset import BlockStyle


class _Columns:
    """Which columns of a row are open, and by what depth each one is active; every array has shape (parameters,)."""

    def __init__(self, encoding: Encoding) -> None:
        self.sizes = np.array([len(choices) for choices in encoding.space.parameters.values()])
        self.combinations = math.prod(self.sizes.tolist())
        self.only_member = encoding.space.size == 1
        self._depth_columns = np.array([stage.column for stage in encoding.stages])
        self._depths = np.zeros((len(encoding.stages), max(len(stage.depths) for stage in encoding.stages)), dtype=int)
        # By column: its stage, and the depth beyond which it says something.
        self._stages = np.repeat(np.arange(len(encoding.stages)), [stage.columns for stage in encoding.stages])
        self._beyond = np.zeros(len(self.sizes), dtype=int)
        for number, stage in enumerate(encoding.stages):
            self._depths[number, : len(stage.depths)] = stage.depths
            for slot in range(1, stage.slots):
                stage.slot(self._beyond[None], slot)[:] = slot

    def listed(self) -> Codes:
        """Every valid row, and some twice."""
        strides = self.combinations // np.cumprod(self.sizes)
        rows = (np.arange(self.combinations)[:, None] // strides % self.sizes).astype(np.int16)
        return np.where(self.active(rows), rows, INACTIVE)

    def active(self, codes: Codes) -> np.ndarray:
        """Whether each column of each row says something, by the depths of its stage, shape (networks, parameters)."""
        depths = self._depths[np.arange(len(self._depths)), codes[:, self._depth_columns]]
        active: np.ndarray = depths[:, self._stages] > self._beyond
        return active


@lru_cache(maxsize=8)  # a process works on one space, or a few; encodings are equal only to themselves
def _columns(encoding: Encoding) -> _Columns:
    return _Columns(encoding)


def mutate(encoding: Encoding, codes: Codes, rng: np.random.Generator, rate: float | None = None) -> Codes:
    """Valid rows of other members, shape (networks, parameters): at least one active column has another choice.

    Each active column changes with probability `rate`, by default one of them on average; blocks that a larger depth
    adds are drawn anew. The only member of a space stays as it is.
    """
    columns = _columns(encoding)
    children = codes.copy()
    if columns.only_member:
        return children
    same = np.arange(len(codes))
    while len(same):  # different choices can round to the same widths
        children[same] = _mutated(columns, codes[same], rng, rate)
        same = same[(canonical(encoding, children[same]) == canonical(encoding, codes[same])).all(axis=1)]
    return children


def _mutated(columns: _Columns, codes: Codes, rng: np.random.Generator, rate: float | None) -> Codes:
    free = columns.active(codes) & (columns.sizes > 1)
    chance = 1 / free.sum(axis=1, keepdims=True) if rate is None else rate
    draws = np.where(free, rng.random(codes.shape), np.inf)
    changed = draws < chance
    idle = ~changed.any(axis=1)
    # The least of equally distributed draws is in any of the columns with the same probability.
    changed[idle, draws[idle].argmin(axis=1)] = True
    others = codes + 1 + (rng.random(codes.shape) * (columns.sizes - 1)).astype(codes.dtype)
    children = np.where(changed, others % columns.sizes, codes)
    drawn = (rng.random(codes.shape) * columns.sizes).astype(codes.dtype)
    return _completed(columns, children, drawn).astype(codes.dtype)


def crossover(encoding: Encoding, one: Codes, other: Codes, rng: np.random.Generator) -> Codes:
    """Valid rows that take each column from one of two valid rows, each with probability one half.

    A block that only one of the two has is that one's: the other has nothing to say about it.
    """
    coin = rng.random(one.shape) < 0.5
    return _completed(_columns(encoding), np.where(coin, one, other), np.where(coin, other, one))


def _completed(columns: _Columns, codes: Codes, fillers: Codes) -> Codes:
    """The rows with fillers where they are active and say nothing yet, and -1 where they are not active."""
    return np.where(columns.active(codes), np.where(codes == INACTIVE, fillers, codes), INACTIVE)


class _FirstStyles:
    """Per stage: the first style that makes the same block, or the same stage of alike blocks."""

    def __init__(self, encoding: Encoding, number: int) -> None:
        self._stage = stage = encoding.stages[number - 1]
        space = encoding.space
        styles = np.arange(len(stage.styles))
        index = {style: position for position, style in enumerate(stage.styles)}

        def firsts(width: int) -> list[int]:
            options = space.block_options(number, width)
            return [index[options[style.block(width, space.preset.squeeze)]] for style in stage.styles]

        if stage.free:
            self._first = np.array([firsts(width) for width in stage.before])
            self._later = np.array([firsts(width) for width in stage.after])
            self.all_differ = bool((self._first == styles).all() and (self._later == styles).all())
            return

        def alike(before: int, after: int, depth: int) -> list[int]:
            options = space.alike_options(number, before, after)

            def first(style: BlockStyle) -> BlockStyle:
                return options[space.stage(number, before, after, [style] * depth)]

            return [index[first(style)] for style in stage.styles]

        self._alike = np.array(
            [
                [[alike(before, after, depth) for depth in stage.depths.tolist()] for after in stage.after]
                for before in stage.before
            ]
        )
        self.all_differ = bool((self._alike == styles).all())

    def put(self, codes: Codes, before: np.ndarray) -> None:
        """Replace the styles of this stage, whose input widths are `before`, by index of choice."""
        stage = self._stage
        depth, after = codes[:, stage.column], codes[:, stage.column + 1]
        if not stage.free:
            first = self._alike[before, after, depth, stage.style_of(codes, 0)]
            stage.slot(codes, 0)[:] = stage.style_codes[first]
            return
        for slot in range(stage.slots):
            style = stage.style_of(codes, slot)
            first = self._first[before, style] if slot == 0 else self._later[after, style]
            active = stage.depths[depth] > slot
            stage.slot(codes, slot)[active] = stage.style_codes[first[active]]


@lru_cache(maxsize=8)
def _first_styles(encoding: Encoding) -> list[_FirstStyles]:
    return [_FirstStyles(encoding, number) for number in range(1, len(encoding.stages) + 1)]


def canonical(encoding: Encoding, codes: Codes) -> Codes:
    """For each valid row the one that `Encoding.encode` gives for its member: equal rows are then equal members."""
    rows = codes.copy()
    before = np.zeros(len(rows), dtype=np.intp)
    for stage, styles in zip(encoding.stages, _first_styles(encoding), strict=True):
        if not styles.all_differ:
            styles.put(rows, before)
        before = rows[:, stage.column + 1]
    return rows


def members(encoding: Encoding, most: int) -> Codes | None:
    """The canonical rows of all members, or None where more than `most` combinations of choices stand for them."""
    columns = _columns(encoding)
    if columns.combinations > most:
        return None
    return np.unique(canonical(encoding, columns.listed()), axis=0)
