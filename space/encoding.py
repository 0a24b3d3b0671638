"""Members of a search space as rows of small integers: for surrogates, and for judging many networks at once.

A row has one column per flat parameter, in the order of `SearchSpace.parameters`, and holds the index of the choice;
-1 stands for a free block beyond its stage's depth. Costs come from tables of the space's blocks, so that a hundred
thousand networks are drawn, checked and priced in some tenths of a second.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from space.arch import Architecture, Stage
from space.choices import Params, SearchSpace
from space.cost import Cost, unit_cost
from space.errors import InvalidArchitecture
from space.keys import BlockKey, StageBlockKey, stage_keys, stem_key

INACTIVE = -1
Codes = np.ndarray
"""Shape (networks, parameters), int16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """`space.cost.Cost` of many networks: arrays of shape (networks,), int64."""

    madds: np.ndarray
    params: np.ndarray
    batch_norm_params: np.ndarray
    peak_bytes: np.ndarray


def _row(cost: Cost) -> tuple[int, int, int, int]:
    return cost.madds, cost.params, cost.batch_norm_params, cost.peak_bytes


Price = Callable[[BlockKey], Sequence[float]]
"""What one block costs, in one or more figures."""


def _thresholds(ways: Sequence[int]) -> list[float]:
    """The cumulative shares of integers of any size."""
    total = sum(ways)
    return [float(Fraction(part, total)) for part in accumulate(ways)]


def _padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    longest = max(map(len, rows))
    return np.array([[*row, *[0] * (longest - len(row))] for row in rows])


