"""What a running search tells whoever watches it."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from search.trial import Judge, NetAdaptStep, SearchStage, State, Trial

_BY_TOP1 = Judge()
PROGRESS_SECONDS = 60.0
"""A line about progress is told at most this often."""


class Listener:
    """Hears of a search's progress; this one ignores everything. Called from the coordinator's thread only."""

    def judged_by(self, judge: Judge) -> None:
        """Before any trial: who ranks them."""

    def begin(self, title: str, total: float) -> None:
        """A long step begins; `total` is in units of its own."""

    def advance(self, done: float, total: float | None = None) -> None:
        """So much of the step is done; `total` where it has changed."""

    def end(self) -> None:
        """The step is over."""

    def note(self, text: str) -> None:
        """A fact worth a line."""

    def trial(self, trial: Trial, reward: float | None) -> None:
        """A trial ended."""

    def step(self, step: NetAdaptStep) -> None:
        """NetAdapt accepted a proposal."""


class Listeners(Listener):
    """Several listeners that hear the same, in this order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def judged_by(self, judge: Judge) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.judged_by(judge)

    def begin(self, title: str, total: float) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.begin(title, total)

    def advance(self, done: float, total: float | None = None) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.advance(done, total)

    def end(self) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.end()

    def note(self, text: str) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.note(text)

    def trial(self, trial: Trial, reward: float | None) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.trial(trial, reward)

    def step(self, step: NetAdaptStep) -> None:
        """Forwarded."""
        for listener in self._listeners:
            listener.step(step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An event as one line: `message` is for people, `event` (one word) and `fields` (JSON values) for programs."""

    level: Literal["debug", "info", "warning", "error"]
    event: Literal["begin", "progress", "end", "note", "trial", "step"]
    message: str
    trial: int | None = None
    fields: Mapping[str, str | float | bool | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Step:
    title: str
    total: float
    begun: float


class LineListener(Listener, ABC):
    """Turns what it hears into lines; the only place that words them."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: _Step | None = None
        self._told = 0.0
        self._judge: Judge = _BY_TOP1

    @abstractmethod
    def line(self, line: Line) -> None:
        """Show or keep a line."""

    def judged_by(self, judge: Judge) -> None:
        """Remembered, for every top-1 says what it is on."""
        self._judge = judge

    def begin(self, title: str, total: float) -> None:
        """A line; the clock starts."""
        self._told = self._clock()
        self._running = _Step(title, total, self._told)
        self.line(Line(level="info", event="begin", message=f"{title} …", fields={"title": title, "total": total}))

    def advance(self, done: float, total: float | None = None) -> None:
        """A line now and then."""
        running = self._running
        if running is None or self._clock() - self._told < PROGRESS_SECONDS:
            return
        self._told = self._clock()
        of = running.total if total is None else total
        self.line(
            Line(
                level="info",
                event="progress",
                message=f"{running.title}: {done / of:.0%}" if of else running.title,
                fields={"title": running.title, "done": done, "total": of},
            )
        )

    def end(self) -> None:
        """A line with the seconds that it took; none where nothing had begun."""
        running, self._running = self._running, None
        if running is not None:
            seconds = round(self._clock() - running.begun, 3)
            message = f"{running.title}: done in {_duration(seconds)}"
            self.line(
                Line(level="info", event="end", message=message, fields={"title": running.title, "seconds": seconds})
            )

    def note(self, text: str) -> None:
        """A line; an empty one is space for the eye and told to nobody."""
        if text:
            self.line(Line(level="info", event="note", message=text))

    def trial(self, trial: Trial, reward: float | None) -> None:
        """A line per trial."""
        self.line(trial_line(trial, reward, self._judge))

    def step(self, step: NetAdaptStep) -> None:
        """A line per accepted proposal."""
        self.line(step_line(step, self._judge))


def _duration(seconds: float) -> str:
    """So long in words: "42.3 s", "31 min 5 s", "2 h 7 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_ENDINGS: Mapping[State, str] = {
    State.FAILED: "failed",
    State.STOPPED: "stopped early",
    State.PRUNED: "not trained",
}
# Refused networks are many and cost nothing; a failure is worth attention.
_TRIAL_LEVELS: Mapping[State, Literal["debug", "warning"]] = {State.PRUNED: "debug", State.FAILED: "warning"}


def trial_line(trial: Trial, reward: float | None, judge: Judge = _BY_TOP1) -> Line:
    """What became of a trial, whose network a user's own evaluator may have judged."""
    # Most are predicted, and those of a race measured where its device can be asked: reports say which.
    words = [f"trial {trial.number}", f"[{trial.origin}]", f"{trial.scores.latency_ms:.3f} ms"]
    if trial.total:
        words.append(f"top-1 {(trial.correct or 0) / trial.total:.2%} (test split)")
    if trial.scores.top1 is not None:
        words.append(f"top-1 {trial.scores.top1:.2%} ({judge.of_stage(trial.stage)})")
    if reward is not None:
        words.append(f"reward {reward:.4f}")
    if trial.reused_from is not None:
        words.append("(reused from an earlier trial)")
    if trial.state in _ENDINGS:
        words.append(": ".join(filter(None, (_ENDINGS[trial.state], trial.error))))
    return Line(
        level=_TRIAL_LEVELS.get(trial.state, "info"),
        event="trial",
        message="  ".join(words),
        trial=trial.number,
        fields={
            "stage": trial.stage.value,
            "state": trial.state.value,
            "origin": trial.origin,
            "latency_ms": trial.scores.latency_ms,
            "top1": trial.scores.top1,
            "reward": reward,
            "error": trial.error,
            "reused": trial.reused_from is not None,
        },
    )


def step_line(step: NetAdaptStep, judge: Judge = _BY_TOP1) -> Line:
    """One step of NetAdapt."""
    return Line(
        level="info",
        event="step",
        message=f"NetAdapt step {step.iteration}: {step.narrowed}, {step.latency_before_ms:.3f} → "
        f"{step.latency_after_ms:.3f} ms predicted, top-1 {step.top1_before:.2%} → {step.top1_after:.2%} "
        f"({judge.of_stage(SearchStage.NETADAPT)})",
        trial=step.trial,
        fields={
            "iteration": step.iteration,
            "narrowed": step.narrowed,
            "latency_before_ms": step.latency_before_ms,
            "latency_after_ms": step.latency_after_ms,
            "top1_before": step.top1_before,
            "top1_after": step.top1_after,
        },
    )
