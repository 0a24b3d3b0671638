"""report.md: what was found, beside the reference, with how sure one can be."""

from pathlib import Path

from search.config.load import NO_DATA
from search.objective.latency import Goal
from search.reports.headline import certainty, headline
from search.reports.history import History
from search.reports.naming import (
    baseline_head,
    compared_with,
    how_finals_began,
    reference_head,
    scaled_in_words,
)
from search.reports.present import HAS_SEEN, beside_present, present_figures, present_head, times_beside_present
from search.reports.race import rungs_of
from search.reports.recorded_search import RecordedSearch
from search.reports.signals import first_look
from search.run_folder import CERTIFY_KIT, SPEC
from search.trial import NetworkMeasurement, Origin, SearchStage, State, Trial
from trainer.training.metrics import Difference, wilson_interval

# The device then ran otherwise than when the table was measured; both figures are shown, and this is said.
NOTABLE_ERROR = 0.05
# Measurements of one network repeat to about this share.
PRECISION = 0.01


def write_report(recorded: RecordedSearch) -> Path:
    """Write report.md into the run folder."""
    path = recorded.files.report
    path.write_text(render(recorded), encoding="utf-8")
    return path


def comparison(recorded: RecordedSearch) -> list[list[str]]:
    """The table of the final networks: a header row, then one row per figure."""
    config, baseline = recorded.record.config, recorded.baseline
    _, reference = recorded.both()
    columns = [_figures(recorded, trial) for trial in recorded.certified()]
    heads = [Origin.FOUND, reference_head(config, reference.architecture)]
    if baseline is not None:
        heads.append(baseline_head(config, baseline.architecture))
    if (history := _with_present(recorded)) is not None and history.present is not None:
        heads.append(present_head(history.present))
        columns.append(dict(present_figures(history)))
    return [["", *heads], *([name, *(column.get(name, "") for column in columns)] for name in columns[0])]


def _figures(recorded: RecordedSearch, trial: Trial) -> dict[str, str]:
    assert trial.correct is not None
    assert trial.total is not None
    low, high = wilson_interval(trial.correct, trial.total)
    return {
        "top-1 (test split)": f"{trial.correct / trial.total:.2%}",
        "its 95% interval": f"{low:.2%} to {high:.2%}",
        **_balanced(recorded, trial),
        **_latency_figures(recorded, trial),
        "multiply-adds": f"{trial.scores.madds / 1e6:.2f} M",
        "parameters": f"{trial.scores.params:,}",
        "training images seen": f"{trial.images_seen:,}",
        "architecture": trial.architecture.arch_id,
    }


def _balanced(recorded: RecordedSearch, trial: Trial) -> dict[str, str]:
    """Balanced accuracy, where one class is so frequent that top-1 hides the others."""
    facts = recorded.start.data_facts
    if facts is None or not (facts.is_uneven or recorded.config.judge.balanced):
        return {}
    return {"balanced accuracy (test split)": f"{facts.balanced_accuracy(recorded.right(trial)):.2%}"}


def _latency_figures(recorded: RecordedSearch, trial: Trial) -> dict[str, str]:
    """Predicted and measured, on each device."""
    if not recorded.devices:
        return {"predicted latency, ms": f"{trial.scores.latency_ms:.3f}", "measured latency, ms": "not measured"}
    rows: dict[str, str] = {}
    for device in recorded.devices:
        on = f" on {device.name}" if len(recorded.devices) > 1 else ""
        measured = recorded.measurements(device).get(trial.number)
        rows[f"predicted latency{on}, ms"] = f"{recorded.predicted_ms(trial, device):.3f}"
        rows[f"measured latency{on}, ms"] = (
            f"{measured.measured_ms:.3f} ({measured.low_ms:.3f} to {measured.high_ms:.3f})"
            if measured
            else "not measured"
        )
        if measured:
            rows[f"median latency{on}, ms"] = f"{measured.median_ms:.3f}"
    return rows


