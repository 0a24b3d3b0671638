"""Logs: one form for all lines, JSON for programs or text for people, with the ids of search and trial."""

import json
import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog
from rich.console import Console

from search.events import Line, LineListener
from search.trial import Judge, NetAdaptStep, Scores, SearchStage, State, Trial
from service.terminal import logs
from service.terminal.progress import TerminalListener
from tests.search.makers import completed, trial


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(captured: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """The log lines, which are JSON."""
    return [json.loads(line) for line in captured.readouterr().err.splitlines()]


FAILED = trial(4, state=State.FAILED, error="it took too long")
STEP = NetAdaptStep(
    iteration=2,
    trial=9,
    parent=5,
    narrowed="stage 3: 40→32",
    latency_before_ms=2.0,
    latency_after_ms=1.9,
    top1_before=0.9,
    top1_after=0.89,
    proposals=6,
)


def test_search_is_logged_with_its_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of a search has time, level, event and name; a trial's has its number and result."""
    logs.configure("json", "debug")
    with logs.logged("mine") as listener:
        listener.begin("block-level search", 3)
        listener.trial(completed(trial(1), top1=0.5), 0.4)
        listener.trial(trial(2, state=State.PRUNED, error="too slow"), None)
        listener.trial(FAILED, None)
        listener.step(STEP)
        listener.note("")
        listener.end()
    found = lines(capsys)
    assert [line["event"] for line in found] == ["begin", "trial", "trial", "trial", "step", "end"]
    assert {line["search"] for line in found} == {"mine"}
    assert all(str(line["timestamp"]).endswith("Z") for line in found)
    assert [line.get("trial") for line in found] == [None, 1, 2, 4, 9, None]
    assert [line["level"] for line in found] == ["info", "info", "debug", "warning", "info", "info"]
    assert (found[1]["top1"], found[1]["reward"], found[3]["error"]) == (0.5, 0.4, "it took too long")
    logging.getLogger("mobilenas.store").warning("away")
    assert "search" not in lines(capsys)[0]


def test_libraries_log_in_the_same_form(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of other loggers, warnings and exceptions are JSON of one line each, too."""
    logs.configure("json", "info")
    logging.getLogger("library").warning("%d things", 3)
    logging.getLogger("library").info("chatter")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    try:
        raise ValueError("a\nb")
    except ValueError:
        logging.getLogger("mobilenas.x").exception("broken")
    first, warned, broken = lines(capsys)
    assert (first["event"], first["logger"], first["level"]) == ("3 things", "library", "warning")
    assert "old ways" in str(warned["event"])
    assert "ValueError" in str(broken["exception"])


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines as text, without JSON; debug lines only when asked for."""
    logs.configure("text", "info")
    with logs.logged("mine") as listener:
        listener.trial(completed(trial(1), top1=0.5), 0.4)
        listener.trial(trial(2, state=State.PRUNED, error="too slow"), None)
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine" in line
    assert "top-1 50.00% (reward split)" in line
    assert not line.startswith("{")


class Collector(LineListener):
    """Keeps lines."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(clock=lambda: self.now)
        self.lines: list[Line] = []

    def line(self, line: Line) -> None:
        """Keep it."""
        self.lines.append(line)


def test_progress_is_told_once_a_minute() -> None:
    """However often a search advances, its log stays short; the end tells how long it took."""
    collector = Collector()
    collector.advance(1)  # nothing has begun
    collector.begin("final training", 2)
    for second in range(1, 151):
        collector.now = float(second)
        collector.advance(second / 75)
    collector.end()
    collector.end()
    assert [line.message for line in collector.lines] == [
        "final training …",
        "final training: 40%",
        "final training: 80%",
        "final training: done in 2 min 30 s",
    ]


def test_lines_say_what_became_of_a_trial() -> None:
    """Taken over, failed, refused: each is told in words."""
    collector = Collector()
    scores = Scores(top1=0.25, latency_ms=1.5, madds=1, params=1)
    collector.trial(trial(0, state=State.COMPLETE, scores=scores, reused_from=7), 0.2)
    collector.trial(FAILED, None)
    collector.trial(trial(5, state=State.PRUNED), None)
    collector.step(STEP)
    assert [line.message for line in collector.lines] == [
        "trial 0  [random]  1.500 ms  top-1 25.00% (reward split)  reward 0.2000  (reused from an earlier trial)",
        "trial 4  [random]  1.500 ms  failed: it took too long",
        "trial 5  [random]  1.500 ms  not trained",
        "NetAdapt step 2: stage 3: 40→32, 2.000 → 1.900 ms predicted, top-1 90.00% → 89.00% (reward split)",
    ]


def test_every_top1_says_what_it_is_on() -> None:
    """A final trial has been tested, too; before it a user's own evaluator may have judged."""
    collector = Collector()
    collector.judged_by(Judge(evaluator="mine:top1"))
    final = trial(3, stage=SearchStage.FINAL, origin="found", correct=893, total=1000)
    collector.trial(completed(trial(1), top1=0.25), None)
    collector.trial(completed(final, top1=0.8959), None)
    collector.step(STEP)
    assert [line.message[line.message.index("top-1") :] for line in collector.lines] == [
        "top-1 25.00% (by mine:top1)",
        "top-1 89.30% (test split)  top-1 89.59% (reward split)",
        "top-1 90.00% → 89.00% (by mine:top1)",
    ]


def test_a_step_without_anything_to_do_has_no_share() -> None:
    """A walk that has met its target before it begins is told by its title alone."""
    collector = Collector()
    collector.begin("NetAdapt, nothing to remove", 0)
    collector.now = 61.0
    collector.advance(0)
    assert collector.lines[-1].message == "NetAdapt, nothing to remove"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7620, "2 h 7 min")],
)
def test_durations_are_rounded_to_what_a_person_reads(seconds: float, words: str) -> None:
    """Tenths of a second below a minute, seconds below an hour."""
    collector = Collector()
    collector.begin("final training", 1)
    collector.now = seconds
    collector.end()
    assert collector.lines[-1].message == f"final training: done in {words}"


def test_terminal_shows_what_is_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Refused trials are not; NetAdapt's proposals are indented under their steps."""
    with TerminalListener(Console(width=200)) as listener:
        listener.begin("block-level search", 3)
        listener.trial(trial(5, state=State.PRUNED), None)
        listener.trial(completed(trial(1)), 0.4)
        proposal: Trial = completed(trial(2, stage=SearchStage.NETADAPT, origin="stem: 16→8"))
        listener.trial(proposal, None)
        listener.end()
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "block-level search …"
    assert told[1].startswith("trial 1  [random]")
    assert told[2].startswith("   trial 2  [stem: 16→8]")
    assert "5" not in "".join(line.split("[")[0] for line in told)
