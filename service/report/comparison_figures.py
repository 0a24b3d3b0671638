"""The figures that put several searches beside each other; the first two serve a single one as well."""

from collections.abc import Sequence

from search.reports.history import SEARCHED, Curve, History
from service.report.figures import (
    LATENCY,
    add_front,
    add_points,
    add_vertical,
    new_figure,
    percent,
    safe,
    steps_of,
    to_json,
    top1_title,
)


def best_by_cost(curves: Sequence[tuple[str, Curve, str]], limit: float | None) -> str:
    """The best top-1 within the target by core-minutes; each curve with its name and colour."""
    figure = new_figure("core-minutes spent so far", "best top-1 within the target so far, %")
    for name, curve, colour in curves:
        figure.add_scatter(
            x=list(curve.core_minutes), y=percent(curve.best), mode="lines", name=safe(name), line=steps_of(colour)
        )
    if limit is not None:
        add_vertical(figure, limit, "the shortest search ends")
    return to_json(figure)


def best_by_evaluations(curves: Sequence[tuple[str, Curve, str]], limit: int | None) -> str:
    """The best top-1 within the target by evaluations; each curve with its name and colour."""
    figure = new_figure("evaluations (trained networks)", "best top-1 within the target so far, %")
    for name, curve, colour in curves:
        order = list(range(1, curve.evaluations + 1))
        figure.add_scatter(x=order, y=percent(curve.best), mode="lines", name=safe(name), line=steps_of(colour))
    if limit is not None:
        add_vertical(figure, limit, "the shortest search ends")
    return to_json(figure)


def fronts(histories: Sequence[History], shades: Sequence[str], target_ms: float) -> str:
    """The fronts of several searches, each in its colour, with its networks behind it."""
    figure = new_figure(LATENCY.title, top1_title(*histories), height=520)
    for history, colour in zip(histories, shades, strict=True):
        trials = history.complete(*SEARCHED)
        add_points(figure, "", trials, {"color": colour, "size": 5, "opacity": 0.3}, showlegend=False)
        add_front(figure, safe(history.name), trials, colour)
    add_vertical(figure, target_ms, "common target")
    return to_json(figure)