def verdict(recorded: RecordedSearch) -> list[str]:
    """The findings in sentences: accuracy, latency, target."""
    found, _ = recorded.both()
    gap, other = recorded.difference(), compared_with(recorded.record.config)
    images = f"the same {found.total:,} images of the test split"
    lines = [f"{difference_sentence(gap, other, images)}.", *_beside_the_baseline(recorded, images)]
    if (facts := recorded.start.data_facts) is not None:
        lines += [f"Data: {warning}." for warning in facts.warnings()]
        name, share = facts.largest
        if wilson_interval(found.correct or 0, found.total or 1)[0] <= share:
            lines.append(
                f"The found network may do no better than to name class {name!r} always, which has {share:.2%} of the "
                "test split; look at the labels (mobilenas data check), or train on more images."
            )
    if not recorded.devices:
        lines.append(
            f"Latency is predicted by {recorded.config.latency}, not measured: {found.scores.latency_ms:.3f} ms, for a "
            f"target of {recorded.start.target_ms:.3f} ms."
        )
    for device in recorded.devices:
        lines += (
            _measured_verdict(recorded, device)
            if recorded.measurements(device)
            else _predicted_verdict(recorded, device)
        )
    lines += _beside_the_present(recorded, images)
    return [*lines, *(recorded.warnings() if recorded.is_certified else [])]


def _beside_the_baseline(recorded: RecordedSearch, images: str) -> list[str]:
    """What the search brought over what one would have had without it."""
    config, baseline = recorded.record.config, recorded.baseline
    if recorded.found_is_known:
        named = scaled_in_words(config, recorded.found.architecture)
        over = "the reference itself" if _is_reference(recorded) else "scaling the reference"
        return [
            f"The found network is {named}, which was the best of the finalists: the search brought nothing over "
            f"{over}; more images or more networks may."
        ]
    if baseline is None:
        return []
    named = f"baseline ({scaled_in_words(config, baseline.architecture)})"
    return [f"{difference_sentence(recorded.difference(baseline), named, images)}."]


def _is_reference(recorded: RecordedSearch) -> bool:
    found, reference = recorded.both()
    return found.architecture == reference.architecture


def _with_present(recorded: RecordedSearch) -> History | None:
    """The search with the model that its user had named, if there is one."""
    if recorded.config.present.sha256 is None:
        return None
    return History.read(recorded.store, recorded.record.name)


def _beside_the_present(recorded: RecordedSearch, images: str) -> list[str]:
    """What the search brought over the model that the user has."""
    history = _with_present(recorded)
    if history is None or history.present is None or (gap := beside_present(history)) is None:
        return []
    result = history.present
    how = images if gap.kind == "paired" else f"{images}, not paired"
    named = f"present model, {result.name}"
    return [f"{difference_sentence(gap.difference, named, how)}. {HAS_SEEN}", *times_beside_present(history)]


def difference_sentence(gap: Difference, other: str, images: str) -> str:
    """How much more accurate the found network is than `other`, and whether that may be noise; without a full stop."""
    clear = "more" if gap.difference > 0 else "less"
    meant = f"the found network is {clear} accurate"
    if not gap.is_clear:
        meant = "the difference may be noise, since the interval includes zero"
        if gap.images:
            meant += f"; to see one of 1 point takes some {_round(gap.images_to_see(0.01)):,} such images"
    return f"Top-1 of the found network minus that of the {other}, on {images}: {in_points(gap)}; {meant}"


def _round(count: int) -> int:
    """To two digits: it is known no better."""
    return round(count, 2 - len(str(count)))


def in_points(gap: Difference) -> str:
    """A difference of shares with its interval."""
    found, low, high = (f"{100 * value:+.2f}" for value in (gap.difference, gap.low, gap.high))
    return f"{found} percentage points (95% interval {low} to {high})"


def noise_verdict(gap: Difference) -> str:
    """Whether luck alone may have made a difference: how a sentence about it ends."""
    return "is more than noise" if gap.is_clear else "may be noise"


def _predicted_verdict(recorded: RecordedSearch, device: Goal) -> list[str]:
    found, reference = (recorded.predicted_ms(trial, device) for trial in recorded.both())
    return [
        f"Latency is predicted, not measured: {found:.3f} ms, {found / reference:.1%} of that of the "
        f"{compared_with(recorded.record.config)}, for a target of {device.target_ms:.3f} ms. To measure both networks "
        f"on '{device.name}', unzip {CERTIFY_KIT}, which lies beside this report, run its measure.py there, then: "
        f"mobilenas certify {recorded.record.name} --import results.json",
    ]


