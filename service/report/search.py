"""The page about one search: its answer first, then sections each of which says so where it has nothing to show."""

from datetime import datetime

from search.reports.answer import answer
from search.reports.comparison import trial_difference
from search.reports.headline import other_baseline
from search.reports.history import History, Served, front_of
from search.reports.markdown import difference_sentence
from search.reports.naming import compared_with, how_finals_began, reference_head
from search.trial import Origin, SearchStage, State, Trial
from service.report import search_figures as plots
from service.report.choices import choices_section, importance_section, parallel_section
from service.report.comparison_figures import best_by_cost
from service.report.figures import COLOURS, COSTS, LATENCY
from service.report.latency import latency_section, walk_sections
from service.report.page import Cell, Html, Section, facts, figure, joined, sentence, table
from service.report.race import race_sections
from service.report.subject import COST_HEADS, TOP, Subject, cost_cells, folded, network_table, top1_head
from service.terminal.wording import STAGES, counted, milliseconds, share, states
from trainer.training.metrics import wilson_interval

_FAILURES = 20


def sections(subject: Subject) -> list[Section]:
    """All sections about one search, in the order in which they are read."""
    about = subject.section("about-search", "About this search", _facts(subject))
    if subject.history.record.start is None:
        return [about]
    return [
        _finals(subject),
        *race_sections(subject),
        _best(subject),
        _front(subject),
        _progress(subject),
        importance_section(subject),
        parallel_section(subject),
        choices_section(subject),
        *walk_sections(subject),
        latency_section(subject),
        _cost(subject),
        _troubles(subject),
        about,
    ]


def lead(subject: Subject) -> Html:
    """The answer: what was found beside the reference, or how far the search has come."""
    found = answer(subject.history)
    parts: list[Html] = [sentence(words, css="answer") for words in found.sentences]
    if (drawn := plots.finals(subject.history)) is not None:
        shown = "Bars are 95% intervals; left of the target it is met."
        if other_baseline(subject.history) is not None:
            shown += (
                " What lies above the dotted line is gained by the search: on it lies what scaling the reference gives."
            )
        parts.append(figure(drawn, shown))
    if found.table:
        header, *rows = found.table
        parts.append(table(header, rows))
    return joined(parts)


