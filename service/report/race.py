"""How a race went: who was on each rung, and who left it there."""

from collections.abc import Sequence

from search.reports.race import Rung, rungs_of
from search.trial import Trial
from service.report.page import Cell, Html, Section, sentence, table
from service.report.subject import Subject, folded
from service.terminal.wording import counted, milliseconds, share


def race_sections(subject: Subject) -> list[Section]:
    """The section about a race, where there is one."""
    history = subject.history
    rungs = rungs_of(history.record.config, history.trials)
    if not rungs:
        return []
    title = "Race"
    if not rungs[0].ended:
        return [subject.section("race", title, sentence("No network has reached the first rung yet."))]
    said = (
        "Networks are trained further for as long as they are among the best, by the mean log-likelihood of the right "
        f"class ({history.judge.images}) where the reward is hard. How far that spreads on a rung says how much "
        "there is to choose by."
    )
    head = ("up to images", "networks", "running", "best log-likelihood", "worst", "top-1 of the best", "its trial")
    listed = folded(f"{counted(len(rungs[0].ended), 'network')}, rung by rung", _networks(rungs))
    return [subject.section("race", title, sentence(said), table(head, [_row(rung) for rung in rungs]), listed)]


def _row(rung: Rung) -> list[Cell]:
    networks = f"{len(rung.ended)} of {rung.wanted}"
    if not rung.ended:
        return [_reach(rung), networks, str(rung.running), "", "", "", ""]
    best, worst = rung.ended[0], rung.ended[-1]
    return [
        *(_reach(rung), networks, str(rung.running), _likelihood(best), _likelihood(worst)),
        *(share(best.scores.top1), str(best.number)),
    ]


def _reach(rung: Rung) -> str:
    return f"{rung.images:,}" if rung.images else "0 (supernet)"


def _networks(rungs: Sequence[Rung]) -> Html:
    """Who got furthest first, and of those on the same rung the best."""
    reached: dict[str, dict[int, Trial]] = {}
    for number, rung in reversed(list(enumerate(rungs))):
        for trial in rung.ended:
            reached.setdefault(trial.architecture.arch_id, {})[number] = trial
    head = ("architecture", "latency, ms", *(f"log-likelihood at {_reach(rung)}" for rung in rungs), "left at")
    rows: list[list[Cell]] = []
    for arch_id, trials in reached.items():
        last = max(trials)
        figures = [_likelihood(trials[number]) if number in trials else "" for number in range(len(rungs))]
        left = _reach(rungs[last]) if last + 1 < len(rungs) else "the end"
        rows.append([arch_id, milliseconds(trials[last].scores.latency_ms), *figures, left])
    return table(head, rows)


def _likelihood(trial: Trial) -> str:
    found = trial.scores.log_likelihood
    return "" if found is None else f"{found:.4f}"