def _measured_verdict(recorded: RecordedSearch, device: Goal) -> list[str]:
    found, reference = recorded.both()
    measured = recorded.measurements(device)
    mine, theirs = measured[found.number], measured[reference.number]
    share = mine.measured_ms / theirs.measured_ms
    on = f"On '{device.name}', measured" if len(recorded.devices) > 1 else "Measured"
    other = compared_with(recorded.record.config)
    lines = [
        f"{on} side by side, the found network takes {share:.1%} of the time of the {other}.",
        _target_line(device.target_ms, recorded.config.devices[device.name].relative, (mine, theirs), other),
    ]
    worst = max((mine, theirs), key=lambda row: abs(row.measured_ms / row.predicted_ms - 1))
    error = worst.measured_ms / worst.predicted_ms - 1
    if abs(error) > NOTABLE_ERROR:
        lines.append(
            f"Measured latency differs from the prediction by {error:+.1%}: the device no longer runs as it did when "
            "its latency table was measured (load, clock frequency, temperature). Both networks were timed in turns, "
            "so the ratio of their latencies holds."
        )
    return lines


def _target_line(
    target_ms: float, relative: float | None, measured: tuple[NetworkMeasurement, NetworkMeasurement], other: str
) -> str:
    found, reference = measured
    meant = (
        f"{target_ms:.3f} ms" if relative is None else target_share(relative, relative * reference.measured_ms, other)
    )
    outcome = target_outcome(target_ms, relative, *measured)
    return (
        f"Target {meant}: predicted {found.predicted_ms:.3f} ms, measured {found.measured_ms:.3f} ms; target {outcome}."
    )


def target_share(relative: float, ms: float, other: str) -> str:
    """A relative target: `ms` is that share of the other network's latency as measured beside the found one, if it was.

    That is what the found network must meet, whatever the other was predicted to take.
    """
    return f"{relative:.0%} of the {other}'s latency ({ms:.3f} ms)"


def target_outcome(
    target_ms: float, relative: float | None, found: NetworkMeasurement, reference: NetworkMeasurement
) -> str:
    """Whether a target was met: in ms, or as the share of the reference that was asked for."""
    share = found.measured_ms / reference.measured_ms
    reached, asked = (found.measured_ms, target_ms) if relative is None else (share, relative)
    gap = reached / asked - 1
    # A tenth of a percent over is no miss: repeated measurements differ by more.
    if abs(gap) <= PRECISION:
        return "just met"
    return f"met with {-gap:.1%} to spare" if gap < 0 else f"missed by {gap:.1%}"


def _markdown(rows: list[list[str]]) -> list[str]:
    header, *body = rows
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body)]


def _walk(recorded: RecordedSearch) -> list[str]:
    steps = recorded.store.trials.steps(recorded.record.id)
    judged = recorded.config.judge.of_stage(SearchStage.NETADAPT)
    rows = [["step", "narrowed", "predicted latency, ms", f"top-1 ({judged})", "proposals"]]
    rows.extend(
        [
            str(step.iteration),
            step.narrowed,
            f"{step.latency_before_ms:.3f} → {step.latency_after_ms:.3f}",
            f"{step.top1_before:.2%} → {step.top1_after:.2%}",
            str(step.proposals),
        ]
        for step in steps
    )
    found = recorded.found.architecture
    walked = recorded.trial(steps[-1].trial) if steps else None
    if walked is not None and walked.architecture == found:
        return _markdown(rows)
    if recorded.found_is_known:
        which = "reference itself" if _is_reference(recorded) else "reference scaled to the target"
        return [f"The found network is the {which}, which no search is needed for."]
    tried = [*recorded.trials(SearchStage.NETADAPT), *recorded.trials(SearchStage.BLOCKS)]
    mine = [trial for trial in tried if trial.architecture == found and trial.state is State.COMPLETE]
    # Of a race its last rung; of a walk the look on the most images.
    taken = mine[-1] if recorded.config.races else max(mine, key=lambda trial: trial.images_seen)
    in_blocks = "the race" if recorded.config.races else "the block-level search"
    where = "NetAdapt" if taken.stage is SearchStage.NETADAPT else in_blocks
    said = f"The found network is that of trial {taken.number} of {where}: {_in_short(recorded, taken, judged)}"
    if walked is None:
        return [
            f"{said}{_trained_on_by(recorded)}."
            if recorded.config.races
            else f"{said}. It met the target without NetAdapt."
        ]
    return [*_markdown(rows), "", f"{said}. NetAdapt ended with {_in_short(recorded, walked, judged)}."]


