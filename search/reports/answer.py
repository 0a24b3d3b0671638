"""What a search has come to, in a few sentences and a small table: how a page about it begins."""

from collections.abc import Iterator
from dataclasses import dataclass

from search.reports.comparison import trial_difference
from search.reports.headline import certainty, headline, other_baseline, relative_target
from search.reports.history import SEARCHED, History, Served
from search.reports.markdown import in_points, noise_verdict, target_outcome, target_share
from search.reports.naming import baseline_head, compared_with, published_in_words, reference_head, scaled_in_words
from search.reports.present import HAS_SEEN, beside_present, present_figures, present_head, times_beside_present
from search.trial import Origin, SearchStage, Trial
from trainer.training.metrics import Difference, wilson_interval

STAGES = {
    SearchStage.QUEUED: "waiting to begin",
    SearchStage.BLOCKS: "in the block-level search",
    SearchStage.NETADAPT: "in NetAdapt",
    SearchStage.FINAL: "in the final training",
    SearchStage.AWAITING: "awaiting certification: its final networks have yet to be measured on the device",
    SearchStage.DONE: "done",
}

_BEFORE = {
    "queued": "The search is waiting in the queue: nothing has been measured or trained yet.",
    "running": "The search is being started: nothing has been trained yet.",
    "stopped": "The search was stopped before it began: nothing has been trained.",
    "failed": "The search failed before it began: nothing has been trained.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Sentences, and a table with its header first; no table while there is no network to show."""

    sentences: tuple[str, ...]
    table: tuple[tuple[str, ...], ...] = ()


def answer(history: History) -> Answer:
    """The found network beside the reference; where there is none yet, how far the search has come."""
    found, reference = history.found, history.final_reference
    if found is None:
        return Answer(sentences=tuple(_standing(history)))
    config, shown, heads = history.record.config, [found], [str(Origin.FOUND)]
    if reference is not None:
        shown, heads = [*shown, reference], [*heads, reference_head(config, reference.architecture)]
    if (baseline := other_baseline(history)) is not None:
        shown, heads = [*shown, baseline], [*heads, baseline_head(config, baseline.architecture)]
    columns = [dict(_figures(history, trial)) for trial in shown]
    if history.present is not None:
        heads.append(present_head(history.present))
        columns.append(dict(present_figures(history)))
    rows = [(name, *(column.get(name, "") for column in columns)) for name in columns[0]]
    return Answer(sentences=tuple(_findings(history, found, reference)), table=(("", *heads), *rows))


def _standing(history: History) -> Iterator[str]:
    record, start = history.record, history.record.start
    if start is None:
        yield _BEFORE[record.state]
    else:
        where = STAGES[record.stage]
        stopped = f"It was {record.state} {where}." if record.state in ("stopped", "failed") else f"It is {where}."
        yield f"The search has found no network yet. {stopped}"
        yield _best_so_far(history, start.target_ms)
    if record.error:
        yield f"Error: {record.error}"


def _best_so_far(history: History, target_ms: float) -> str:
    trained, within = history.complete(*SEARCHED), history.within(target_ms)
    if not trained:
        return "No network has been trained yet."
    said = f"{len(trained):,} network{' has' if len(trained) == 1 else 's have'} been trained"
    is_measured = history.measures_candidates
    meet, latency = ("meeting", "latency") if is_measured else ("predicted to meet", "predicted latency")
    if not within:
        return f"{said}; none is {meet} the target of {target_ms:.3f} ms."
    best = within[0]
    judged = history.judge.of_stage(best.stage)
    return (
        f"{said}, {len(within):,} of them {meet} the target of {target_ms:.3f} ms. The most accurate of "
        f"these is that of trial {best.number}, with a top-1 of {best.scores.top1 or 0:.2%} ({judged}) and a "
        f"{latency} of {best.scores.latency_ms:.3f} ms."
    )


def _findings(history: History, found: Trial, reference: Trial | None) -> Iterator[str]:
    if (first := headline(history)) is not None:
        yield first
    other = compared_with(history.record.config)
    where = f" on '{history.served[0].device.name}'" if history.served else ""
    said = f"The found network has a top-1 of {_top1(history, found)} and takes {_time(history, found)}{where}"
    if reference is not None:
        known = published_in_words(history.record.config, reference.architecture)
        named = f"{other} ({known})" if known else other
        said += f"; the {named} has {_top1(history, reference)} and takes {_time(history, reference)}"
    yield f"{said}."
    judged = []
    for served in history.served:
        outcome = _outcome(history, served, found, reference)
        on = f" on '{served.device.name}'" if len(history.served) > 1 else ""
        judged.append(f"The target{on}, {_target(history, served, reference)}, is {outcome}." if outcome else "")
    if reference is not None and (gap := trial_difference((history, found), (history, reference))):
        judged.append(_difference(gap.difference))
    if (baseline := _baseline(history)) is not None:
        judged.append(baseline)
    if history.present is not None and (beside := beside_present(history)) is not None:
        judged.append(
            f"The difference to the present model, {history.present.name}, {in_points(beside.difference)}"
            f"{'' if beside.kind == 'paired' else ', not paired'}, {noise_verdict(beside.difference)}. {HAS_SEEN}"
        )
        judged += times_beside_present(history)
    if history.record.stage is SearchStage.AWAITING:
        judged.append(f"The search is {STAGES[SearchStage.AWAITING]}.")
    if any(judged):
        yield " ".join(filter(None, judged))
    if (sure := certainty(history)) is not None:
        yield sure


def _baseline(history: History) -> str | None:
    """The scaled reference, where it raced with the finalists and is not what was found."""
    baseline = other_baseline(history)
    if baseline is None:
        return None
    named = scaled_in_words(history.record.config, baseline.architecture)
    return f"The baseline, {named}, has a top-1 of {_top1(history, baseline)} and takes {_time(history, baseline)}."


def _difference(gap: Difference) -> str:
    return f"The difference in top-1, {in_points(gap)}, {noise_verdict(gap)}."


def _top1(history: History, trial: Trial) -> str:
    if trial.total:
        return f"{(trial.correct or 0) / trial.total:.2%} on the test split"
    return f"{trial.scores.top1 or 0:.2%} ({history.judge.of_stage(trial.stage)})"


def _time(history: History, trial: Trial) -> str:
    measured = history.measured(trial, history.served[0]) if history.served else None
    if measured is None:
        return f"{trial.scores.latency_ms:.3f} ms (predicted)"
    return f"{measured.measured_ms:.3f} ms (measured)"


def _target(history: History, served: Served, reference: Trial | None) -> str:
    relative = relative_target(history, served)
    if relative is None:
        return f"{served.target_ms:.3f} ms"
    return target_share(relative, _target_ms(history, served, reference), compared_with(history.record.config))


def _target_ms(history: History, served: Served, reference: Trial | None) -> float:
    """What the found network is to meet; see `target_share`."""
    relative = relative_target(history, served)
    measured = None if reference is None else history.measured(reference, served)
    return served.target_ms if relative is None or measured is None else relative * measured.measured_ms


def _outcome(history: History, served: Served, found: Trial, reference: Trial | None) -> str | None:
    """Whether a device's target is met; None where that device has not measured the network."""
    mine, other = (None if trial is None else history.measured(trial, served) for trial in (found, reference))
    if mine is None:
        return None
    if other is None:
        return target_outcome(served.target_ms, None, mine, mine)
    return target_outcome(served.target_ms, relative_target(history, served), mine, other)


def _figures(history: History, trial: Trial) -> Iterator[tuple[str, str]]:
    judged = history.judge.of_stage(trial.stage)
    if trial.total:
        low, high = wilson_interval(trial.correct or 0, trial.total)
        yield "top-1 (test split)", f"{(trial.correct or 0) / trial.total:.2%}"
        yield "its 95% interval", f"{low:.2%} to {high:.2%}"
    yield f"top-1 ({judged})", f"{trial.scores.top1 or 0:.2%}"
    yield from _latencies(history, trial)
    yield "multiply-adds", f"{trial.scores.madds / 1e6:.2f} M"
    yield "parameters", f"{trial.scores.params:,}"


def _latencies(history: History, trial: Trial) -> Iterator[tuple[str, str]]:
    """Prediction, measurement and target on each device; the target in the found network's column alone."""
    is_found = history.found is not None and trial.number == history.found.number
    if not history.served:
        yield "predicted latency, ms", f"{trial.scores.latency_ms:.3f}"
        if is_found:
            yield "target", f"{history.record.require_start().target_ms:.3f} ms: not measured"
    for served in history.served:
        on = f" on {served.device.name}" if len(history.served) > 1 else ""
        measured = history.measured(trial, served)
        if measured is not None:
            yield f"predicted latency{on}, ms", f"{measured.predicted_ms:.3f}"
            interval = f"{measured.low_ms:.3f} to {measured.high_ms:.3f}"
            yield f"measured latency{on}, ms", f"{measured.measured_ms:.3f} ({interval})"
        else:
            if not on:  # the record has other devices' predictions, a history has not
                yield "predicted latency, ms", f"{trial.scores.latency_ms:.3f}"
            yield f"measured latency{on}, ms", "not measured"
        if is_found:
            outcome = _outcome(history, served, trial, history.final_reference)
            target_ms = _target_ms(history, served, history.final_reference)
            yield f"target{on}", f"{target_ms:.3f} ms: {outcome or 'not measured'}"
