"""The figures about one search."""

from collections.abc import Sequence

from search.record.rows import SearchStart
from search.reports.headline import other_baseline, relative_target
from search.reports.history import History
from search.reports.naming import compared_with, published_in_words
from search.reports.race import furthest
from search.trial import MeasuredWhole, NetworkMeasurement, Origin, SearchStage, Trial
from service.report.figures import (
    COLOURS,
    GREY,
    LATENCY,
    Cost,
    Figure,
    add_front,
    add_points,
    add_vertical,
    colours,
    hover,
    new_figure,
    percent,
    safe,
    steps_of,
    to_json,
    top1_title,
)
from service.report.published import Published
from trainer.training.metrics import wilson_interval

# Networks that no sampler proposed: a symbol and its size.
_MARKS = {
    Origin.REFERENCE: ("diamond", 13),
    Origin.START: ("diamond-wide", 13),
    Origin.ENQUEUED: ("triangle-up", 11),
    Origin.ADOPTED: ("triangle-down", 8),
}


def pareto(history: History, cost: Cost = LATENCY) -> str:
    """Every trained network of a search, the front, the reference, and what the search aimed at."""
    figure = new_figure(cost.title, top1_title(history), height=520)
    trained = history.complete(SearchStage.BLOCKS)
    sampled = [trial for trial in trained if trial.origin not in _MARKS]
    add_points(figure, "block-level search", sampled, {"color": COLOURS[0], "size": 7, "opacity": 0.45}, cost)
    walked = history.complete(SearchStage.NETADAPT)
    add_points(figure, "NetAdapt", walked, {"color": COLOURS[1], "size": 7, "opacity": 0.6, "symbol": "square"}, cost)
    add_front(figure, "Pareto front", history.compared_alike(), COLOURS[4], cost)
    for origin, (symbol, size) in _MARKS.items():
        chosen = [trial for trial in trained if trial.origin == origin]
        add_points(figure, origin, chosen, {"color": COLOURS[3], "size": size, "symbol": symbol}, cost)
        for trial in chosen:
            _label(figure, trial, published_in_words(history.record.config, trial.architecture), cost)
    finals = {"size": 15, "symbol": "star", "color": COLOURS[2]}
    add_points(figure, "final training (longer)", history.complete(SearchStage.FINAL), finals, cost)
    if cost is LATENCY:
        _targets(figure, history.record.require_start())
    return to_json(figure)


def finals(history: History) -> str | None:
    """Found network and reference, and the reference scaled by its width, as tested and measured; None before that."""
    found, reference = history.found, history.final_reference
    if found is None or reference is None or not history.served:
        return None
    device, figure = history.served[0], new_figure("measured latency, ms (batch 1)", "top-1 on the test split, %")
    baseline = other_baseline(history)
    curve = [reference] if baseline is None else [baseline, reference]
    measured = {trial.number: history.measured(trial, device) for trial in (found, *curve)}
    if not all(measured.values()) or not all(trial.total for trial in (found, *curve)):
        return None
    for name, trials, colour, symbol in (
        (
            f"the {compared_with(history.record.config)}{' at its widths' if len(curve) > 1 else ''}",
            sorted(curve, key=lambda trial: trial.number),
            COLOURS[3],
            "diamond",
        ),
        ("found network", [found], COLOURS[2], "star"),
    ):
        tested = [
            (trial.correct or 0, trial.total or 1, each)
            for trial in trials
            if (each := measured[trial.number]) is not None
        ]
        _tested(figure, name, tested, {"color": colour, "symbol": symbol, "size": 15})
    if (present := history.present) is not None and (took := history.present_measured(device)) is not None:
        marker: dict[str, object] = {"color": COLOURS[1], "symbol": "square", "size": 13}
        _tested(figure, safe(f"present model: {present.name}"), [(present.correct, present.total, took)], marker)
    relative = relative_target(history, device)
    slowest = measured[reference.number]
    assert slowest is not None
    add_vertical(figure, device.target_ms if relative is None else relative * slowest.measured_ms, "target")
    return to_json(figure)


def _tested(
    figure: Figure,
    name: str,
    tested: Sequence[tuple[int, int, MeasuredWhole]],
    marker: dict[str, object],
) -> None:
    """Networks as they were tested (images right, images) and measured, with the 95 % intervals of both."""
    times = [each for _, _, each in tested]
    shares = [correct / total for correct, total, _ in tested]
    bounds = [wilson_interval(correct, total) for correct, total, _ in tested]
    figure.add_scatter(
        x=[each.measured_ms for each in times],
        y=percent(shares),
        mode="lines+markers",
        name=name,
        marker=marker,
        line={"dash": "dot", "color": marker["color"]},
        hovertemplate="%{x:.4g} ms, top-1 %{y:.2f}%<extra>" + name + "</extra>",
        error_x=_bars(
            [each.high_ms - each.measured_ms for each in times], [each.measured_ms - each.low_ms for each in times]
        ),
        error_y=_bars(
            [100 * (high - share) for share, (_, high) in zip(shares, bounds, strict=True)],
            [100 * (share - low) for share, (low, _) in zip(shares, bounds, strict=True)],
        ),
    )


def _bars(above: Sequence[float], below: Sequence[float]) -> dict[str, object]:
    return {"type": "data", "symmetric": False, "array": list(above), "arrayminus": list(below), "thickness": 1}