def _race(recorded: RecordedSearch) -> list[str]:
    """Who was in the race, when they left it, and how far apart the last ones were."""
    config = recorded.record.config
    rungs = [rung for rung in rungs_of(config, recorded.all_trials) if rung.ended]
    if not rungs:
        return []
    rows = [["trained on images", "networks", "best log-likelihood", "worst", "top-1 of the best"]]
    for rung in rungs:
        best, worst = rung.ended[0], rung.ended[-1]
        rows.append(
            [
                f"{rung.images:,}" if rung.images else "none (supernet)",
                str(len(rung.ended)),
                *(f"{each.scores.log_likelihood or 0:.4f}" for each in (best, worst)),
                f"{best.scores.top1 or 0:.2%}{_within(recorded, best)}",
            ]
        )
    judged = recorded.config.judge.images
    finals = [["finalist", "latency, ms", "log-likelihood", "top-1"]]
    finals += [
        [
            _finalist_in_words(recorded, trial),
            f"{recorded.latency_before(trial):.3f}",
            f"{trial.scores.log_likelihood or 0:.4f}",
            f"{trial.scores.top1 or 0:.2%}{_within(recorded, trial)}",
        ]
        for trial in recorded.finalists
    ]
    return [
        "## The race",
        "",
        f"The best of each row go on to the next one; all are judged on images that they do not train on ({judged}).",
        "",
        *_markdown(rows),
        "",
        *([*_markdown(finals), ""] if len(finals) > 1 else []),
    ]


def _within(recorded: RecordedSearch, trial: Trial) -> str:
    interval = recorded.reward_interval(trial)
    return "" if interval is None else f" (95%: {interval[0]:.2%} to {interval[1]:.2%})"


def _finalist_in_words(recorded: RecordedSearch, trial: Trial) -> str:
    named = f"trial {trial.number}"
    if trial.origin != Origin.CANDIDATE:
        named += f", {scaled_in_words(recorded.record.config, trial.architecture)}"
    elif trial.parent is not None:
        named += f", in the race trial {trial.parent}"
    return f"**{named}: found**" if trial.number == recorded.found.parent else named


def _trained_on_by(recorded: RecordedSearch) -> str:
    chosen = None if recorded.found.parent is None else recorded.trial(recorded.found.parent)
    if chosen is None or chosen.stage is not SearchStage.FINAL:
        return ""
    return f"; as a finalist it is trial {chosen.number}"


def _in_short(recorded: RecordedSearch, trial: Trial, judged: str) -> str:
    # The candidates of a race may have been measured.
    how = "" if recorded.config.races else " predicted"
    top1 = f"{trial.scores.top1 or 0:.2%}{_within(recorded, trial)}"
    return f"top-1 {top1} ({judged}), {trial.scores.latency_ms:.3f} ms{how}"


def _counts(trials: list[Trial]) -> str:
    return ", ".join(
        f"{count} {state.value}"
        for state in (State.COMPLETE, State.STOPPED, State.PRUNED, State.FAILED)
        if (count := sum(trial.state is state for trial in trials))
    )


def _provenance(recorded: RecordedSearch) -> list[str]:
    by_table = " at the conditions of the latency table" if recorded.devices else ""
    return [
        f"- search: `{recorded.record.name}`, seed {recorded.config.seed}",
        f"- target: {recorded.start.target_ms:.3f} ms{by_table}; the block-level search aimed at "
        f"{recorded.start.seed_target_ms:.3f} ms, the seed target",
        f"- top-1: {_data_text(recorded)}",
        *(_device_text(device) for device in recorded.devices),
        "- latencies: batch 1, steady state, 10th percentile of wall time, with 95% intervals"
        if recorded.devices
        else f"- latencies: predicted by {recorded.config.latency}",
        *([f"- {_first_look(recorded)}"] if recorded.config.races else []),
        f"- block-level trials: {_counts(recorded.trials(SearchStage.BLOCKS))}; "
        f"NetAdapt trials: {_counts(recorded.trials(SearchStage.NETADAPT)) or 'none'}",
    ]


