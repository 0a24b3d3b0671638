"""The part of a page that puts several searches beside each other."""

from collections.abc import Sequence
from itertools import combinations
from statistics import median

from search.reports.comparison import (
    Standing,
    at_equal,
    common_target,
    config_differences,
    final_difference,
    reference_point,
    replicates,
    standing,
    warnings,
)
from search.reports.history import SEARCHED, History
from service.report import comparison_figures as plots
from service.report.compared import plain
from service.report.figures import colours
from service.report.page import Cell, Html, Section, figure, joined, section, sentence, table
from service.terminal.wording import milliseconds, share


def lead(histories: Sequence[History]) -> Html:
    """What the page is about."""
    return sentence(f"{len(histories)} searches compared, then each by itself.")


def sections(histories: Sequence[History], target_ms: float | None) -> list[Section]:
    """The searches compared: under one target, at equal evaluations, at equal core-minutes."""
    comparable = [history for history in histories if history.record.start]
    queued = [history.name for history in histories if not history.record.start]
    notes = [sentence(f"Not begun yet, so not compared: {', '.join(queued)}.")] if queued else []
    if not comparable:
        return [section("compared", "Compared", *notes)]
    target = common_target(comparable) if target_ms is None else target_ms
    notes += [sentence(line, css="warn") for line in warnings(comparable)]
    return [
        section("compared", "Compared", *notes, _standings(comparable, target, chosen=target_ms is not None)),
        section("compared-fronts", "Fronts", *_fronts(comparable, target), level=3),
        section("compared-equal", "At equal cost", *_equal(comparable, target), level=3),
        section("compared-finals", "Final networks", *_finals(comparable), level=3),
        section("compared-configs", "Configurations", *_configs(histories), level=3),
    ]


_STANDING = (
    *("search", "state", "evaluations", "best top-1 within target", "its ms", "best reward", "hypervolume"),
    *("images seen", "core-minutes"),
)


def _standing_row(found: Standing) -> list[Cell]:
    best = found.best
    return [
        found.name,
        found.state,
        f"{found.evaluations:,}",
        share(best.scores.top1 if best else None),
        "" if best is None else milliseconds(best.scores.latency_ms),
        "" if found.reward is None else f"{found.reward:.4f}",
        f"{found.hypervolume:.2%}",
        f"{found.images_seen:,}",
        f"{found.all_core_minutes:,.1f}",
    ]


def _standings(histories: Sequence[History], target_ms: float, *, chosen: bool) -> Html:
    reference = reference_point(histories, target_ms)
    found = [standing(history, target_ms, reference) for history in histories]
    why = "as asked for" if chosen else "the largest of the searches' targets"
    said = (
        f"Common target: {milliseconds(target_ms)} ms, {why}. Top-1 is on the reward split, the best of block-level "
        "search and NetAdapt; rewards are hard ones against this target. Hypervolume: the share that the networks "
        f"cover of the rectangle from top-1 {reference.top1:.3g} (guessing) and {milliseconds(reference.latency_ms)} "
        "ms to a perfect network that takes no time. A search is one draw of its seed: what differs may be luck."
    )
    return joined([sentence(said), table(_STANDING, [_standing_row(each) for each in found])])


def _shades(histories: Sequence[History]) -> list[str]:
    """A colour for each search, or for each group of searches that differ in their seeds alone."""
    groups = replicates(histories)
    if len(groups) in (1, len(histories)):
        return colours(len(histories))
    place = {history.name: number for number, group in enumerate(groups) for history in group}
    return [colours(len(groups))[place[history.name]] for history in histories]


def _fronts(histories: Sequence[History], target_ms: float) -> list[Html]:
    if not any(history.complete(*SEARCHED) for history in histories):
        return [sentence("None of the searches has trained a network yet.")]
    said = "The Pareto front of each search, with all its trained networks behind it."
    return [figure(plots.fronts(histories, _shades(histories), target_ms), said)]


def _equal(histories: Sequence[History], target_ms: float) -> list[Html]:
    found, names = at_equal(histories, target_ms), [history.name for history in histories]
    found_curves = [history.top1_curve(target_ms) for history in histories]
    curves = list(zip(names, found_curves, _shades(histories), strict=True))
    if not any(value is not None for curve in found_curves for value in curve.best):
        return [sentence("No search has a network within the common target yet.")]
    rows: list[list[Cell]] = [
        [name, share(by_evaluations), share(by_minutes)]
        for name, by_evaluations, by_minutes in zip(names, found.by_evaluations, found.by_core_minutes, strict=True)
    ]
    header = ("search", f"after {found.evaluations:,} evaluations", f"after {found.core_minutes:,.1f} core-minutes")
    said = (
        "The best top-1 (reward split) among networks within the common target, after as many evaluations and after as "
        "many minutes of one core as the shortest search has. Evaluations need not cost alike, so the second is fairer."
    )
    shown = "The same over the whole of each search; the dashed line is where the shortest one ends."
    return [
        sentence(said),
        table(header, rows),
        *_groups(histories, dict(zip(names, found.by_core_minutes, strict=True)), header[2]),
        figure(plots.best_by_evaluations(curves, found.evaluations), f"By evaluations. {shown}"),
        figure(plots.best_by_cost(curves, found.core_minutes), f"By core-minutes. {shown}"),
    ]


def _groups(histories: Sequence[History], best: dict[str, float | None], when: str) -> list[Html]:
    """Searches that differ in their seeds alone, as medians with their range; nothing where there are none."""
    groups = replicates(histories)
    if all(len(group) == 1 for group in groups):
        return []
    rows: list[list[Cell]] = []
    for group in groups:
        values = [value for history in group if (value := best[history.name]) is not None]
        spread = f"{min(values):.2%} to {max(values):.2%}" if values else ""
        middle = share(median(values) if values else None)
        rows.append([", ".join(history.name for history in group), f"{len(values)} of {len(group)}", middle, spread])
    header = ("searches that differ in their seeds alone", "with a network", f"median {when}", "range")
    return [table(header, rows)]


def _finals(histories: Sequence[History]) -> list[Html]:
    rows: list[list[Cell]] = []
    for one, other in combinations(histories, 2):
        gap = final_difference(one, other)
        if gap is not None:
            difference = gap.difference
            interval = f"{difference.low:+.2%} to {difference.high:+.2%}"
            clear = "yes" if difference.is_clear else "no"
            rows.append([f"{one.name} − {other.name}", f"{difference.difference:+.2%}", interval, clear, gap.kind])
    if not rows:
        return [sentence("No two of the searches have final networks on the same data.")]
    said = (
        "Test top-1 of the networks that were found. Paired: on the same images, image by image; unpaired: where it is "
        "not known which were right, so the interval is wider. It covers the luck of the images, not that of the seeds."
    )
    return [sentence(said), table(("difference", "top-1", "95 % interval", "clear", "kind"), rows)]


def _configs(histories: Sequence[History]) -> list[Html]:
    found = config_differences([history.record.config for history in histories])
    if not found:
        return [sentence("The configurations are the same.")]
    rows = [[key, *map(plain, values)] for key, values in found.items()]
    return [table(("key", *(history.name for history in histories)), rows)]
