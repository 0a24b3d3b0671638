"""A search's progress in the terminal: bars with remaining time, and a line for what is worth one."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search.events import Listener
from search.trial import NetAdaptStep, Stage, State, Trial


class TerminalListener(Listener):
    """Shows progress; without a terminal it prints the lines alone. A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, title: str, total: float) -> None:
        """A new bar."""
        self._task = self._progress.add_task(title, total=total or None)
        if not self._console.is_terminal:
            self.note(f"{title} …")

    def advance(self, done: float, total: float | None = None) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def end(self) -> None:
        """Fill the bar."""
        if self._task is not None:
            task = self._progress.tasks[self._task]
            self._progress.update(self._task, total=task.total or 1, completed=task.total or 1)
            self._task = None

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def trial(self, trial: Trial, reward: float | None) -> None:
        """A line per trial; refused ones are counted in the record and not worth one."""
        if trial.state is State.PRUNED:
            return
        words = [f"trial {trial.number}", f"[{trial.origin}]", f"{trial.scores.latency_ms:.3f} ms"]
        if trial.scores.top1 is not None:
            words.append(f"top-1 {trial.scores.top1:.2%}")
        if reward is not None:
            words.append(f"reward {reward:.4f}")
        if trial.reused_from is not None:
            words.append("(taken over)")
        if trial.state is State.FAILED:
            words.append(f"failed: {trial.error}")
        if trial.stage is Stage.NETADAPT:
            words.insert(0, " ")
        self.note("  ".join(words))

    def step(self, step: NetAdaptStep) -> None:
        """A line per accepted proposal."""
        self.note(
            f"NetAdapt step {step.iteration}: {step.narrowed}, {step.latency_before_ms:.3f} → "
            f"{step.latency_after_ms:.3f} ms, top-1 {step.top1_before:.2%} → {step.top1_after:.2%}"
        )
