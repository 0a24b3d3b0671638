"""A search's progress in the terminal: bars with remaining time, and a line for what is worth one."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from search.events import Line, LineListener
from search.trial import SearchStage


class TerminalListener(LineListener):
    """Shows progress; without a terminal it prints the lines alone. A context manager."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
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
        super().begin(title, total)

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

    def line(self, line: Line) -> None:
        """Print what is worth a person's line: not what a bar shows, nor refused trials, which the record counts."""
        if line.level == "debug" or (line.event == "begin" and self._console.is_terminal):
            return
        proposal = line.event == "trial" and line.fields["stage"] == SearchStage.NETADAPT.value
        self.note(f"   {line.message}" if proposal else line.message)
