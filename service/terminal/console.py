"""The terminal."""

from rich.console import Console


class _Terminal(Console):
    def __init__(self, *, stderr: bool = False) -> None:
        # Names are shown as they are: a class ":dog:" is no emoji.
        super().__init__(stderr=stderr, emoji=False)

    def on_broken_pipe(self) -> None:
        """Whoever read our output has gone: the program ends as on any such write."""
        raise BrokenPipeError


console = _Terminal()
_errors = _Terminal(stderr=True)


def say(line: str, *, quiet: bool = False) -> None:
    """A line as it is, whatever brackets it holds; on stderr where stdout is for a program."""
    (_errors if quiet else console).print(line, highlight=False, markup=False, soft_wrap=True)


def tell(line: str) -> None:
    """What happens meanwhile, on stderr."""
    say(line, quiet=True)


def complain(line: str) -> None:
    """What went wrong with one of several things, on stderr; the others go on."""
    say(f"error: {' '.join(line.split())}", quiet=True)
