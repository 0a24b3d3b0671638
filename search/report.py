"""report.md: what was found, beside the reference, with how sure one can be."""

from pathlib import Path

from search.chronicle import FOUND, REFERENCE, Chronicle
from search.trial import NetworkMeasurement, Stage, State, Trial
from trainer.metrics import wilson_interval

# The device then ran otherwise than when the table was measured; both figures are shown, and this is said.
NOTABLE_ERROR = 0.05
# Measurements of one network repeat to about this share.
PRECISION = 0.01


def write_report(told: Chronicle) -> Path:
    """Write report.md into the run folder."""
    path = told.begun.run_folder / "report.md"
    path.write_text(render(told))
    return path


def comparison(told: Chronicle) -> list[list[str]]:
    """The table found-vs-reference: a header row, then one row per figure."""
    measured = told.measurements()
    columns = [_figures(trial, measured.get(trial.number)) for trial in told.both()]
    return [["", FOUND, REFERENCE], *([name, *(column[name] for column in columns)] for name in columns[0])]


def _figures(trial: Trial, measured: NetworkMeasurement | None) -> dict[str, str]:
    assert trial.correct is not None
    assert trial.total is not None
    low, high = wilson_interval(trial.correct, trial.total)
    return {
        "top-1 (test)": f"{trial.correct / trial.total:.2%}",
        "its 95 % interval": f"{low:.2%} to {high:.2%}",
        "predicted ms": f"{trial.scores.latency_ms:.3f}",
        "measured ms": f"{measured.measured_ms:.3f} ({measured.low_ms:.3f} to {measured.high_ms:.3f})"
        if measured
        else "predicted, not measured",
        **({"median ms": f"{measured.median_ms:.3f}"} if measured else {}),
        "multiply-adds": f"{trial.scores.madds / 1e6:.2f} M",
        "parameters": f"{trial.scores.params:,}",
        "images seen": f"{trial.images_seen:,}",
        "architecture": trial.architecture.arch_id,
    }


def verdict(told: Chronicle) -> list[str]:
    """The findings in sentences: accuracy, latency, target."""
    found, _ = told.both()
    gap = told.difference()
    clear = (
        f"the found network is {'more' if gap.difference > 0 else 'less'} accurate than the reference"
        if gap.is_clear
        else "the difference may be noise: its interval holds zero"
    )
    return [
        f"Top-1, found minus reference on the same {found.total:,} test images: {gap.difference:+.2%} "
        f"({gap.low:+.2%} to {gap.high:+.2%}, 95 %): {clear}.",
        *(_measured_verdict(told) if told.measurements() else _predicted_verdict(told)),
    ]


def _predicted_verdict(told: Chronicle) -> list[str]:
    found, reference = told.both()
    share = found.scores.latency_ms / reference.scores.latency_ms
    return [
        f"Latency is predicted, not measured: {found.scores.latency_ms:.3f} ms, {share:.1%} of the reference's, for a "
        f"target of {told.begun.target_ms:.3f} ms. certify.zip beside this report measures both networks on "
        f"'{told.table.device.name}': run its measure.py there, then: "
        f"mobilenas certify {told.record.name} --import results.json",
    ]


def _measured_verdict(told: Chronicle) -> list[str]:
    found, reference = told.both()
    measured = told.measurements()
    mine, theirs = measured[found.number], measured[reference.number]
    share = mine.measured_ms / theirs.measured_ms
    lines = [
        f"Measured side by side, the found network takes {share:.1%} of the reference's time.",
        _target_line(told.begun.target_ms, told.config.target.relative, mine, share),
    ]
    worst = max((mine, theirs), key=lambda row: abs(row.measured_ms / row.predicted_ms - 1))
    error = worst.measured_ms / worst.predicted_ms - 1
    if abs(error) > NOTABLE_ERROR:
        lines.append(
            f"Measured and predicted differ by {error:+.1%}: the device ran otherwise than when its table was "
            "measured (load, frequency, temperature). The two networks were timed interleaved, so their ratio holds."
        )
    return [*lines, *told.warnings()]


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


def _walk(told: Chronicle) -> list[str]:
    steps = told.store.steps(told.record.id)
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
    found, _ = told.both()
    walked = told.trial(steps[-1].trial) if steps else None
    if walked is not None and walked.architecture == found.architecture:
        return _markdown(rows)
    taken = next(trial for trial in told.trials(Stage.BLOCKS) if trial.architecture == found.architecture)
    said = f"Trial {taken.number} of the block-level search was taken: {_figures_on_reward_split(taken)}"
    if walked is None:
        return [f"{said}; it met the target already."]
    return [*_markdown(rows), "", f"{said}, where the walk ended with {_figures_on_reward_split(walked)}."]


def _figures_on_reward_split(trial: Trial) -> str:
    return f"top-1 {trial.scores.top1 or 0:.2%} on the reward split and {trial.scores.latency_ms:.3f} ms"


def _counts(trials: list[Trial]) -> str:
    return ", ".join(
        f"{count} {state.value}"
        for state in (State.COMPLETE, State.PRUNED, State.FAILED)
        if (count := sum(trial.state is state for trial in trials))
    )


def _provenance(told: Chronicle) -> list[str]:
    device, fit = told.table.device, told.table.calibration
    use = told.config.data
    return [
        f"- search `{told.record.name}`, seed {told.config.seed}, target {told.begun.target_ms:.3f} ms, "
        f"seed target {told.begun.seed_target_ms:.3f} ms",
        f"- data `{told.config.data.source}`, content {told.begun.data_hash}; rewards from {use.reward_images:,} "
        "images held out of the training split, the test split looked at once, above",
        f"- device `{device.name}`: {device.processor}, {device.provider}, {device.threads} thread(s), "
        f"graph optimisation {device.graph_optimization}, ONNX Runtime {device.runtime_version}, "
        f"fingerprint {device.fingerprint}",
        f"- latency table {told.begun.table_id}: {len(told.table.entries):,} blocks; calibrated on {fit.networks} "
        f"whole networks, mean error {fit.error:.1%} on networks left out of the fit",
        "- latencies: batch 1, 10 % quantile of wall time in the steady state; interval 95 %",
        f"- block-level trials: {_counts(told.trials(Stage.BLOCKS))}; "
        f"NetAdapt trials: {_counts(told.trials(Stage.NETADAPT)) or 'none'}",
    ]


def render(told: Chronicle) -> str:
    """The report as Markdown."""
    record = told.record
    lines = [
        f"# {record.name}",
        "",
        *_markdown(comparison(told)),
        "",
        *(f"- {line}" for line in verdict(told)),
        "",
        "Both networks were trained from scratch with the same recipe and seed.",
        "",
        "## NetAdapt walk",
        "",
        *_walk(told),
        "",
        "## How it was found",
        "",
        *_provenance(told),
        "",
    ]
    return "\n".join(lines)