def _facts(subject: Subject) -> Html:
    """The facts of a search."""
    history, record = subject.history, subject.history.record
    start, content = record.start, record.start and f" (content hash {record.start.data_hash})"
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
    by_table = " at the conditions of the latency table" if history.served else ""
    reference = "" if start.reference_ms is None else f"the reference takes {milliseconds(start.reference_ms)} ms, "
    return (
        f"{milliseconds(start.target_ms)} ms{by_table}; "
        f"the block-level search aims at {milliseconds(start.seed_target_ms)} ms, "
        f"{reference}the networks of the space take {milliseconds(start.fastest_ms)} to "
        f"{milliseconds(start.slowest_ms)} ms"
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
    return f"{known}, calibrated on {fit.networks} whole networks, mean error {fit.error:.1%} on networks left out"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _best(subject: Subject) -> Section:
    history, title = subject.history, "Best networks within the target"
    target_ms = history.record.require_start().target_ms
    counts = "; ".join(f"{named}: {states(history.counts(stage))}" for stage, named in STAGES.items())
    trials = sentence(f"Trials: {counts}.", css="note")
    within, reference = history.within(target_ms), history.reference()
    if not within:
        trained = history.networks()
        fastest = min((trial.scores.latency_ms for trial in trained), default=None)
        takes = "takes" if history.measures_candidates else "is predicted to take"
        known = "" if fastest is None else f" The fastest {takes} {milliseconds(fastest)} ms."
        return subject.section("best", title, sentence(f"No trained network meets the target yet.{known}"), trials)
    shown = within[:TOP] + [trial for trial in (reference,) if trial and trial not in within[:TOP]]
    said = (
        f"Of {counted(len(history.networks()), 'trained network')}, {len(within)} "
        f"{'meets' if len(within) == 1 else 'meet'} the target of {milliseconds(target_ms)} ms. The most "
        "accurate come first, the reference last. The best of many networks ranked on the same images looks better "
        "than it is; the test split, after the final training, says how good it really is."
    )
    return subject.section("best", title, sentence(said), network_table(history, shown, best=0), trials)


def _finals(subject: Subject) -> Section:
    history, title = subject.history, "Final networks"
    trials = history.complete(SearchStage.FINAL)
    if not trials:
        why = "The final training of the found network and of the reference has not ended yet."
        if history.setting("data.source") == "none":
            why = (
                "There is no final training: the search has no data, and an evaluator of your own judges its networks."
            )
        return subject.section("final", title, sentence(why))
    images, how = max(trial.images_seen for trial in trials), how_finals_began(history.record.config, trials)
    said = f"Trained on {images:,} images, {how}; then tested once."
    if history.setting("final.weights") == "continued":
        said += " What raced went on from where it was left."
    if any(trial.origin == Origin.CANDIDATE for trial in trials):
        judged = history.judge.of_stage(SearchStage.FINAL)
        by = "log-likelihood" if history.setting("race.rungs") else "top-1"
        said += f" The candidate with the best {by} ({judged}) was chosen; no other candidate was tested."
    rows = [_final_row(history, trial) for trial in trials]
    heads = (
        *("network", "top-1 (test split)", "its 95% interval", top1_head(history, SearchStage.FINAL)),
        *("predicted latency, ms", "measured latency, ms (95% interval)"),
    )
    return subject.section("final", title, sentence(said), table((*heads, *COST_HEADS), rows), *_verdict(history))


def _final_row(history: History, trial: Trial) -> list[Cell]:
    tested: list[Cell] = ["not tested", ""]
    if trial.total:
        low, high = wilson_interval(trial.correct or 0, trial.total)
        tested = [f"{(trial.correct or 0) / trial.total:.2%}", f"{low:.2%} to {high:.2%}"]
    shown, predicted_ms = "not measured", trial.scores.latency_ms
    measured = history.measured(trial, history.served[0]) if history.served else None
    if measured is None and history.served and trial.parent is not None:
        # A race measures its finalists before it trains them on.
        measured = history.measured(history.by_number[trial.parent], history.served[0])
    if measured:
        predicted_ms = measured.predicted_ms
        interval = f"{milliseconds(measured.low_ms)} to {milliseconds(measured.high_ms)}"
        shown = f"{milliseconds(measured.measured_ms)} ({interval})"
    latencies = [milliseconds(predicted_ms), shown]
    is_reference = trial.origin == Origin.REFERENCE
    name = reference_head(history.record.config, trial.architecture) if is_reference else trial.origin
    return [name, *tested, share(trial.scores.top1), *latencies, *cost_cells(trial)]


def _verdict(history: History) -> list[Html]:
    found, reference = history.found, history.final_reference
    if found is None or reference is None:
        return [sentence("The found network and the reference are compared once both are trained.")]
    gap = trial_difference((history, found), (history, reference))
    if gap is None:
        return []
    images = f"{gap.totals[0]:,} images of the test split ({gap.kind})"
    return [sentence(f"{difference_sentence(gap.difference, compared_with(history.record.config), images)}.")]


def _front(subject: Subject) -> Section:
    history, title = subject.history, "Pareto front"
    trials = history.networks()
    if not trials:
        return subject.section("front", title, sentence("No network has been trained yet."))
    shown = (
        "Each point is a trained network; the line joins those that no other network beats in both top-1 and latency. "
        "The final networks were trained for longer, so they lie higher."
    )
    if history.setting("blocks.objectives") and any(trial.rung for trial in trials):
        shown += " It is that of the networks which the race trained furthest."
    front = front_of(history.compared_alike())
    listed = folded(f"{counted(len(front), 'network')} on the front", network_table(history, front))
    further = [COSTS[name] for name in history.setting("blocks.objectives") or () if name in COSTS]
    others = [
        figure(plots.pareto(history, cost), f"The same networks: top-1 against another objective, {cost.title}.")
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
        shown = f"A reward (no unit) weighs top-1 and latency, for a target of {aim} ms; the line is the best so far."
        parts.append(figure(plots.rewards(history), shown))
    if curve.best[-1] is None:
        return subject.section(
            "progress", title, *parts, sentence("No network within the target has been trained yet.")
        )
    said = (
        f"The best {top1_head(history)} among the networks within the target, from block-level search and NetAdapt, "
        "over the time spent; a result reused from an earlier trial counts with the time that it took then."
    )
    drawn = best_by_cost([("best top-1 within the target", curve, COLOURS[4])], None)
    return subject.section("progress", title, *parts, figure(drawn, said))


def _cost(subject: Subject) -> Section:
    history = subject.history
    rows: list[list[Cell]] = []
    for stage, title in STAGES.items():
        counts, trials = history.counts(stage), [trial for trial in history.trials if trial.stage is stage]
        reused = sum(trial.reused_from is not None for trial in trials)
        images = sum(trial.images_seen for trial in trials)
        in_state = [f"{counts.get(state.value, 0):,}" for state in State]
        spent = f"{history.core_minutes(stage):,.1f}"
        rows.append([title, *in_state, f"{reused:,}", f"{images:,}", spent])
    header = ("stage", *(state.value for state in State), "reused", "images seen", "core-minutes")
    said = (
        "A trial trains on one thread, so its minutes are those of one core. Reused: the result is that of an "
        "earlier trial with an equal evaluation, and counts with the time that it took then. Pruned: the network was "
        "over a limit, and was never trained."
    )
    return subject.section("cost", "Cost", sentence(said), table(header, rows))


def _troubles(subject: Subject) -> Section:
    failed = [trial for trial in subject.history.trials if trial.state is State.FAILED]
    parts: list[Html] = [sentence(line, css="warn") for line in subject.warnings[-_FAILURES:]]
    if failed:
        rows = [[str(trial.number), trial.stage.value, trial.origin, trial.error or ""] for trial in failed[:_FAILURES]]
        parts.append(table(("trial", "stage", "origin", "why it failed"), rows, breaks=True))
    if len(failed) > _FAILURES:
        parts.append(sentence(f"The first {_FAILURES} of {len(failed)} failed trials are shown."))
    nothing = sentence("No trial failed, and there were no warnings.")
    return subject.section("troubles", "Failures and warnings", *(parts or [nothing]))
