"""Plots as HTML files that open offline."""

from pathlib import Path
from typing import Any

from latency.analysis.profile import Profile
from latency.analysis.validate import GROUPS, Validation
from space.errors import RunError


def _write(figure: Any, path: Path) -> None:  # noqa: ANN401 - plotly has no types
    try:
        # No button may send what is shown to somebody's cloud.
        config = {"showSendToCloud": False, "displaylogo": False}
        path.write_text(figure.to_html(include_plotlyjs=True, full_html=True, config=config), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; choose another --plot") from error


def predicted_against_measured(validation: Validation, title: str, path: Path) -> None:
    """Each network of a validation, predicted (drift taken out) against measured; the lines are ±5 %."""
    from plotly import graph_objects as go

    figure = go.Figure()
    measured = [network.measured_wall_ms for network in validation.networks]
    ends = [0.97 * min(measured), 1.03 * max(measured)]
    for factor, dash in ((1.0, "solid"), (1.05, "dot"), (0.95, "dot")):
        name = "equal" if factor == 1 else f"{factor - 1:+.0%}"
        line = {"color": "gray", "dash": dash, "width": 1}
        figure.add_scatter(x=ends, y=[factor * end for end in ends], mode="lines", name=name, line=line)
    for group in GROUPS:
        chosen = [network for network in validation.networks if network.group == group]
        if chosen:
            figure.add_scatter(
                x=[network.measured_wall_ms for network in chosen],
                y=[network.predicted_wall_ms * validation.drift_wall for network in chosen],
                mode="markers",
                name=group.replace("_", " "),
                text=[network.architecture.arch_id for network in chosen],
            )
    found = validation.agreement("wall")
    subtitle = (
        f"mean error {found.mape:.1%}, {found.within_5:.0%} within 5%, Kendall's tau {found.kendall_tau:.3f}, "
        f"{found.networks} networks"
    )
    figure.update_layout(
        title=f"{title}<br><sup>{subtitle}</sup>",
        xaxis_title="measured, ms (wall time, 10th percentile)",
        yaxis_title="predicted, ms",
        width=900,
        height=800,
        template="simple_white",
    )
    _write(figure, path)


def shares(found: Profile, title: str, path: Path) -> None:
    """What each block takes of a network's latency."""
    from plotly import graph_objects as go

    names = [f"{block.name}: {block.key}" for block in found.blocks]
    figure = go.Figure(go.Bar(x=[block.ms for block in found.blocks], y=names, orientation="h"))
    figure.update_layout(
        title=f"{title}<br><sup>{found.whole_ms:.3f} ms measured whole</sup>",
        xaxis_title="ms",
        yaxis={"autorange": "reversed"},
        width=1100,
        height=200 + 26 * len(names),
        template="simple_white",
        margin={"l": 420},
    )
    _write(figure, path)