class _StageTable:
    """All that sampling, checking and pricing one stage needs, by index of choice."""

    def __init__(self, space: SearchSpace, number: int, first_column: int) -> None:
        self._space, self._number = space, number
        self.choices = choices = space.preset.stages[number - 1]
        self.free = choices.blocks == "free"
        self.depths = np.array(choices.depth)
        self.before, self.after = space.widths_before(number), space.widths_before(number + 1)
        self.styles = tuple(choices.styles())
        self._index = {style: index for index, style in enumerate(self.styles)}
        self.shape = (len(choices.kernel), len(choices.expansion), len(choices.se), len(choices.activation))
        self._strides = np.array([math.prod(self.shape[at + 1 :]) for at in range(4)])
        self.style_codes = np.stack(np.unravel_index(np.arange(len(self.styles)), self.shape), axis=1)
        self.column = first_column
        self.slots = max(choices.depth) if self.free else 1
        self.columns = 2 + 4 * self.slots
        self._count()

    def keys(self, in_channels: int, out_channels: int, *, later: bool) -> list[StageBlockKey]:
        """The blocks of all styles between two widths: the first of the stage, or a later one."""
        space, stride = self._space, 1 if later else self.choices.stride
        resolution = space.stage_resolutions[self._number - 1 + later]
        keys: list[StageBlockKey] = []
        for style in self.styles:
            block = style.block(in_channels, space.preset.squeeze)
            stage = Stage(out_channels=out_channels, stride=stride, blocks=(block,))
            keys.extend(stage_keys(stage, resolution=resolution, in_channels=in_channels))
        return keys

    def _count(self) -> None:
        """The tables of uniform sampling; only the first of several styles that make the same block is drawn."""
        space, number = self._space, self._number
        if self.free:
            self.first_styles, self.first_counts = self._free_styles(self.before)
            self.later_styles, self.later_counts = self._free_styles(self.after)
            ways = self.first_counts[:, None, None] * self.later_counts[None, :, None] ** (self.depths - 1.0)
            self.depth_shares = np.cumsum(ways / ways.sum(axis=-1, keepdims=True), axis=-1)
            return
        forms = []
        for before in self.before:
            for after in self.after:
                options = space.alike_options(number, before, after)
                depths = [self.choices.depth.index(len(stage.blocks)) for stage in options]
                styles = [self._index[style] for style in options.values()]
                forms.append([depth * len(self.styles) + style for depth, style in zip(depths, styles, strict=True)])
        shape = (len(self.before), len(self.after))
        self.forms = _padded(forms).reshape(*shape, -1)
        self.form_counts = np.array(list(map(len, forms))).reshape(shape)

    def _free_styles(self, widths: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        rows = [
            [self._index[style] for style in self._space.block_options(self._number, width).values()]
            for width in widths
        ]
        return _padded(rows), np.array(list(map(len, rows)))

    def slot(self, codes: Codes, slot: int) -> Codes:
        """The four columns of one block's style."""
        start = self.column + 2 + 4 * slot
        columns: np.ndarray = codes[:, start : start + 4]
        return columns

    def style_of(self, codes: Codes, slot: int) -> np.ndarray:
        """The index of a block's style, wherever it is active."""
        index: np.ndarray = np.maximum(self.slot(codes, slot) @ self._strides, 0)
        return index

    def styles_of(self, codes: Codes) -> np.ndarray:
        """The indices of all blocks' styles, shape (networks, slots), wherever they are active."""
        indices: np.ndarray = np.maximum(self._styles(codes) @ self._strides, 0)
        return indices

    def _styles(self, codes: Codes) -> np.ndarray:
        return codes[:, self.column + 2 : self.column + self.columns].reshape(len(codes), self.slots, 4)

    def draw(self, codes: Codes, before: np.ndarray, after: np.ndarray, rng: np.random.Generator) -> None:
        """Fill in a uniformly drawn form of this stage between the given widths."""
        count = len(codes)
        codes[:, self.column + 1] = after
        if not self.free:
            chosen = (rng.random(count) * self.form_counts[before, after]).astype(np.intp)
            depth, style = np.divmod(self.forms[before, after, chosen], len(self.styles))
            codes[:, self.column] = depth
            self.slot(codes, 0)[:] = self.style_codes[style]
            return
        depth = (rng.random(count)[:, None] >= self.depth_shares[before, after, :-1]).sum(axis=1)
        codes[:, self.column] = depth
        for slot in range(self.slots):
            widths, styles, counts = (
                (before, self.first_styles, self.first_counts)
                if slot == 0
                else (after, self.later_styles, self.later_counts)
            )
            chosen = (rng.random(count) * counts[widths]).astype(np.intp)
            self.slot(codes, slot)[:] = self.style_codes[styles[widths, chosen]]
            self.slot(codes, slot)[self.depths[depth] <= slot] = INACTIVE

    def valid(self, codes: Codes) -> np.ndarray:
        """Whether the columns of this stage are choices, and -1 exactly beyond the depth."""
        depth, width = codes[:, self.column], codes[:, self.column + 1]
        good = (depth >= 0) & (depth < len(self.depths)) & (width >= 0) & (width < len(self.after))
        reach = self.depths[np.where(good, depth, 0)]
        styles = self._styles(codes)
        chosen = ((styles >= 0) & (styles < self.shape)).all(axis=2)
        absent = (styles == INACTIVE).all(axis=2)
        active = reach[:, None] > np.arange(self.slots)
        active[:, 0] = True
        good &= np.where(active, chosen, absent).all(axis=1)
        return good


class Encoding:
    """The rows of one space."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.names = tuple(space.parameters)
        self.stages: list[_StageTable] = []
        column = 0
        for number in range(1, len(space.preset.stages) + 1):
            table = _StageTable(space, number, column)
            self.stages.append(table)
            column += table.columns
        self._width_shares = [
            np.array([_thresholds(space.ways_on(table_number, width)) for width in table.before])
            for table_number, table in enumerate(self.stages, start=1)
        ]

    def encode(self, arch: Architecture) -> Codes:
        """The row of a member, shape (parameters,).

        Raises:
            InvalidArchitecture: it is no member.
        """
        params = self.space.params_of(arch)
        if params is None:
            reason = self.space.why_not(arch)
            raise InvalidArchitecture(f"{arch.arch_id} is not in space '{self.space.preset.name}': {reason}")
        return self.encode_params(params)

    @cached_property
    def _open(self) -> list[tuple[int, str, dict[Any, int]]]:
        """Column, name and index by choice of the parameters that have a choice."""
        return [
            (column, name, {choice: index for index, choice in enumerate(choices)})
            for column, (name, choices) in enumerate(self.space.parameters.items())
            if len(choices) > 1
        ]

    def encode_params(self, params: Params) -> Codes:
        """The row of flat parameters, shape (parameters,); a block beyond its stage's depth is left out.

        Parameters that stand for one member by different choices give different rows. Those without a choice may be
        missing.
        """
        code = np.zeros(len(self.names), dtype=np.int16)
        for column, name, indices in self._open:
            code[column] = indices[params[name]]
        for table in self.stages:
            depth = int(table.depths[code[table.column]])
            code[table.column + 2 + 4 * max(1, depth if table.free else 1) : table.column + table.columns] = INACTIVE
        return code

    def decode_params(self, code: Codes) -> dict[str, Any]:
        """The flat parameters of a row of shape (parameters,); of blocks beyond the depth the first choices."""
        return {
            name: choices[max(0, index)]
            for (name, choices), index in zip(self.space.parameters.items(), code.tolist(), strict=True)
        }

    def decode(self, code: Codes) -> Architecture:
        """The member that a row of shape (parameters,) stands for.

        Raises:
            InvalidArchitecture: the row is not valid.
        """
        if np.shape(code) != (len(self.names),):
            raise self._no_row(code)
        (arch,) = self.decode_all(np.asarray(code)[None])
        return arch

    def decode_all(self, codes: Codes) -> list[Architecture]:
        """The members that rows of shape (networks, parameters) stand for.

        Raises:
            InvalidArchitecture: a row is not valid.
        """
        good = self.valid(codes)
        if not good.all():
            raise self._no_row(codes[good.argmin()])
        return [self.space.architecture(self.decode_params(code)) for code in codes]

    def _no_row(self, code: Codes) -> InvalidArchitecture:
        return InvalidArchitecture(f"{np.asarray(code).tolist()} is no row of space '{self.space.preset.name}'")

    def sample(self, count: int, rng: np.random.Generator) -> Codes:
        """Rows of members, each member as likely as any other."""
        codes = np.empty((count, len(self.names)), dtype=np.int16)
        before = np.zeros(count, dtype=np.intp)
        for table, shares in zip(self.stages, self._width_shares, strict=True):
            after = np.zeros(count, dtype=np.intp)
            if shares.shape[1] > 1:
                after = (rng.random(count)[:, None] >= shares[before, :-1]).sum(axis=1)
            table.draw(codes, before, after, rng)
            before = after
        return codes

    def valid(self, codes: Codes) -> np.ndarray:
        """Which rows stand for members, shape (networks,)."""
        if codes.ndim != 2 or codes.shape[1] != len(self.names):
            raise InvalidArchitecture(f"rows of shape {codes.shape} do not fit; {len(self.names)} columns are expected")
        good: np.ndarray = np.logical_and.reduce([table.valid(codes) for table in self.stages])
        return good

    @cached_property
    def _costs(self) -> "Prices":
        return Prices(self, lambda key: _row(unit_cost(key)), dtype=np.int64, peak=True)

    def cost(self, codes: Codes) -> Costs:
        """What `space.cost.cost_of` says of the networks of valid rows."""
        madds, params, batch_norm_params, peak_bytes = self._costs.of(codes).T
        return Costs(madds=madds, params=params, batch_norm_params=batch_norm_params, peak_bytes=peak_bytes)


class Prices:
    """What every block of a space costs, for pricing many networks at once; prices of blocks add up.

    With `peak` the last figure is the largest of the blocks' instead of their sum.
    """

    def __init__(self, encoding: Encoding, price: Price, *, dtype: type = np.float64, peak: bool = False) -> None:
        space, self._stages = encoding.space, encoding.stages
        self._peak = peak

        def prices(keys: Sequence[BlockKey]) -> np.ndarray:
            return np.array([price(key) for key in keys], dtype=dtype)

        self._stem = prices([stem_key(space.stem, resolution=space.resolution, in_channels=space.in_channels)])[0]
        # Per stage, by index of choice: the first block (width before, width after, style), a later one (width, style).
        self._first, self._later = [], []
        for stage in self._stages:
            pairs = [[prices(stage.keys(one, two, later=False)) for two in stage.after] for one in stage.before]
            self._first.append(np.array(pairs))
            deep = max(stage.choices.depth) > 1
            # A stage of one block has no later one, which a table of measured blocks then need not hold.
            later = [prices(stage.keys(width, width, later=True)) if deep else 0 * pairs[0][0] for width in stage.after]
            self._later.append(np.array(later))
        self._heads = prices([space.head_key(width) for width in self._stages[-1].after])

    def of(self, codes: Codes) -> np.ndarray:
        """The prices of the networks of valid rows, shape (networks, figures)."""
        total = np.broadcast_to(self._stem, (len(codes), len(self._stem)))
        before = np.zeros(len(codes), dtype=np.intp)
        for number, stage in enumerate(self._stages):
            total = self._added(total, self._of_stage(number, codes, before))
            before = codes[:, stage.column + 1]
        return self._added(total, self._heads[before])

    def _added(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        total: np.ndarray = one + other
        if self._peak:
            np.maximum(one[..., -1], other[..., -1], out=total[..., -1])
        return total

    def _of_stage(self, number: int, codes: Codes, before: np.ndarray) -> np.ndarray:
        stage, later_prices = self._stages[number], self._later[number]
        depth, after = stage.depths[codes[:, stage.column]], codes[:, stage.column + 1]
        styles = stage.styles_of(codes)
        first: np.ndarray = self._first[number][before, after, styles[:, 0]]
        if not stage.free:
            later = later_prices[after, styles[:, 0]]
            sums = later[:, :-1] if self._peak else later
            sums *= (depth - 1)[:, None]
            later[depth == 1] = 0
            return self._added(first, later)
        if stage.slots == 1:
            return first
        later = later_prices[after[:, None], styles[:, 1:]]
        later[depth[:, None] <= np.arange(1, stage.slots)] = 0
        total: np.ndarray = first + later.sum(axis=1)
        if self._peak:
            total[:, -1] = np.maximum(first[:, -1], later[..., -1].max(axis=1))
        return total
