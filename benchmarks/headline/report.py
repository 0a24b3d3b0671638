"""The headline's report, from its JSON files alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.headline.picture import Point, drawn
from benchmarks.headline.steps import read
from search.config.budget import MINUTES, budget_hours
from search.stages.race.finalists import non_decreasing

# A certificate may be this much above a target, as repeated measurements differ, and below it.
_ABOVE, _BELOW = 1.005, 0.97
REFERENCE = "width-50"
# Degrees of freedom of the spread of seeds, which is that of all networks of the curve.
_MANY = 20


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one search has found, beside what everybody could have taken; top-1 in %, latency in ms."""

    search: Mapping[str, Any]
    top1: Sequence[float]
    ms: float
    baseline: float
    as_accurate_ms: float | None
    """What the reference takes at the width at which it is as accurate; None: at none that was trained."""

    @property
    def gain(self) -> float:
        """Points of top-1 above the reference's curve over its widths, at equal latency."""
        return mean(self.top1) - self.baseline

    @property
    def saved(self) -> float | None:
        """The share of the latency that is saved at equal top-1."""
        return None if self.as_accurate_ms is None else 1 - self.ms / self.as_accurate_ms


@dataclass(frozen=True)
class _Errors:
    """Standard errors that all searches share, in points."""

    baseline: float
    reference: float


@dataclass(frozen=True)
class Results:
    """All that was measured; `networks` are the hashes of the specs by name."""

    out: Path
    networks: Mapping[str, str]
    seeds: Sequence[int]

    @cached_property
    def searches(self) -> dict[str, dict[str, Any]]:
        """By name what each search has left."""
        return {path.stem: read(path) for path in sorted(self.out.glob("search-*.json"))}

    @cached_property
    def top1(self) -> dict[str, list[float]]:
        """By name, of each seed, in %."""
        trained = {(each["arch_id"], each["seed"]): each["top1"] for each in map(read, self.out.glob("train-*.json"))}
        return {name: [100 * trained[arch, seed] for seed in self.seeds] for name, arch in self.networks.items()}

    @cached_property
    def ms(self) -> dict[str, float]:
        """By name."""
        found: dict[str, dict[str, float]] = read(self.out / "latency.json")["networks"]
        return {name: found[name]["ms"] for name in self.networks}

    @cached_property
    def curve(self) -> list[str]:
        """The reference at its widths, the fastest first."""
        return sorted((name for name in self.networks if name.startswith("width-")), key=lambda name: self.ms[name])

    @cached_property
    def errors(self) -> "_Errors":
        """Of the mean baseline: those of the curve's networks by their seeds, as they are weighed; of the reference."""
        at = [self.ms[each] for each in self.curve]
        spread = mean(stdev(self.top1[each]) ** 2 for each in self.curve) ** 0.5
        ones = np.eye(len(at))
        weights = np.mean([[np.interp(self.ms[name], at, one) for one in ones] for name in self.searches], axis=0)
        one = spread / len(self.seeds) ** 0.5
        return _Errors(baseline=float(one * np.sqrt((weights**2).sum())), reference=one)

    def found(self, name: str) -> Found:
        """What a search has found, beside the curve."""
        at, reached = [self.ms[each] for each in self.curve], [mean(self.top1[each]) for each in self.curve]
        rising, mine = non_decreasing(reached), mean(self.top1[name])
        # The curve as it rises, one network for each top-1.
        as_accurate = None if mine > rising[-1] else float(np.interp(mine, *_strictly(rising, at)))
        return Found(
            search=self.searches[name],
            top1=self.top1[name],
            ms=self.ms[name],
            baseline=float(np.interp(self.ms[name], at, reached)),
            as_accurate_ms=as_accurate,
        )


def _strictly(values: Sequence[float], at: Sequence[float]) -> tuple[list[float], list[float]]:
    """Of equal values the first, with where it is."""
    first: dict[float, float] = {}
    for value, where in zip(values, at, strict=True):
        first.setdefault(value, where)
    return list(first), list(first.values())


def write_report(out: Path, networks: Mapping[str, str], seeds: Sequence[int]) -> None:
    """report.md and picture.svg beside the files that they are made from."""
    results = Results(out, networks, seeds)
    found = [results.found(name) for name in results.searches]
    (out / "picture.svg").write_text(_picture(results), encoding="utf-8")
    (out / "report.md").write_text("\n".join(_lines(results, found)), encoding="utf-8")


def _lines(results: Results, found: Sequence[Found]) -> list[str]:
    first, reference_ms = found[0].search, results.ms[REFERENCE]
    over = [mean(each.top1) - mean(results.top1[REFERENCE]) for each in found]
    lengths, dates = (
        _range(each.search["final_images"] for each in found),
        _range(each.search["date"] for each in found),
    )
    commits = ", ".join(sorted({each.search.get("commit", "unknown") for each in found}))
    return [
        "# Found networks beside the reference at other widths",
        "",
        f"mobilenas {first['version']} ({commits}), {first['machine']} ({', '.join(first['cpu_flags'])}), {dates}; "
        "made by `python -m benchmarks.headline`, from the JSON files beside it. Top-1 on the test split: the mean of "
        f"{len(results.seeds)} trainings, with seeds other than the search's, of as many images as the searches' own "
        f"final ones (median; theirs were {lengths}). Latency measured whole, all networks interleaved. The baseline "
        "is the reference's curve over its widths, interpolated at equal measured latency.",
        "",
        "![Top-1 over measured latency: found networks and the reference's curve over its widths](picture.svg)",
        "",
        "| search | images | minutes | images/s | found, top-1 % | share of the reference's time | baseline "
        "| found minus baseline | found minus reference | latency saved at equal top-1 | baseline chosen |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(each, difference, reference_ms) for each, difference in zip(found, over, strict=True)),
        "",
        "| figure | measured | promised |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {measured} | {promised} |"
            for name, measured, promised in _figures(found, over, results.errors)
        ),
        "",
        "| network | ms | top-1 % (each seed) |",
        "| --- | --- | --- |",
        *(
            f"| {name} | {results.ms[name]:.4f} | {_each(results.top1[name])} |"
            for name in sorted(results.networks, key=lambda name: results.ms[name])
        ),
        "",
    ]


