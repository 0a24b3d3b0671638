"""report.md: what was found, beside the reference, with how sure one can be."""

from pathlib import Path

from search.final import FOUND, REFERENCE, both, difference
from search.session import Session
from search.trial import NetworkMeasurement, Stage, State, Trial
from trainer.metrics import wilson_interval

# The device then ran otherwise than when the table was measured; both figures are shown, and this is said.
NOTABLE_ERROR = 0.05
# Measurements of one network repeat to about this share.
PRECISION = 0.01


def write_report(session: Session) -> Path:
    """Write report.md into the run folder."""
    path = session.begun.run_folder / "report.md"
    path.write_text(render(session))
    return path


def comparison(session: Session) -> list[list[str]]:
    """The table found-vs-reference: a header row, then one row per figure."""
    measured = {found.trial: found for found in session.store.network_measurements(session.record.id)}
    columns = [_figures(trial, measured[trial.number]) for trial in both(session)]
    return [["", FOUND, REFERENCE], *([name, *(column[name] for column in columns)] for name in columns[0])]


def _figures(trial: Trial, measured: NetworkMeasurement) -> dict[str, str]:
    assert trial.correct is not None
    assert trial.total is not None
    low, high = wilson_interval(trial.correct, trial.total)
    return {
        "top-1 (test)": f"{trial.correct / trial.total:.2%}",
        "its 95 % interval": f"{low:.2%} to {high:.2%}",
        "predicted ms": f"{trial.scores.latency_ms:.3f}",
        "measured ms": f"{measured.measured_ms:.3f} ({measured.low_ms:.3f} to {measured.high_ms:.3f})",
        "median ms": f"{measured.median_ms:.3f}",
        "multiply-adds": f"{trial.scores.madds / 1e6:.2f} M",
        "parameters": f"{trial.scores.params:,}",
        "images seen": f"{trial.images_seen:,}",
        "architecture": trial.architecture.arch_id,
    }


def verdict(session: Session) -> list[str]:
    """The findings in sentences: accuracy, latency, target."""
    found, reference = both(session)
    measured = {row.trial: row for row in session.store.network_measurements(session.record.id)}
    mine, theirs = measured[found.number], measured[reference.number]
    gap = difference(session)
    share = mine.measured_ms / theirs.measured_ms
    clear = (
        f"the found network is {'more' if gap.difference > 0 else 'less'} accurate than the reference"
        if gap.is_clear
        else "the difference may be noise: its interval holds zero"
    )
    lines = [
        f"Top-1, found minus reference on the same {found.total:,} test images: {gap.difference:+.2%} "
        f"({gap.low:+.2%} to {gap.high:+.2%}, 95 %): {clear}.",
        f"Measured side by side, the found network takes {share:.1%} of the reference's time.",
        _target_line(session.begun.target_ms, session.config.target.relative, mine, share),
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


def _walk(session: Session) -> list[str]:
    steps = session.store.steps(session.record.id)
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
    found, _ = both(session)
    walked = session.trial(steps[-1].trial) if steps else None
    if walked is not None and walked.architecture == found.architecture:
        return _markdown(rows)
    taken = next(trial for trial in session.trials(Stage.BLOCKS) if trial.architecture == found.architecture)
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


def _provenance(session: Session) -> list[str]:
    device, fit = session.table.device, session.table.calibration
    use = session.config.data
    return [
        f"- search `{session.record.name}`, seed {session.config.seed}, target {session.begun.target_ms:.3f} ms, "
        f"seed target {session.begun.seed_target_ms:.3f} ms",
        f"- data `{session.dataset.name}`, content {session.dataset.content_hash}; rewards from {use.reward_images:,} "
        "images held out of the training split, the test split looked at once, above",
        f"- device `{device.name}`: {device.processor}, {device.provider}, {device.threads} thread(s), "
        f"graph optimisation {device.graph_optimization}, ONNX Runtime {device.runtime_version}, "
        f"fingerprint {device.fingerprint}",
        f"- latency table {session.table_id}: {len(session.table.entries):,} blocks; calibrated on {fit.networks} "
        f"whole networks, mean error {fit.error:.1%} on networks left out of the fit",
        "- latencies: batch 1, 10 % quantile of wall time in the steady state; interval 95 %",
        f"- block-level trials: {_counts(session.trials(Stage.BLOCKS))}; "
        f"NetAdapt trials: {_counts(session.trials(Stage.NETADAPT)) or 'none'}",
    ]


def render(session: Session) -> str:
    """The report as Markdown."""
    record = session.record
    lines = [
        f"# {record.name}",
        "",
        *_markdown(comparison(session)),
        "",
        *(f"- {line}" for line in verdict(session)),
        "",
        "Both networks were trained from scratch with the same recipe and seed.",
        "",
        "## NetAdapt walk",
        "",
        *_walk(session),
        "",
        "## How it was found",
        "",
        *_provenance(session),
        "",
    ]
    return "\n".join(lines)
