"""Two searches compared, as plain values for programs and as tables for people."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from search.reports.comparison import (
    MISSING,
    Standing,
    at_equal,
    common_target,
    config_differences,
    final_difference,
    reference_point,
    standing,
    warnings,
)
from search.reports.history import History
from search.trial import SearchStage
from service.terminal.console import console, say
from service.terminal.wording import STAGES, milliseconds, states


def compared(histories: Sequence[History], target_ms: float | None) -> dict[str, Any]:
    """What differs between two searches, what each reached under one target, and what it cost; plain JSON.

    Raises:
        RunError: neither has begun.
    """
    first, second = histories
    target = common_target(histories) if target_ms is None else target_ms
    reference, equal = reference_point(histories, target), at_equal(histories, target)
    configs = config_differences([history.record.config for history in histories])
    return {
        "target_ms": target,
        "target_is": "the larger of both targets" if target_ms is None else "as asked for",
        "warnings": warnings(histories),
        "config": {key: list(values) for key, values in configs.items()},
        "reference_point": {"top1": reference.top1, "latency_ms": reference.latency_ms},
        "searches": [
            _plain(standing(history, target, reference)) | {"present": _present(history)} for history in histories
        ],
        "at_equal": {
            "evaluations": equal.evaluations,
            "top1_by_evaluations": list(equal.by_evaluations),
            "core_minutes": equal.core_minutes,
            "top1_by_core_minutes": list(equal.by_core_minutes),
        },
        "final_top1_difference": _difference(first, second),
    }


def _difference(first: History, second: History) -> dict[str, Any] | None:
    gap = final_difference(first, second)
    if gap is None:
        return None
    found = gap.difference
    # JSON knows no numpy.
    figures = {"difference": float(found.difference), "low": float(found.low), "high": float(found.high)}
    return {**figures, "is_clear": bool(found.is_clear), "kind": gap.kind, "images": list(gap.totals)}


def _plain(found: Standing) -> dict[str, Any]:
    best = found.best
    return {
        "name": found.name,
        "state": found.state,
        "evaluations": found.evaluations,
        "best": None
        if best is None
        else {
            "trial": best.number,
            "stage": best.stage.value,
            "top1": best.scores.top1,
            "latency_ms": best.scores.latency_ms,
            "arch_id": best.architecture.arch_id,
        },
        "reward": found.reward,
        "hypervolume": found.hypervolume,
        "trials": dict(found.counts),
        "images_seen": found.images_seen,
        "core_minutes": {**found.core_minutes, "all": found.all_core_minutes},
    }


def _present(history: History) -> dict[str, Any] | None:
    """The model that the user had, where the search has tested one; ms on its first device, null: not measured."""
    result = history.present
    if result is None:
        return None
    measured = history.present_measured(history.served[0]) if history.served else None
    return {
        "name": result.name,
        "test_top1": result.correct / result.total,
        "measured_ms": None if measured is None else measured.measured_ms,
    }


def plain(value: Any) -> str:  # noqa: ANN401 - any value of a configuration
    """A value of a configuration as it stands in a file."""
    return MISSING if value == MISSING else json.dumps(value, ensure_ascii=False)


def ranked_on(histories: Sequence[History]) -> str:
    """On which images, or by which evaluators, the networks of searches are ranked."""
    judged = (history.judge.of_stage(SearchStage.BLOCKS) for history in histories)
    return " or ".join(dict.fromkeys(judged))


def print_comparison(histories: Sequence[History], found: dict[str, Any]) -> None:
    """Print what `compared` found."""
    names = [history.name for history in histories]
    for line in found["warnings"]:
        say(f"Warning: {line}")
    if found["config"]:
        configs = [[key, *map(plain, values)] for key, values in found["config"].items()]
        _grid("configurations differ in", ["key", *names], configs)
    else:
        say("the configurations are the same")
    title = f"within {milliseconds(found['target_ms'])} ms, {found['target_is']}"
    _grid(title, ["", *names], _rows(found["searches"], found["at_equal"], ranked_on(histories)))
    reference = found["reference_point"]
    say(
        "hypervolume is the share of a rectangle that the networks cover, from guessing (top-1 "
        f"{reference['top1']:.3g}) at {milliseconds(reference['latency_ms'])} ms to a perfect network at 0 ms"
    )
    say(_difference_line(names, found["final_top1_difference"]))


def _rows(searches: Sequence[dict[str, Any]], equal: dict[str, Any], judged: str) -> list[list[str]]:
    bests = [each["best"] or {} for each in searches]
    minutes = [each["core_minutes"] for each in searches]

    def row(title: str, values: Iterable[Any], form: str = "{}") -> list[str]:
        return [title, *("none" if value is None else form.format(value) for value in values)]

    return [
        row("state", (each["state"] for each in searches)),
        row("trials", (states(each["trials"]) for each in searches)),
        row("evaluations", (each["evaluations"] for each in searches), "{:,}"),
        row(f"best top-1 ({judged})", (best.get("top1") for best in bests), "{:.2%}"),
        row("  its latency, ms", (best.get("latency_ms") for best in bests), "{:.4f}"),
        row("  its trial", (best.get("trial") for best in bests)),
        row(f"best top-1 after {equal['evaluations']:,} evaluations", equal["top1_by_evaluations"], "{:.2%}"),
        row(f"  after {equal['core_minutes']:,.1f} core-minutes", equal["top1_by_core_minutes"], "{:.2%}"),
        row("best reward (hard)", (each["reward"] for each in searches), "{:.4f}"),
        row("hypervolume", (each["hypervolume"] for each in searches), "{:.2%}"),
        row("images seen", (each["images_seen"] for each in searches), "{:,}"),
        *_present_rows(row, [each["present"] or {} for each in searches]),
        *(
            row(f"core-minutes, {STAGES.get(stage, stage)}", (each[stage] for each in minutes), "{:,.1f}")
            for stage in minutes[0]
        ),
    ]


def _present_rows(row: Callable[..., list[str]], present: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Of the models that users had, where there are some."""
    if not any(present):
        return []
    return [
        row("present model", (each.get("name") for each in present)),
        row("  its top-1 (test split)", (each.get("test_top1") for each in present), "{:.2%}"),
        row("  its measured latency, ms", (each.get("measured_ms") for each in present), "{:.4f}"),
    ]


def _difference_line(names: Sequence[str], found: dict[str, Any] | None) -> str:
    if found is None:
        return "top-1 on the test split: there are no two found networks that were tested on the same data"
    clear = "more than noise" if found["is_clear"] else "may be noise, since the interval includes zero"
    interval = f"95% interval {100 * found['low']:+.2f} to {100 * found['high']:+.2f}, {found['kind']}"
    return (
        f"top-1 of the found networks on the test split, {names[0]} − {names[1]}: {100 * found['difference']:+.2f} "
        f"percentage points ({interval}): {clear}; the interval covers the luck of the images, not that of the seeds"
    )


def _grid(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    say(f"{title}:")
    table = Table()
    for name in header:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
