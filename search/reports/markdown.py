"""report.md: what was found, beside the reference, with how sure one can be."""

from pathlib import Path

from search.config.load import NO_DATA
from search.record.recorded_search import DeviceTarget, RecordedSearch
from search.trial import NetworkMeasurement, Origin, SearchStage, State, Trial
from trainer.metrics import wilson_interval

# The device then ran otherwise than when the table was measured; both figures are shown, and this is said.
NOTABLE_ERROR = 0.05
# Measurements of one network repeat to about this share.
PRECISION = 0.01


def write_report(recorded: RecordedSearch) -> Path:
    """Write report.md into the run folder."""
    path = recorded.files.report
    path.write_text(render(recorded))
    return path


def comparison(recorded: RecordedSearch) -> list[list[str]]:
    """The table found-vs-reference: a header row, then one row per figure."""
    columns = [_figures(recorded, trial) for trial in recorded.both()]
    return [
        ["", Origin.FOUND, Origin.REFERENCE],
        *([name, *(column[name] for column in columns)] for name in columns[0]),
    ]


def _figures(recorded: RecordedSearch, trial: Trial) -> dict[str, str]:
    assert trial.correct is not None
    assert trial.total is not None
    low, high = wilson_interval(trial.correct, trial.total)
    return {
        "top-1 (test)": f"{trial.correct / trial.total:.2%}",
        "its 95 % interval": f"{low:.2%} to {high:.2%}",
        **_latency_figures(recorded, trial),
        "multiply-adds": f"{trial.scores.madds / 1e6:.2f} M",
        "parameters": f"{trial.scores.params:,}",
        "images seen": f"{trial.images_seen:,}",
        "architecture": trial.architecture.arch_id,
    }


def _latency_figures(recorded: RecordedSearch, trial: Trial) -> dict[str, str]:
    """Predicted and measured, on each device."""
    if not recorded.devices:
        return {"predicted ms": f"{trial.scores.latency_ms:.3f}", "measured ms": "predicted, not measured"}
    rows: dict[str, str] = {}
    for device in recorded.devices:
        on = f" on {device.name}" if len(recorded.devices) > 1 else ""
        measured = recorded.measurements(device).get(trial.number)
        rows[f"predicted ms{on}"] = f"{recorded.predicted_ms(trial, device):.3f}"
        rows[f"measured ms{on}"] = (
            f"{measured.measured_ms:.3f} ({measured.low_ms:.3f} to {measured.high_ms:.3f})"
            if measured
            else "predicted, not measured"
        )
        if measured:
            rows[f"median ms{on}"] = f"{measured.median_ms:.3f}"
    return rows


def verdict(recorded: RecordedSearch) -> list[str]:
    """The findings in sentences: accuracy, latency, target."""
    found, _ = recorded.both()
    gap = recorded.difference()
    clear = (
        f"the found network is {'more' if gap.difference > 0 else 'less'} accurate than the reference"
        if gap.is_clear
        else "the difference may be noise: its interval holds zero"
    )
    lines = [
        f"Top-1, found minus reference on the same {found.total:,} test images: {gap.difference:+.2%} "
        f"({gap.low:+.2%} to {gap.high:+.2%}, 95 %): {clear}."
    ]
    if not recorded.devices:
        lines.append(
            f"Latency is what {recorded.config.latency} predicts: {found.scores.latency_ms:.3f} ms, for a target of "
            f"{recorded.start.target_ms:.3f} ms."
        )
    for device in recorded.devices:
        lines += (
            _measured_verdict(recorded, device)
            if recorded.measurements(device)
            else _predicted_verdict(recorded, device)
        )
    return [*lines, *(recorded.warnings() if recorded.is_certified else [])]


def _predicted_verdict(recorded: RecordedSearch, device: DeviceTarget) -> list[str]:
    found, reference = (recorded.predicted_ms(trial, device) for trial in recorded.both())
    return [
        f"Latency is predicted, not measured: {found:.3f} ms, {found / reference:.1%} of the reference's, for a "
        f"target of {device.target_ms:.3f} ms. certify.zip beside this report measures both networks on "
        f"'{device.name}': run its measure.py there, then: "
        f"mobilenas certify {recorded.record.name} --import results.json",
    ]


def _measured_verdict(recorded: RecordedSearch, device: DeviceTarget) -> list[str]:
    found, reference = recorded.both()
    measured = recorded.measurements(device)
    mine, theirs = measured[found.number], measured[reference.number]
    share = mine.measured_ms / theirs.measured_ms
    on = f"On '{device.name}', measured" if len(recorded.devices) > 1 else "Measured"
    lines = [
        f"{on} side by side, the found network takes {share:.1%} of the reference's time.",
        _target_line(device.target_ms, recorded.config.devices[device.name].relative, mine, share),
    ]
    worst = max((mine, theirs), key=lambda row: abs(row.measured_ms / row.predicted_ms - 1))
    error = worst.measured_ms / worst.predicted_ms - 1
    if abs(error) > NOTABLE_ERROR:
        lines.append(
            f"Measured and predicted differ by {error:+.1%}: the device ran otherwise than when its table was "
            "measured (load, frequency, temperature). The two networks were timed interleaved, so their ratio holds."
        )
    return lines


