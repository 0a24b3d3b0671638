"""Where latencies come from: the tables of one or several devices, or a user's own function."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from latency.meter import Meter
from latency.predict import Predictor
from latency.table import LatencyTable
from search.plugins import Plugin, number, user_code
from search.trial import Scores
from space.arch import Architecture
from space.cost import cost_of
from space.encoding import Codes, Encoding
from space.errors import RunError
from space.keys import BlockKey

OfCodes = Callable[[Codes], np.ndarray]


class Latency(Protocol):
    """Predicts a network's latency in ms: batch 1, low quantile of wall time."""

    @property
    def is_dear(self) -> bool:
        """Whether each network that is asked about may take its time."""

    def estimate(self, arch: Architecture) -> float:
        """The latency of one network.

        Raises:
            MissingBlock: a table lacks one of its blocks.
        """

    def missing(self, keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:
        """Those of the blocks that nothing is known of yet."""

    def of_codes(self, encoding: Encoding) -> OfCodes:
        """The latencies of many members of a space, shape (networks,), from valid rows."""


@dataclass(kw_only=True)
class Goal:
    """One device of a search and what must be met there, ms; `table` grows while NetAdapt measures blocks.

    `meter` measures on it, and is None where people carry kits, and where a record is only read.
    """

    table_id: int
    table: LatencyTable
    target_ms: float
    meter: Meter | None = None

    @property
    def name(self) -> str:
        """The user's name for the device."""
        return self.table.device.name


@dataclass(frozen=True, slots=True)
class DeviceLatency:
    """The latency on one device; on several that of the slowest one as a share of its target, in ms of the first.

    So one figure says whether a network meets every target, and all that asks for a latency works for several devices.
    """

    goals: tuple[Goal, ...]

    @property
    def is_dear(self) -> bool:
        """See `Latency`."""
        return False

    def _scaled(self) -> Iterable[tuple[LatencyTable, float]]:
        first = self.goals[0].target_ms
        return ((goal.table, first / goal.target_ms) for goal in self.goals)

    def estimate(self, arch: Architecture) -> float:
        """See `Latency`."""
        return max(table.estimate(arch) * scale for table, scale in self._scaled())

    def missing(self, keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:
        """See `Latency`."""
        asked = list(keys)
        return tuple(dict.fromkeys(key for goal in self.goals for key in goal.table.missing(asked)))

    def of_codes(self, encoding: Encoding) -> OfCodes:
        """See `Latency`."""
        predictors = [(Predictor(table, encoding), scale) for table, scale in self._scaled()]

        def latencies(codes: Codes) -> np.ndarray:
            slowest: np.ndarray = np.max([each.estimate(codes) * scale for each, scale in predictors], axis=0)
            return slowest

        return latencies


@dataclass(frozen=True, slots=True)
class Corrected:
    """Another latency's predictions, all of them times a factor: what was measured says how far they are off."""

    latency: Latency
    factor: float

    @property
    def is_dear(self) -> bool:
        """See `Latency`."""
        return self.latency.is_dear

    def estimate(self, arch: Architecture) -> float:
        """See `Latency`."""
        return self.factor * self.latency.estimate(arch)

    def missing(self, keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:
        """See `Latency`."""
        return self.latency.missing(keys)

    def of_codes(self, encoding: Encoding) -> OfCodes:
        """See `Latency`."""
        of_codes = self.latency.of_codes(encoding)
        return lambda codes: self.factor * of_codes(codes)


# What a user's function has said is kept of so many networks.
_KEPT = 100_000


@dataclass(frozen=True)
class OwnLatency:
    """A user's own function from architecture to ms, which may be slow: what it said is kept."""

    plugin: Plugin
    _known: dict[str, float] = field(default_factory=dict)
    _known_rows: dict[str, dict[bytes, float]] = field(default_factory=dict)
    """By the scope of the space that the rows are of: decoding a row takes as long as many a function."""

    @property
    def is_dear(self) -> bool:
        """See `Latency`."""
        return True

    @cached_property
    def _function(self) -> Callable[[Architecture], float]:
        return self.plugin.load()

    def estimate(self, arch: Architecture) -> float:
        """See `Latency`.

        Raises:
            RunError: the function fails, or gives no positive number.
        """
        if arch.arch_id not in self._known:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[arch.arch_id] = self._asked(arch)
        return self._known[arch.arch_id]

    def _asked(self, arch: Architecture) -> float:
        function = self._function
        what, expected = f"latency {self.plugin.name}", "it must give a network's ms, above 0"
        with user_code(what):
            said = function(arch)
        found = number(said, what, expected)
        if not 0 < found < math.inf:
            raise RunError(f"{what} gave {found} for {arch.arch_id}; {expected}")
        return found

    def missing(self, keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:  # noqa: ARG002 - it knows every block
        """See `Latency`."""
        return ()

    def of_codes(self, encoding: Encoding) -> OfCodes:
        """See `Latency`."""
        of_row = self._known_rows.setdefault(encoding.space.scope, {})

        def latencies(codes: Codes) -> np.ndarray:
            keys = list(map(bytes, codes))
            if len(of_row) + len(keys) > _KEPT:
                of_row.clear()
            new = {key: at for at, key in enumerate(keys) if key not in of_row}
            of_row.update(zip(new, map(self.estimate, encoding.decode_all(codes[list(new.values())])), strict=True))
            return np.array([of_row[key] for key in keys])

        return latencies


def scores_of(arch: Architecture, latency: Latency) -> Scores:
    """Scores before training: the predicted latency and exact costs.

    Raises:
        MissingBlock: a table lacks one of the blocks.
    """
    return scores_at(arch, latency.estimate(arch))


def scores_at(arch: Architecture, latency_ms: float) -> Scores:
    """Scores before training of a network whose latency is known."""
    cost = cost_of(arch)
    return Scores(
        top1=None,
        latency_ms=latency_ms,
        madds=cost.madds,
        params=cost.params,
        peak_bytes=cost.peak_bytes,
    )
