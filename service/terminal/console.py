"""The terminal."""

from rich.console import Console

console = Console()


def say(line: str, *, quiet: bool = False) -> None:
    """A line as it is, whatever brackets it holds; on stderr where stdout is for a program."""
    (Console(stderr=True) if quiet else console).print(line, highlight=False, markup=False, soft_wrap=True)