def _first_look(recorded: RecordedSearch) -> str:
    """What the race's first choices are worth, as far as anybody knows."""
    if recorded.config.looks_first:
        return (
            "How well the weights that networks share order them was not looked into on these data. Where it was, on "
            "Fashion-MNIST, they ordered networks of one latency worse than chance: the race's later trainings decide."
        )
    known = first_look(recorded)
    if known is not None:
        return known.sentence
    images = recorded.config.race.rungs[0].images
    return (
        f"How well networks are told apart after {images:,} images was not looked into on these data, in this space "
        "and by these recipes; `mobilenas proxy-quality --config RUN.yaml` does that."
    )


def _data_text(recorded: RecordedSearch) -> str:
    use, evaluator = recorded.config.data, recorded.config.own_evaluator
    if use.source == NO_DATA:
        return f"by {evaluator}"
    if recorded.config.folds > 1:
        ranked = (
            "during the search on all images but the test split's, each by networks that were trained without it "
            f"({recorded.config.folds} folds); the final networks were then trained on all of these"
        )
    elif evaluator:
        ranked = f"by {evaluator} during the search"
    else:
        ranked = (
            f"during the search on {use.reward_images:,} images of the reward split, which is held out of the "
            "training split" + (", by the weights of a supernet" if recorded.config.looks_first else "")
        )
    return (
        f"{ranked}; in the table above on the test split, which was used once; data `{use.source}` (content hash "
        f"{recorded.start.data_hash})"
    )


def _device_text(target: Goal) -> str:
    device, fit = target.table.device, target.table.calibration
    threads = f"{device.threads} thread{'' if device.threads == 1 else 's'}"
    calibrated = "not calibrated on whole networks"
    if fit.networks:
        calibrated = (
            f"calibrated on {fit.networks} whole networks, mean error {fit.error:.1%} on networks left out of the fit"
        )
    return (
        f"- device: `{device.name}`, {device.processor}, {device.provider}, {threads}, "
        f"graph optimisation {device.graph_optimization}, ONNX Runtime {device.runtime_version}, "
        f"fingerprint {device.fingerprint}; latency table {target.table_id} with {len(target.table.entries):,} blocks, "
        f"{calibrated}"
    )


def render(recorded: RecordedSearch) -> str:
    """The report as Markdown."""
    lines = [
        f"# {recorded.record.name}",
        "",
        *(_with_finals(recorded) if recorded.has_finals else spec_alone(recorded)),
        "",
        "## Where it comes from" if recorded.config.races else "## NetAdapt, step by step",
        "",
        *_walk(recorded),
        "",
        *_race(recorded),
        "## How it was found",
        "",
        *_provenance(recorded),
        "",
    ]
    return "\n".join(lines)


def _with_finals(recorded: RecordedSearch) -> list[str]:
    history = History.read(recorded.store, recorded.record.name)
    return [
        *(line for said in (headline(history),) if said for line in (said, "")),
        *_markdown(comparison(recorded)),
        "",
        *(f"- {line}" for line in (*verdict(recorded), certainty(history)) if line),
        "",
        _how_trained(recorded),
    ]


def _how_trained(recorded: RecordedSearch) -> str:
    which = "Both" if recorded.baseline is None else "All"
    how = how_finals_began(recorded.record.config, recorded.trials(SearchStage.FINAL))
    return f"{which} networks were trained with the same recipe and seed, {how}."


def spec_alone(recorded: RecordedSearch) -> list[str]:
    """What was found where nothing was trained in the end."""
    found = recorded.found
    cost = found.scores
    return [
        f"The best network within the target of {recorded.start.target_ms:.3f} ms is that of trial {found.number}: "
        f"top-1 {cost.top1 or 0:.2%} (by {recorded.config.evaluator}), {cost.latency_ms:.3f} ms predicted, "
        f"{cost.madds / 1e6:.2f} M multiply-adds, {cost.params:,} parameters. Its spec is {SPEC}, which lies beside "
        "this report; nothing was trained, since the search had no data.",
    ]
