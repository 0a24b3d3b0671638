"""The figures about what networks chose and what it was good for."""

from collections.abc import Mapping, Sequence

from search.reports.choices import Importances
from search.trial import Trial
from service.report.figures import COLOURS, GREY, new_figure, safe, to_json

_BARS = 14
# So much of the way to the next choice the lines of one choice are spread over.
_SPREAD = 0.3


def importance(found: Sequence[tuple[str, Importances]]) -> str:
    """What each parameter explains by itself, for several outcomes beside each other; a line where chance ends."""
    from plotly.subplots import make_subplots

    shares = [{each.parameter: 100 * each.share for each in one.ranked} for _, one in found]
    most = {name: max(each.get(name, 0.0) for each in shares) for name in dict.fromkeys(n for s in shares for n in s)}
    names = sorted(most, key=lambda name: (-most[name], name))[:_BARS]
    figure = make_subplots(cols=len(found), shared_yaxes=True, subplot_titles=[title for title, _ in found])
    margin = {"l": 64, "r": 24, "t": 64, "b": 56}
    base = new_figure("", "", height=140 + 26 * len(names), showlegend=False, margin=margin)
    figure.update_layout(base.layout.to_plotly_json() | {"xaxis": {}, "yaxis": {}})
    for column, ((_, one), explained) in enumerate(zip(found, shares, strict=True), start=1):
        values = [max(0.0, explained.get(name, 0.0)) for name in names]
        chance = 100 * one.by_chance
        figure.add_bar(
            x=values,
            y=[safe(name) for name in names],
            orientation="h",
            marker={"color": [COLOURS[0] if value > chance else GREY for value in values]},
            hovertemplate="%{y}: %{x:.1f}%<extra></extra>",
            row=1,
            col=column,
        )
        figure.add_vline(x=chance, line={"color": COLOURS[4], "dash": "dash"}, row=1, col=column)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(title_text="explained, %", rangemode="tozero", automargin=True, zeroline=False)
    return to_json(figure)


def parallel(trials: Sequence[Trial], rewards: Mapping[int, float], names: Sequence[str]) -> str:
    """Networks as lines through their parameters, coloured by reward; the axes of numbers stand at the end."""
    figure = new_figure("", "", height=520, margin={"l": 72, "r": 72, "t": 88, "b": 32})
    figure.update_layout(xaxis=None, yaxis=None)
    # The best lines are drawn last, above the others, and each choice's bundle is in the order of reward, too.
    ranked = sorted(trials, key=lambda trial: (rewards[trial.number], trial.number))
    dimensions = [_choices(name, [(trial.params or {})[name] for trial in ranked]) for name in names]
    dimensions += [
        {"label": "latency, ms", "values": [trial.scores.latency_ms for trial in ranked]},
        {"label": "top-1, %", "values": [100 * (trial.scores.top1 or 0) for trial in ranked]},
    ]
    reward = [rewards[trial.number] for trial in ranked]
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": reward, "colorscale": "Viridis", "showscale": True, "colorbar": {"title": {"text": "reward"}}},
        labelangle=-20,
        labelside="top",
    )
    return to_json(figure)


def _choices(name: str, values: Sequence[object]) -> dict[str, object]:
    """An axis with a tick for each choice, around which the lines are spread in their order."""
    # By type as well: True is no 1.
    keyed = {(type(value).__name__, value) for value in values}
    choices = sorted(keyed, key=lambda key: (key[0], key[1] if isinstance(key[1], int | float) else 0, str(key[1])))
    place = {key: number for number, key in enumerate(choices)}
    last = max(1, len(values) - 1)
    return {
        "label": safe(name),
        "values": [
            place[type(value).__name__, value] + _SPREAD * (order / last - 0.5) for order, value in enumerate(values)
        ],
        "range": [-0.5, len(choices) - 0.5],
        "tickvals": list(range(len(choices))),
        "ticktext": [safe(_word(choice)) for _, choice in choices],
    }


def _word(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)
