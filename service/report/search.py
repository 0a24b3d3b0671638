"""The page about one search: sections that stand for themselves, each of which says so where it has nothing to show."""

from datetime import datetime

from search.reports.comparison import trial_difference
from search.reports.history import SEARCHED, History, Served, front_of
from search.trial import Origin, SearchStage, State, Trial
from service.report import search_figures as plots
from service.report.choices import choices_section, importance_section, parallel_section
from service.report.comparison_figures import best_by_cost
from service.report.figures import COLOURS, COSTS, LATENCY
from service.report.latency import latency_section, walk_section
from service.report.page import Cell, Html, Section, facts, figure, sentence, table
from service.report.subject import NETWORK, TOP, Subject, folded, network_row, network_table
from service.terminal.wording import counted, milliseconds, share, states
from trainer.metrics import wilson_interval

_STAGES = (SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL)
_FAILURES = 20


def sections(subject: Subject) -> list[Section]:
    """All sections about one search, in the order in which they are read."""
    if subject.history.record.start is None:
        why = "The search waits in the queue: nothing was measured or trained yet."
        return [subject.section("queued", "Not begun", sentence(why))]
    return [
        _best(subject),
        _finals(subject),
        _front(subject),
        _progress(subject),
        importance_section(subject),
        parallel_section(subject),
        choices_section(subject),
        walk_section(subject),
        latency_section(subject),
        _cost(subject),
        _troubles(subject),
    ]


def lead(subject: Subject) -> Html:
    """The facts of a search."""
    history, record = subject.history, subject.history.record
    start, content = record.start, record.start and f", content {record.start.data_hash}"
    return facts(
        [
            ("state", f"{record.state}{f': {record.error}' if record.error else ''}"),
            ("target", _target(history)),
            ("further targets", _further(history)),
            ("data", f"{history.setting('data.source')}{content or ''}"),
            *_devices(history),
            ("space", f"{history.setting('space.preset')}, width {history.setting('space.width')}"),
            ("seed", history.setting("seed")),
            ("budget", record.budget),
            ("owner", record.owner),
            ("labels", " ".join(record.labels)),
            ("note", record.note),
            ("created", _moment(record.created_at)),
            ("finished" if record.finished_at else "last change", _moment(record.finished_at or record.updated_at)),
            ("run folder", str(start.run_folder) if start else None),
        ]
    )


def _target(history: History) -> str | None:
    start = history.record.start
    if start is None:
        return None
    reference = "" if start.reference_ms is None else f"the reference takes {milliseconds(start.reference_ms)} ms, "
    return (
        f"{milliseconds(start.target_ms)} ms; the block-level search aims at {milliseconds(start.seed_target_ms)} ms, "
        f"{reference}the space's networks {milliseconds(start.fastest_ms)} to {milliseconds(start.slowest_ms)} ms"
    )


def _further(history: History) -> str:
    """What else one network has to meet; latencies are then the slowest device's share, in ms of the first."""
    return ", ".join(f"{milliseconds(each.target_ms)} ms on {each.device.name}" for each in history.served[1:])


def _devices(history: History) -> list[tuple[str, Cell]]:
    if not history.served:
        own = history.setting("latency")
        return [("device", f"latency predicted by {own}" if own else str(history.setting("device.name")))]
    pairs: list[tuple[str, Cell]] = []
    for each in history.served:
        device = each.device
        subject = (
            f"{device.name}: {device.processor}, {counted(device.threads, 'thread')}, {device.provider}, ONNX Runtime "
            f"{device.runtime_version}, fingerprint {device.fingerprint}"
        )
        pairs += [("device", subject), ("latency table", _table(each))]
    return pairs


def _table(served: Served) -> str:
    fit, known = served.calibration, f"{served.table_id}: {counted(served.blocks, 'block')}"
    if not fit.networks:
        return f"{known}, not calibrated on whole networks"
    return f"{known}, mean error {fit.error:.1%} on networks left out of its fit to {fit.networks} whole ones"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _best(subject: Subject) -> Section:
    history, title = subject.history, "Best networks within the target"
    target_ms = history.record.require_start().target_ms
    counts = "; ".join(f"{stage.value}: {states(history.counts(stage))}" for stage in _STAGES)
    trials = sentence(f"Trials: {counts}.", css="note")
    within, reference = history.within(target_ms), history.reference()
    if not within:
        trained = history.complete(*SEARCHED)
        fastest = min((trial.scores.latency_ms for trial in trained), default=None)
        known = "" if fastest is None else f" The fastest is predicted at {milliseconds(fastest)} ms."
        return subject.section("best", title, sentence(f"No trained network meets the target yet.{known}"), trials)
    shown = within[:TOP] + [trial for trial in (reference,) if trial and trial not in within[:TOP]]
    said = (
        f"Of {counted(len(history.complete(*SEARCHED)), 'trained network')}, {len(within)} are predicted within "
        f"{milliseconds(target_ms)} ms. The most accurate come first, the reference last. The best of many on the same "
        "images looks better than it is: the final training tells."
    )
    return subject.section("best", title, sentence(said), network_table(history, shown, best=0), trials)


