"""The sections about latency: NetAdapt's way to the target, predictions beside measurements, what others published."""

from collections.abc import Sequence

from search.record.devices import RecordedValidation
from search.reports.history import History
from search.reports.race import furthest
from search.trial import NetworkMeasurement, SearchStage
from service.report import search_figures as plots
from service.report.page import Cell, Html, Section, figure, section, sentence, table
from service.report.published import published
from service.report.subject import Subject, folded, top1_head
from service.terminal.wording import counted, milliseconds


def walk_sections(subject: Subject) -> list[Section]:
    """The layer-wise refinement step by step; none of a race, which has no such."""
    history, title = subject.history, "NetAdapt, step by step"
    steps, proposals = history.steps, furthest(history.complete(SearchStage.NETADAPT))
    if not steps and not proposals and history.setting("race.rungs"):
        return []
    if not steps:
        tried = f"has tried {counted(len(proposals), 'proposal')}, but has" if proposals else "has"
        return [subject.section("walk", title, sentence(f"NetAdapt {tried} taken no step."))]
    first, last, top1 = steps[0], steps[-1], top1_head(history, SearchStage.NETADAPT)
    said = (
        f"{counted(len(steps), 'step')} from {milliseconds(first.latency_before_ms)} ms and {first.top1_before:.2%} to "
        f"{milliseconds(last.latency_after_ms)} ms and {last.top1_after:.2%}, right to left: predicted latency and "
        f"{top1}. Each step takes the best of its proposals after a short fine-tuning, or several at once that nothing "
        "tells apart; top-1 may rise, since each step trains the network further."
    )
    rows = [
        [
            str(step.iteration),
            str(step.trial),
            step.narrowed,
            f"{milliseconds(step.latency_before_ms)} → {milliseconds(step.latency_after_ms)}",
            f"{step.top1_before:.2%} → {step.top1_after:.2%}",
            str(step.proposals),
        ]
        for step in steps
    ]
    listed = table(("step", "trial", "narrowed", "predicted latency, ms", top1, "proposals"), rows)
    drawn = plots.walk(history)
    return [subject.section("walk", title, figure(drawn, said), folded("All steps", listed))]


def latency_section(subject: Subject) -> Section:
    """How far predictions can be trusted on this device."""
    history, title = subject.history, "Predicted and measured latency"
    networks = _networks(history)
    groups = _validated(subject.validations)
    if not networks and not groups:
        return subject.section("latency", title, sentence("No whole network has been measured yet."))
    said = (
        "Whole networks: latency measured on the device against latency predicted from the latency table. Stars are "
        "the final networks of the search, with 95% intervals; circles come from validations of the table, corrected "
        "for the drift of the device since it was measured."
    )
    parts = [figure(plots.predicted_and_measured(groups, networks), said)]
    if networks:
        parts.append(_measured(networks))
    return subject.section("latency", title, *parts, *_agreement(subject.validations))


def _networks(history: History) -> list[tuple[str, NetworkMeasurement]]:
    """The measured networks by name, the newest measurement of each on each device."""
    found = []
    for trial in (each for each in history.trials if each.stage is SearchStage.FINAL):
        for device in history.served:
            if measured := history.measured(trial, device):
                on = f" on {device.device.name}" if len(history.served) > 1 else ""
                found.append((f"{trial.origin} (trial {trial.number}){on}", measured))
    return found


def _measured(networks: Sequence[tuple[str, NetworkMeasurement]]) -> Html:
    rows = [
        [
            name,
            milliseconds(each.predicted_ms),
            milliseconds(each.measured_ms),
            f"{milliseconds(each.low_ms)} to {milliseconds(each.high_ms)}",
            f"{each.predicted_ms / each.measured_ms - 1:+.1%}",
        ]
        for name, each in networks
    ]
    return table(
        ("network", "predicted latency, ms", "measured latency, ms", "its 95% interval", "error of the prediction"),
        rows,
    )


def _agreement(found: Sequence[RecordedValidation]) -> list[Html]:
    rows: list[list[Cell]] = []
    for each in found:
        if each.validation.networks:
            wall = each.validation.agreement("wall")
            shares = (f"{wall.mape:.1%}", f"{wall.within_5:.0%}", f"{wall.kendall_tau:.3f}")
            rows.append([f"validation {each.id}", str(wall.networks), *shares])
    header = ("validation of the table", "networks", "mean error", "within 5%", "Kendall's tau")
    return [table(header, rows)] if rows else []


def _validated(found: Sequence[RecordedValidation]) -> list[tuple[str, list[tuple[float, float, str]]]]:
    """Per validation its name, and (predicted, measured, architecture) of its networks."""
    groups = []
    for each in found:
        drift = each.validation.drift_wall
        points = [
            (network.predicted_wall_ms * drift, network.measured_wall_ms, network.architecture.arch_id)
            for network in each.validation.networks
        ]
        if points:
            load = ", under load" if each.validation.under_load else ""
            groups.append((f"validation {each.id}{load}", points))
    return groups


def published_section() -> Section:
    """What papers printed, apart from everything that was measured here."""
    rows = published()
    said = (
        "What papers and their authors' READMEs print for ImageNet and a Pixel 1. Neither the data nor the device is "
        "that of this search, so these figures cannot be compared with those above; they show how the families relate."
    )
    listed: list[list[Cell]] = [
        [
            row.title,
            f"{row.top1_pct:.1f}",
            "" if row.latency_ms is None else f"{row.latency_ms:g}",
            f"{row.madds_m:g}",
            f"{row.params_m:g}",
            row.source,
        ]
        for row in rows
    ]
    header = ("network", "ImageNet top-1, %", "Pixel 1, ms", "multiply-adds, M", "parameters, M", "source")
    drawn = plots.published_networks([row for row in rows if row.latency_ms is not None])
    in_full = folded("All rows with their sources", table(header, listed))
    return section("published", "Published networks (ImageNet, Pixel 1)", figure(drawn, said), in_full)
