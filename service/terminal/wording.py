"""Figures as people read them."""

from collections.abc import Mapping

from search.trial import SearchStage

STAGES = {
    SearchStage.BLOCKS: "block-level search",
    SearchStage.NETADAPT: "NetAdapt",
    SearchStage.FINAL: "final training",
}
"""The stages that trials belong to, in their order, with their names."""


def milliseconds(value: float) -> str:
    """A latency in about four digits, so that those of a table stand below each other: "0.4190", "3.052", "41.70"."""
    return f"{value:.{4 if value < 1 else 3 if value < 10 else 2 if value < 100 else 1}f}"


def share(value: float | None) -> str:
    """A share of 0-1 in %, "none" where there is none."""
    return "none" if value is None else f"{value:.2%}"


def counted(count: int, noun: str) -> str:
    """A number with its noun: "1 network", "2 networks"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def states(counts: Mapping[str, int]) -> str:
    """How many trials are in each state."""
    return ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none"