def _finals(subject: Subject) -> Section:
    history, title = subject.history, "Final networks"
    trials = history.complete(SearchStage.FINAL)
    if not trials:
        why = "No network was trained to the end yet."
        if history.setting("data.source") == "none":
            why = "No network is trained in the end: a function of the user's own judges them, without data."
        return subject.section("final", title, sentence(why))
    how = "going on from the weights found" if history.setting("final.weights") == "inherited" else "from scratch"
    said = f"Trained {how}, {max(trial.images_seen for trial in trials):,} images seen, and tested once."
    if any(trial.origin == Origin.CANDIDATE for trial in trials):
        said += " The reward split chose among the candidates, so that the test split stays a test."
    header = ("network", "top-1 (test)", "95 % interval", "top-1 (reward split)", *_LATENCIES, *NETWORK[5:])
    rows = [_final_row(history, trial) for trial in trials]
    return subject.section("final", title, sentence(said), table(header, rows), *_verdict(history))


_LATENCIES = ("predicted ms", "measured ms")


def _final_row(history: History, trial: Trial) -> list[Cell]:
    tested: list[Cell] = ["not tested", ""]
    if trial.total:
        low, high = wilson_interval(trial.correct or 0, trial.total)
        tested = [f"{(trial.correct or 0) / trial.total:.2%}", f"{low:.2%} to {high:.2%}"]
    shown, measured = "not measured", history.measured(trial, history.served[0]) if history.served else None
    if measured:
        interval = f"{milliseconds(measured.low_ms)} to {milliseconds(measured.high_ms)}"
        shown = f"{milliseconds(measured.measured_ms)} ({interval})"
    latencies = [milliseconds(trial.scores.latency_ms), shown]
    return [trial.origin, *tested, share(trial.scores.top1), *latencies, *network_row(history, trial)[5:]]


def _verdict(history: History) -> list[Html]:
    found, reference = history.found, history.final_reference
    if found is None or reference is None:
        return [sentence("The comparison of found network and reference waits for both to be trained.")]
    gap = trial_difference((history, found), (history, reference))
    if gap is None:
        return []
    clear = "which is clear" if gap.difference.is_clear else "which may be noise: the interval holds zero"
    return [
        sentence(
            f"Found minus reference: {gap.difference.difference:+.2%} top-1 ({gap.difference.low:+.2%} to "
            f"{gap.difference.high:+.2%}, 95 %, {gap.kind} on {gap.totals[0]:,} test images), {clear}."
        )
    ]


def _front(subject: Subject) -> Section:
    history, title = subject.history, "Pareto front"
    trials = history.complete(*SEARCHED)
    if not trials:
        return subject.section("front", title, sentence("No network was trained yet."))
    shown = (
        "Each point is a trained network; the line joins those that no other one beats in top-1 and latency. Final "
        "networks were trained for longer, so they stand higher."
    )
    front = front_of(trials)
    listed = folded(f"{counted(len(front), 'network')} on the front", network_table(history, front))
    further = [COSTS[name] for name in history.setting("blocks.objectives") or () if name in COSTS]
    others = [
        figure(plots.pareto(history, cost), f"The same networks, top-1 against another objective: {cost.title}.")
        for cost in further
        if cost is not LATENCY
    ]
    return subject.section("front", title, figure(plots.pareto(history), shown), listed, *others)


def _progress(subject: Subject) -> Section:
    history, start, title = subject.history, subject.history.record.require_start(), "Progress"
    curve = history.top1_curve(start.target_ms)
    if not curve.evaluations:
        return subject.section("progress", title, sentence("No evaluation has ended yet."))
    parts = []
    if history.rewards:
        aim = milliseconds(start.seed_target_ms)
        shown = f"Rewards (no unit) rate top-1 against the seed target of {aim} ms; the line is the best so far."
        parts.append(figure(plots.rewards(history), shown))
    if curve.best[-1] is None:
        return subject.section("progress", title, *parts, sentence("No network within the target was trained yet."))
    said = (
        "The best top-1 (reward split) among networks within the target, from block-level search and NetAdapt, over "
        "what was spent; a result taken over from an earlier search counts what it took there."
    )
    drawn = best_by_cost([("best top-1 within the target", curve, COLOURS[4])], None)
    return subject.section("progress", title, *parts, figure(drawn, said))


def _cost(subject: Subject) -> Section:
    history = subject.history
    rows: list[list[Cell]] = []
    for stage in _STAGES:
        counts, trials = history.counts(stage), [trial for trial in history.trials if trial.stage is stage]
        reused = sum(trial.reused_from is not None for trial in trials)
        images = sum(trial.images_seen for trial in trials)
        in_state = [f"{counts.get(state.value, 0):,}" for state in State]
        rows.append([stage.value, *in_state, f"{reused:,}", f"{images:,}", f"{history.core_minutes(stage):,.1f}"])
    header = ("stage", *(state.value for state in State), "taken over", "images seen", "core-minutes")
    said = (
        "A trial trains on one thread, so its duration is minutes of one core. Trials taken over from an earlier "
        "search count what they took there. Pruned ones were refused before any training."
    )
    return subject.section("cost", "Cost", sentence(said), table(header, rows))


def _troubles(subject: Subject) -> Section:
    failed = [trial for trial in subject.history.trials if trial.state is State.FAILED]
    parts: list[Html] = [sentence(line, css="warn") for line in subject.warnings[-_FAILURES:]]
    if failed:
        rows = [[str(trial.number), trial.stage.value, trial.origin, trial.error or ""] for trial in failed[:_FAILURES]]
        parts.append(table(("trial", "stage", "origin", "why it failed"), rows))
    if len(failed) > _FAILURES:
        parts.append(sentence(f"The first {_FAILURES} of {len(failed)} failed trials are shown."))
    nothing = sentence("No trial failed, and nothing was warned of.")
    return subject.section("troubles", "Failures and warnings", *(parts or [nothing]))
