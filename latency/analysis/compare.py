"""Do two devices agree? Rank correlation over a space, what a choice for one costs on the other, dear operators."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from latency.analysis.agreement import kendall_tau, spearman
from latency.predict import Predictor
from latency.table import LatencyTable
from space.choices import SearchSpace
from space.encoding import Encoding
from space.keys import BlockKey, StageBlockKey

NETWORKS = 2000
# Shares of the space, by latency on the first device, that stand for a tight, a middling and a loose target.
TARGETS = (0.1, 0.25, 0.5, 0.75)
# An operator that costs so much more on one device than on the other, relative to the blocks without it, is news.
UNUSUAL = 1.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A network chosen for one device, on another; latencies predicted, in ms.

    Chosen is the network with the most multiply-adds within the target, which stand in for accuracy. `best_ms` is what
    the other device's own fastest network of at least as many multiply-adds takes there.
    """

    target_ms: float
    chosen_ms: float
    on_other_ms: float
    best_ms: float

    @property
    def overhead(self) -> float:
        """How much longer it takes than the other device's own choice, relative."""
        return self.on_other_ms / self.best_ms - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionCost:
    """How many times longer a block takes with an option than the same block without it: medians, on both devices."""

    option: str
    pairs: int
    first: float
    second: float

    @property
    def is_unusual(self) -> bool:
        """Whether one device pays far more for it than the other."""
        return max(self.first / self.second, self.second / self.first) >= UNUSUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two tables over one space. `moved` is the mean change of rank, as a share of all ranks."""

    networks: int
    kendall_tau: float
    spearman: float
    moved: float
    ratio: float
    """Median latency on the second device, divided by that on the first."""
    transfers: tuple[Transfer, ...]
    options: tuple[OptionCost, ...]


def _transfers(first: np.ndarray, second: np.ndarray, madds: np.ndarray) -> Iterator[Transfer]:
    for share in TARGETS:
        target = float(np.quantile(first, share))
        within = np.flatnonzero(first <= target)
        chosen = within[np.argmax(madds[within])]
        rivals = np.flatnonzero(madds >= madds[chosen])
        yield Transfer(
            target_ms=target,
            chosen_ms=float(first[chosen]),
            on_other_ms=float(second[chosen]),
            best_ms=float(second[rivals].min()),
        )


def _without_se(key: StageBlockKey) -> StageBlockKey | None:
    if not key.block.use_se:
        return None
    return replace(key, block=replace(key.block, use_se=False, squeeze_channels=None, gate="hard_sigmoid"))


def _without_hswish(key: StageBlockKey) -> StageBlockKey | None:
    return replace(key, block=replace(key.block, activation="relu")) if key.block.activation == "hswish" else None


def _with_kernel_3(size: int) -> Callable[[StageBlockKey], StageBlockKey | None]:
    def change(key: StageBlockKey) -> StageBlockKey | None:
        return replace(key, block=replace(key.block, kernel_size=3)) if key.block.kernel_size == size else None

    return change


OPTIONS: dict[str, Callable[[StageBlockKey], StageBlockKey | None]] = {
    "squeeze-and-excite": _without_se,
    "h-swish": _without_hswish,
    "5x5 kernel": _with_kernel_3(5),
    "7x7 kernel": _with_kernel_3(7),
}


def option_costs(first: LatencyTable, second: LatencyTable) -> tuple[OptionCost, ...]:
    """For each option, over all pairs of blocks in both tables that differ in it alone."""
    both: list[BlockKey] = [key for key in first.entries if key in second.entries]
    found = []
    for option, without in OPTIONS.items():
        pairs = [(key, plain) for key in both if isinstance(key, StageBlockKey) and (plain := without(key)) is not None]
        pairs = [(key, plain) for key, plain in pairs if plain in first.entries and plain in second.entries]
        if not pairs:
            continue
        ratios = [
            float(np.median([table.alone_ms(key) / table.alone_ms(plain) for key, plain in pairs]))
            for table in (first, second)
        ]
        found.append(OptionCost(option=option, pairs=len(pairs), first=ratios[0], second=ratios[1]))
    return tuple(found)


def compare(first: LatencyTable, second: LatencyTable, space: SearchSpace, *, seed: int = 0) -> Comparison:
    """Two tables over networks drawn from a space.

    Raises:
        MissingBlock: one of the tables lacks a block of the space.
    """
    encoding = Encoding(space)
    codes = encoding.sample(NETWORKS, np.random.default_rng(seed))
    one, other = (Predictor(table, encoding).estimate(codes) for table in (first, second))
    ranks = [np.argsort(np.argsort(latency)) for latency in (one, other)]
    return Comparison(
        networks=NETWORKS,
        kendall_tau=kendall_tau(one, other),
        spearman=spearman(one, other),
        moved=float(np.abs(ranks[0] - ranks[1]).mean() / NETWORKS),
        ratio=float(np.median(other) / np.median(one)),
        transfers=tuple(_transfers(one, other, encoding.cost(codes).madds)),
        options=option_costs(first, second),
    )


def advice(found: Comparison, names: tuple[str, str]) -> list[str]:
    """What a person should do about it, in sentences."""
    lines = []
    for cost in found.options:
        if cost.is_unusual:
            dear = cost.first > cost.second
            worse, better = names if dear else names[::-1]
            high, low = max(cost.first, cost.second), min(cost.first, cost.second)
            lines.append(
                f"{cost.option} is unusually expensive on '{worse}': a block takes {high:.2f} times as long with it, "
                f"on '{better}' {low:.2f} times; for '{worse}', also search the space minimalistic"
            )
    if not lines:
        lines.append("no operator is unusually expensive on one device compared with the other")
    return lines
