"""The end of a process by a signal, and searches that stop when their running trials have ended."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from search.stages.session import Interrupted, Session
from service.terminal.console import console

log = structlog.stdlib.get_logger("mobilenas.coordinator")


class ProcessEnd:
    """The end of this process at once, by SIGTERM or Ctrl-C, wherever it is.

    What fails while it is put away half done is no failure of anything, so it is remembered that the end has begun.
    """

    def __init__(self) -> None:
        self.has_begun = False

    def begin(self, _number: int, _frame: object) -> None:
        """The handler of a signal."""
        self.has_begun = True
        raise KeyboardInterrupt

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen to signals; what fails once the end has begun is logged, and all that is left is KeyboardInterrupt."""
        before = {number: signal.signal(number, self.begin) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        except BaseException as error:
            if not self.has_begun or isinstance(error, KeyboardInterrupt):
                raise
            log.warning("something failed while the process was ending", error=repr(error))
            raise KeyboardInterrupt from error
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def said(self, meaning: str) -> Iterator[None]:
        """Listen to signals, and say what it means that this ended at once."""
        try:
            with self.heard():
                yield
        except KeyboardInterrupt as error:
            raise Interrupted(f"stopped at once; {meaning}") from error


@contextmanager
def first_interrupt_stops(running: Session, ending: ProcessEnd) -> Iterator[None]:
    """The first Ctrl-C lets running trials end; the second one ends at once, and what runs is done again on resume."""

    def on_signal(number: int, frame: object) -> None:
        if running.stopping:
            ending.begin(number, frame)
        running.stop()
        console.print("stopping once the running trials have ended (Ctrl-C again: stop at once)")

    before = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
