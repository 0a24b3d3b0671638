"""The terminal."""

from rich.console import Console


class _Terminal(Console):
    def on_broken_pipe(self) -> None:
        """Whoever read our output has gone: the program ends as on any such write."""
        raise BrokenPipeError


# Names are shown as they are: a class ":dog:" is no emoji.
console = _Terminal(emoji=False)
_errors = _Terminal(stderr=True, emoji=False)


def say(line: str, *, quiet: bool = False) -> None:
    """A line as it is, whatever brackets it holds; on stderr where stdout is for a program."""
    (_errors if quiet else console).print(line, highlight=False, markup=False, soft_wrap=True)


def complain(line: str) -> None:
    """What went wrong with one of several things, on stderr; the others go on."""
    say(f"error: {' '.join(line.split())}", quiet=True)
