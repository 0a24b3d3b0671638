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
from search.reports.markdown import in_points, noise_verdict
from search.reports.present import present_head
from search.trial import Trial
from service.report import comparison_figures as plots
from service.report.comparing.table import plain, ranked_on
from service.report.figures import colours
from service.report.page import Cell, Html, Section, figure, joined, section, sentence, table
from service.terminal.wording import milliseconds, share
from trainer.training.metrics import wilson_interval


def lead(histories: Sequence[History]) -> Html:
    """What the page is about, and what each search ended with."""
    found = [(history, history.found) for history in histories]
    rows = [[history.name, *_found_cells(history, trial)] for history, trial in found if trial is not None]
    rows += [cells for history in histories for cells in _present_cells(history)]
    said = f"{len(histories)} searches: first compared with each other, then each by itself."
    if len(histories) == 2 and (gap := final_difference(histories[0], histories[1])):
        one, other = (f"'{history.name}'" for history in histories)
        said += (
            f" Top-1 on the test split, found network of {one} minus that of {other}: {in_points(gap.difference)}, "
            f"which {noise_verdict(gap.difference)}."
        )
    return joined([sentence(said), *([table(_FOUND, rows)] if rows else [])])


_FOUND = (
    *("search", "top-1 of its found network", "95% interval", "predicted latency, ms", "measured latency, ms"),
    *("target, ms", "multiply-adds, M", "parameters, M"),
)


def _present_cells(history: History) -> list[list[Cell]]:
    """The model that the user of a search had, where it has tested one."""
    result = history.present
    if result is None:
        return []
    low, high = wilson_interval(result.correct, result.total)
    measured = history.present_measured(history.served[0]) if history.served else None
    return [
        [
            f"{history.name}, {present_head(result)}",
            f"{result.correct / result.total:.2%} (test split)",
            f"{low:.2%} to {high:.2%}",
            "",
            "not measured" if measured is None else milliseconds(measured.measured_ms),
            *("", "", ""),
        ]
    ]


def _found_cells(history: History, trial: Trial) -> list[Cell]:
    """The network that a search ended with."""
    judged = history.judge.of_stage(trial.stage)
    top1: list[Cell] = [f"{share(trial.scores.top1)} ({judged})", ""]
    if trial.total:
        low, high = wilson_interval(trial.correct or 0, trial.total)
        top1 = [f"{(trial.correct or 0) / trial.total:.2%} (test split)", f"{low:.2%} to {high:.2%}"]
    measured = history.measured(trial, history.served[0]) if history.served else None
    return [
        *top1,
        milliseconds(trial.scores.latency_ms),
        "not measured" if measured is None else milliseconds(measured.measured_ms),
        milliseconds(history.record.require_start().target_ms),
        f"{trial.scores.madds / 1e6:.2f}",
        f"{trial.scores.params / 1e6:.3f}",
    ]


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
    *(
        "search",
        "state",
        "evaluations",
        "best top-1 within the target ({})",
        "its latency, ms",
        "best reward",
    ),
    "hypervolume",
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
    why = "as asked for" if chosen else "the largest target of the searches"
    said = (
        f"Common target: {milliseconds(target_ms)} ms, {why}. The best networks are those of block-level search and "
        "NetAdapt, and rewards are hard rewards for this target. Hypervolume: the share of a rectangle that the "
        f"networks cover, from guessing (top-1 {reference.top1:.3g}) at {milliseconds(reference.latency_ms)} ms to a "
        "perfect network at 0 ms. Each search is one draw of its seed, so a difference may be luck."
    )
    return joined(
        [
            sentence(said),
            table([head.format(ranked_on(histories)) for head in _STANDING], [_standing_row(each) for each in found]),
        ]
    )


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
        return [sentence("No search has trained a network within the common target yet.")]
    rows: list[list[Cell]] = [
        [name, share(by_evaluations), share(by_minutes)]
        for name, by_evaluations, by_minutes in zip(names, found.by_evaluations, found.by_core_minutes, strict=True)
    ]
    header = ("search", f"after {found.evaluations:,} evaluations", f"after {found.core_minutes:,.1f} core-minutes")
    said = (
        f"The best top-1 ({ranked_on(histories)}) among the networks within the common target, after as many "
        "evaluations, and after as many core-minutes, as the shortest search has. Evaluations need not cost the same, "
        "so core-minutes are the fairer measure."
    )
    shown = "The best so far over the whole of each search; the dashed line is where the shortest search ends."
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
    header = ("searches that differ only in their seeds", "with such a network", f"median {when}", "range")
    return [table(header, rows, breaks=True)]


def _finals(histories: Sequence[History]) -> list[Html]:
    rows: list[list[Cell]] = []
    for one, other in combinations(histories, 2):
        gap = final_difference(one, other)
        if gap is not None:
            difference = gap.difference
            interval = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
            clear = "yes" if difference.is_clear else "no, may be noise"
            rows.append(
                [f"{one.name} − {other.name}", f"{100 * difference.difference:+.2f}", interval, clear, gap.kind]
            )
    if not rows:
        return [sentence("No two of the searches have found networks that were tested on the same data.")]
    said = (
        "Top-1 of the found networks on the test split. Paired: compared image by image; unpaired: it is not recorded "
        "which images each network classified correctly, so the interval is wider. The interval covers the luck of the "
        "images, not that of the seeds."
    )
    return [
        sentence(said),
        table(("difference", "points of top-1 (test split)", "95% interval", "clear", "kind"), rows),
    ]


def _configs(histories: Sequence[History]) -> list[Html]:
    found = config_differences([history.record.config for history in histories])
    if not found:
        return [sentence("The configurations are the same.")]
    rows = [[key, *map(plain, values)] for key, values in found.items()]
    return [table(("key", *(history.name for history in histories)), rows, breaks=True)]
