"""What all figures of reports are made with: plotly's JSON, in which whatever comes from the record is escaped."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from search.reports.history import History, front_of, latency_of, peak_bytes
from search.trial import SearchStage, Trial
from service.terminal.wording import milliseconds

# Okabe and Ito's colours, which colour-blind people can tell apart, without those too light or too dark for a page.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1", "#8a8a00")
GREY = "#8a939b"
_SHOWN = 80

Figure = Any  # plotly has no types


@dataclass(frozen=True, slots=True)
class Cost:
    """What networks cost, as an axis shows it."""

    title: str
    of: Callable[[Trial], float]


LATENCY = Cost("latency, ms (batch 1)", latency_of)
COSTS = {
    "latency_ms": LATENCY,
    "madds": Cost("multiply-adds of one image, M", lambda trial: trial.scores.madds / 1e6),
    "params": Cost("parameters, M", lambda trial: trial.scores.params / 1e6),
    "peak_bytes": Cost("peak memory of activations, KiB", lambda trial: peak_bytes(trial) / 1024),
}


def top1_title(*histories: History) -> str:
    """What an axis of top-1 shows; final networks are on the reward split whoever judged the others."""
    judges = {history.judge for history in histories}
    if len(judges) > 1:
        return "top-1 (each search by its own evaluator or split), %"
    (judge,) = judges
    if judge.evaluator is not None:
        return f"top-1 by {safe(judge.evaluator)}, %"
    figure = "balanced accuracy" if judge.balanced else "top-1"
    return f"{figure} on {'the reward split' if judge.folds == 1 else f'images in {judge.folds} folds'}, %"


def plotly_js() -> str:
    """The library that draws the figures, about 5 MB."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def safe(words: object) -> str:
    """Text of the record for a figure, which reads some tags."""
    shown = str(words)
    return html.escape(shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…")


def new_figure(x: str, y: str, *, height: int = 440, **layout: object) -> Figure:
    """An empty figure with these axis titles, without colours of its own for paper and text."""
    from plotly import graph_objects as go

    axis = {"automargin": True, "zeroline": False, "ticks": "outside"}
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "margin": {"l": 64, "r": 24, "t": 32, "b": 56},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 13},
            "hovermode": "closest",
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": {**axis, "title": {"text": x}},
            "yaxis": {**axis, "title": {"text": y}},
            **layout,
        }
    )


def to_json(figure: Figure) -> str:
    """What plotly.js draws a figure from."""
    return str(figure.to_json())


def hover(trial: Trial) -> str:
    """What the pointer shows of a trial."""
    scores, lines = trial.scores, [f"trial {trial.number}: {safe(trial.origin)}"]
    if trial.scores.top1 is not None:
        lines.append(f"top-1 {trial.scores.top1:.2%}{' (as ranked)' if trial.stage is SearchStage.FINAL else ''}")
    if trial.total:
        lines.append(f"top-1 {(trial.correct or 0) / trial.total:.2%} (test split)")
    lines.append(f"{milliseconds(scores.latency_ms)} ms")
    lines.append(f"{scores.madds / 1e6:.2f} M multiply-adds, {scores.params / 1e6:.3f} M parameters")
    lines.append(f"peak memory {peak_bytes(trial) / 1024:,.0f} KiB")
    return "<br>".join([*lines, trial.architecture.arch_id])


def add_points(
    figure: Figure,
    name: str,
    trials: Sequence[Trial],
    marker: dict[str, object],
    cost: Cost = LATENCY,
    **more: object,
) -> None:
    """Trials as points, top-1 in % over a cost; nothing where there are none."""
    if trials:
        figure.add_scatter(
            x=[cost.of(trial) for trial in trials],
            y=[100 * (trial.scores.top1 or 0) for trial in trials],
            mode="markers",
            name=name,
            text=[hover(trial) for trial in trials],
            hoverinfo="text",
            marker=marker,
            **more,
        )


def add_front(figure: Figure, name: str, trials: Sequence[Trial], colour: str, cost: Cost = LATENCY) -> None:
    """The Pareto front as a line of steps: what is to be had at each cost."""
    front = front_of(trials, cost.of)
    if front:
        figure.add_scatter(
            x=[cost.of(trial) for trial in front],
            y=[100 * (trial.scores.top1 or 0) for trial in front],
            mode="lines+markers",
            name=name,
            line={"shape": "hv", "color": colour, "width": 2},
            marker={"color": colour, "size": 9},
            text=[hover(trial) for trial in front],
            hoverinfo="text",
        )


def add_vertical(figure: Figure, x: float, name: str, dash: str = "dash") -> None:
    """A named line at one latency or cost."""
    figure.add_vline(x=x, line={"color": GREY, "width": 1.5, "dash": dash})
    figure.add_annotation(x=x, y=1, yref="paper", text=name, showarrow=False, textangle=-90, xshift=9, yanchor="top")


def steps_of(colour: str, **more: object) -> dict[str, object]:
    """A line that holds a value until the next one."""
    return {"shape": "hv", "color": colour, "width": 2.5, **more}


def percent(values: Sequence[float | None]) -> list[float | None]:
    """Shares in %."""
    return [None if value is None else 100 * value for value in values]


def colours(count: int) -> list[str]:
    """A colour for each search; they come round again after eight."""
    return [COLOURS[number % len(COLOURS)] for number in range(count)]