def _targets(figure: Figure, start: SearchStart) -> None:
    add_vertical(figure, start.target_ms, "target")
    if start.seed_target_ms != start.target_ms:
        add_vertical(figure, start.seed_target_ms, "seed target", "dot")


def _label(figure: Figure, trial: Trial, name: str | None, cost: Cost) -> None:
    if name is not None:
        top1 = 100 * (trial.scores.top1 or 0)
        figure.add_annotation(x=cost.of(trial), y=top1, text=safe(name), showarrow=False, yshift=-16)


def rewards(history: History) -> str:
    """Each block-level trial's reward, and the best so far."""
    figure = new_figure("block-level trials, in the order in which they ended", "reward")
    trials = history.evaluated(SearchStage.BLOCKS)
    found = [history.rewards.get(trial.number) for trial in trials]
    order = list(range(1, len(trials) + 1))
    figure.add_scatter(
        x=order,
        y=found,
        mode="markers",
        name="reward of a trial",
        text=[f"{hover(trial)}<br>reward {reward or 0:.4f}" for trial, reward in zip(trials, found, strict=True)],
        hoverinfo="text",
        marker={"color": COLOURS[0], "size": 7, "opacity": 0.5},
    )
    best = list(history.reward_curve().best)
    figure.add_scatter(x=order, y=best, mode="lines", name="best so far", line=steps_of(COLOURS[4]))
    return to_json(figure)


def walk(history: History) -> str:
    """NetAdapt's steps, from slow on the right to fast on the left, with all that was proposed."""
    steps, proposals = history.steps, furthest(history.complete(SearchStage.NETADAPT))
    figure = new_figure(LATENCY.title, top1_title(history))
    accepted = {step.trial for step in steps}
    add_points(
        figure,
        "proposals not taken",
        [trial for trial in proposals if trial.number not in accepted],
        {"color": GREY, "size": 6, "symbol": "square-open"},
    )
    first = steps[0]
    figure.add_scatter(
        x=[first.latency_before_ms, *(step.latency_after_ms for step in steps)],
        y=percent([first.top1_before, *(step.top1_after for step in steps)]),
        mode="lines+markers",
        name="steps taken",
        text=["start", *(f"step {step.iteration}: {safe(step.narrowed)} (trial {step.trial})" for step in steps)],
        hovertemplate="%{text}<br>%{x:.4g} ms, top-1 %{y:.2f}%<extra></extra>",
        line={"color": COLOURS[1], "width": 2},
        marker={"size": 8},
    )
    add_vertical(figure, history.record.require_start().target_ms, "target")
    return to_json(figure)


def predicted_and_measured(
    groups: Sequence[tuple[str, Sequence[tuple[float, float, str]]]], networks: Sequence[tuple[str, NetworkMeasurement]]
) -> str:
    """Whole networks, (predicted, measured, name) in ms by group, and those of the search with their intervals."""
    figure = new_figure("predicted latency, ms", "measured latency, ms (whole network, batch 1)", height=480)
    predicted = [x for _, points in groups for x, _, _ in points] + [each.predicted_ms for _, each in networks]
    ends = [0.97 * min(predicted), 1.03 * max(predicted)]
    for factor, dash, name in ((1.0, "solid", "equal"), (1.05, "dot", "±5%"), (0.95, "dot", "")):
        line = {"color": GREY, "dash": dash, "width": 1}
        measured = [factor * end for end in ends]
        figure.add_scatter(
            x=ends, y=measured, mode="lines", name=name, line=line, showlegend=bool(name), hoverinfo="skip"
        )
    for (name, points), colour in zip(groups, colours(len(groups)), strict=True):
        figure.add_scatter(
            x=[x for x, _, _ in points],
            y=[y for _, y, _ in points],
            mode="markers",
            name=safe(name),
            text=[safe(what) for _, _, what in points],
            hovertemplate="%{text}<br>predicted %{x:.4g} ms, measured %{y:.4g} ms<extra></extra>",
            marker={"color": colour, "size": 7, "opacity": 0.6},
        )
    for name, each in networks:
        figure.add_scatter(
            x=[each.predicted_ms],
            y=[each.measured_ms],
            error_y={"array": [each.high_ms - each.measured_ms], "arrayminus": [each.measured_ms - each.low_ms]},
            mode="markers",
            name=safe(name),
            marker={"size": 13, "symbol": "star", "color": COLOURS[4] if name.startswith("found") else COLOURS[3]},
        )
    return to_json(figure)


def published_networks(rows: Sequence[Published]) -> str:
    """ImageNet top-1 over the latency on a Pixel 1, a line for each family."""
    figure = new_figure("latency on a Pixel 1, ms (as printed)", "ImageNet top-1, %")
    families = sorted({row.model for row in rows})
    for family, colour in zip(families, colours(len(families)), strict=True):
        chosen = sorted((row for row in rows if row.model == family), key=lambda row: row.latency_ms or 0)
        figure.add_scatter(
            x=[row.latency_ms for row in chosen],
            y=[row.top1_pct for row in chosen],
            mode="markers",
            name=family,
            text=[row.title for row in chosen],
            hovertemplate="%{text}<br>%{x} ms, top-1 %{y}%<extra></extra>",
            marker={"size": 9, "color": colour},
        )
    return to_json(figure)