def _target_line(target_ms: float, relative: float | None, found: NetworkMeasurement, share: float) -> str:
    """Whether the target was met: in ms, or as the share of the reference that was asked for."""
    reached, asked = (found.measured_ms, target_ms) if relative is None else (share, relative)
    gap = reached / asked - 1
    # A tenth of a percent over is no miss: repeated measurements differ by more.
    outcome = f"{'met' if gap <= 0 else 'missed'} by {abs(gap):.1%}" if abs(gap) > PRECISION else "just met"
    meant = f"{target_ms:.3f} ms" if relative is None else f"{relative:.0%} of the reference ({target_ms:.3f} ms)"
    return f"Target {meant}: predicted {found.predicted_ms:.3f} ms, measured {found.measured_ms:.3f} ms, {outcome}."


def _markdown(rows: list[list[str]]) -> list[str]:
    header, *body = rows
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body)]


def _walk(recorded: RecordedSearch) -> list[str]:
    steps = recorded.store.trials.steps(recorded.record.id)
    rows = [["step", "narrowed", "latency ms", "top-1 (reward split)", "proposals"]]
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
    tried = [*recorded.trials(SearchStage.NETADAPT), *recorded.trials(SearchStage.BLOCKS)]
    taken = next(trial for trial in tried if trial.architecture == found and trial.state is State.COMPLETE)
    where = "NetAdapt" if taken.stage is SearchStage.NETADAPT else "the block-level search"
    said = f"Trial {taken.number} of {where} was taken: {_figures_on_reward_split(taken)}"
    if walked is None:
        return [f"{said}; it met the target already."]
    return [*_markdown(rows), "", f"{said}, where the walk ended with {_figures_on_reward_split(walked)}."]


def _figures_on_reward_split(trial: Trial) -> str:
    return f"top-1 {trial.scores.top1 or 0:.2%} on the reward split and {trial.scores.latency_ms:.3f} ms"


def _counts(trials: list[Trial]) -> str:
    return ", ".join(
        f"{count} {state.value}"
        for state in (State.COMPLETE, State.STOPPED, State.PRUNED, State.FAILED)
        if (count := sum(trial.state is state for trial in trials))
    )


def _provenance(recorded: RecordedSearch) -> list[str]:
    return [
        f"- search `{recorded.record.name}`, seed {recorded.config.seed}, target {recorded.start.target_ms:.3f} ms, "
        f"seed target {recorded.start.seed_target_ms:.3f} ms",
        f"- top-1: {_data_text(recorded)}",
        *(_device_text(device) for device in recorded.devices),
        "- latencies: batch 1, 10 % quantile of wall time in the steady state; interval 95 %"
        if recorded.devices
        else f"- latencies: predicted by {recorded.config.latency}",
        f"- block-level trials: {_counts(recorded.trials(SearchStage.BLOCKS))}; "
        f"NetAdapt trials: {_counts(recorded.trials(SearchStage.NETADAPT)) or 'none'}",
    ]


def _data_text(recorded: RecordedSearch) -> str:
    use, evaluator = recorded.config.data, recorded.config.evaluator
    said = f"by {evaluator} during the search" if evaluator else f"from {use.reward_images:,} images"
    if use.source == NO_DATA:
        return said
    return (
        f"{said}; data `{use.source}`, content {recorded.start.data_hash}; rewards from images held out of the "
        "training split, the test split looked at once, above"
    )


def _device_text(target: DeviceTarget) -> str:
    device, fit = target.table.device, target.table.calibration
    return (
        f"- device `{device.name}`: {device.processor}, {device.provider}, {device.threads} thread(s), "
        f"graph optimisation {device.graph_optimization}, ONNX Runtime {device.runtime_version}, "
        f"fingerprint {device.fingerprint}; latency table {target.table_id}: {len(target.table.entries):,} blocks; "
        f"calibrated on {fit.networks} whole networks, mean error {fit.error:.1%} on networks left out of the fit"
    )


def render(recorded: RecordedSearch) -> str:
    """The report as Markdown."""
    lines = [
        f"# {recorded.record.name}",
        "",
        *(_with_finals(recorded) if recorded.has_finals else spec_alone(recorded)),
        "",
        "## NetAdapt walk",
        "",
        *_walk(recorded),
        "",
        "## How it was found",
        "",
        *_provenance(recorded),
        "",
    ]
    return "\n".join(lines)


def _with_finals(recorded: RecordedSearch) -> list[str]:
    how = "going on from the weights found" if recorded.config.final.weights == "inherited" else "from scratch"
    return [
        *_markdown(comparison(recorded)),
        "",
        *(f"- {line}" for line in verdict(recorded)),
        "",
        f"Both networks were trained {how} with the same recipe and seed.",
    ]


def spec_alone(recorded: RecordedSearch) -> list[str]:
    """What was found where nothing was trained in the end."""
    found = recorded.found
    cost = found.scores
    return [
        f"The best network within the target of {recorded.start.target_ms:.3f} ms is trial {found.number}: top-1 "
        f"{cost.top1 or 0:.2%} by {recorded.config.evaluator}, {cost.latency_ms:.3f} ms predicted, "
        f"{cost.madds / 1e6:.2f} M multiply-adds, {cost.params:,} parameters. Its spec is architecture.json beside "
        "this report; without data nothing was trained.",
    ]