def _figures(found: Sequence[Found], over: Sequence[float], errors: "_Errors") -> list[tuple[str, str, str]]:
    """What was promised, and what came out; all searches share a baseline and a reference, and their errors."""
    gains, of = [each.gain for each in found], f"of {len(found)}"
    chosen = sum(each.search["chosen_is_baseline"] for each in found)
    above, below = (sum(map(outside, found)) for outside in (_is_above, _is_below))
    return [
        ("found minus baseline", f"{_interval(gains)} points", "at least +1.2, lower end above +0.6"),
        ("the same, the baseline's own seeds reckoned with", f"{_interval(gains, errors.baseline)} points", ""),
        ("the worst of them", f"{min(gains):+.2f} points", "above 0"),
        ("found minus the whole reference", f"{_interval(over)} points", "at least +0.3"),
        ("the same, the reference's own seeds reckoned with", f"{_interval(over, errors.reference)} points", ""),
        ("latency saved at equal top-1", _saved(found), "at least 20 %"),
        ("baseline chosen", f"{chosen} {of}", "at most 1 in 8"),
        (f"certificates above {_ABOVE:.1%} of the target", f"{above} {of}", "none"),
        (f"certificates below {_BELOW:.0%} of it", f"{below} {of}", "none but where a smaller one is more accurate"),
        *_times(found),
    ]


def _times(found: Sequence[Found]) -> list[tuple[str, str, str]]:
    """What the searches took of the time that they were given; those that were interrupted say nothing."""
    taken = [
        each.search["minutes"] / _minutes(each.search["budget"]) - 1
        for each in found
        if each.search["minutes"] is not None
    ]
    span = f"{min(taken):+.0%} to {max(taken):+.0%}, {len(taken)} of {len(found)} searches" if taken else "not known"
    return [("taken beside the planned time", span, "within 20 %")]


def _minutes(budget: str) -> float:
    hours = budget_hours(budget)
    return MINUTES[budget] if hours is None else 60 * hours


def _is_above(found: Found) -> bool:
    return _met(found) > _ABOVE


def _is_below(found: Found) -> bool:
    return _met(found) < _BELOW


def _row(found: Found, over: float, reference_ms: float) -> str:
    search = found.search
    speed = "" if search["minutes"] is None else f"{search['images'] / search['minutes'] / 60:.0f}"
    saved = "more than the curve has" if found.saved is None else f"{found.saved:.1%}"
    return (
        f"| {search['seed']} | {search['images']:,} | {search['minutes'] or ''} | {speed} | {_each(found.top1)} "
        f"| {found.ms / reference_ms:.1%} | {found.baseline:.2f} | {found.gain:+.2f} | {over:+.2f} | {saved} "
        f"| {'yes' if search['chosen_is_baseline'] else 'no'} |"
    )


def _each(top1: Sequence[float]) -> str:
    return f"{mean(top1):.2f} ({', '.join(f'{one:.2f}' for one in top1)})"


def _met(found: Found) -> float:
    """What the certificate of the search itself says, as a share of the target."""
    report = found.search["report"]
    share: float = report["measured_share"] / report["target_share"]
    return share


def _saved(found: Sequence[Found]) -> str:
    known = [100 * each.saved for each in found if each.saved is not None]
    if len(known) == len(found):
        return f"{_interval(known)} %"
    # Those are no figures to take a mean of.
    beyond = f"{len(found) - len(known)} of {len(found)} are more accurate than the reference at any width trained"
    return f"{beyond}; the others save {min(known):.1f} % or more" if known else beyond


def _range(values: Iterable[Any]) -> str:
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _picture(results: Results) -> str:
    others = [name for name in results.networks if name not in results.curve and name not in results.searches]

    def points(names: Iterable[str], label: str = "") -> list[Point]:
        return [
            Point(x=results.ms[name], y=tuple(results.top1[name]), label=label or name.removeprefix("width-"))
            for name in names
        ]

    return drawn(
        curve=points(results.curve),
        found=points(results.searches, " "),
        others=points(others),
        titles=("measured latency, ms", "top-1 on the test split, %"),
        names=("MobileNetV3-Small at widths (%)", "found by mobilenas", "other families"),
    )


def _interval(figures: Sequence[float], shared: float = 0.0) -> str:
    """Their mean with its 95 % interval; a standard error that all of them share is added to theirs."""
    if len(figures) < 2:
        return f"{figures[0]:+.2f}"
    own = float(t.ppf(0.975, len(figures) - 1)) * stdev(figures) / len(figures) ** 0.5
    half = hypot(own, float(t.ppf(0.975, _MANY)) * shared)
    return f"{mean(figures):+.2f} (95 %: {mean(figures) - half:+.2f} to {mean(figures) + half:+.2f})"
