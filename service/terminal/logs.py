"""Log lines on stderr, ours and those of libraries in one form: JSON for machines, or text."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from rich.console import Console
from structlog.stdlib import ProcessorFormatter
from structlog.typing import Processor

from search.events import Line, LineListener, Listener
from service.settings import LogFormat, LogLevel, Settings, load_settings
from service.terminal.console import console
from service.terminal.progress import TerminalListener

OURS = "mobilenas"


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at the moment: a progress bar puts its own in place, and so do tests."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - as logging's own handlers do: a lost line must not stop a search
            self.handleError(record)


def configure(log_format: LogFormat, level: LogLevel) -> None:
    """Send all log lines of this process to stderr; may be called again with other values.

    `level` is for our own lines. Libraries tell more than a person wants to know: their warnings are heard, and what
    they do (Alembic's migrations, for example) at level "debug" alone.
    """
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = _Stderr()
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[*before, structlog.stdlib.ExtraAdder()],
            processors=[ProcessorFormatter.remove_processors_meta, *_renderers(log_format)],
        )
    )
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if not isinstance(other, _Stderr)), handler]
    own = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(logging.INFO if level == "debug" else max(own, logging.WARNING))
    logging.getLogger(OURS).setLevel(own)
    logging.captureWarnings(True)


def _renderers(log_format: LogFormat) -> list[Processor]:
    # Never structlog's other ways to show exceptions: they print local variables, and with them passwords.
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


class LogListener(LineListener):
    """Logs what a search does, one line per event."""

    def line(self, line: Line) -> None:
        """Log it; `event` is the word for programs, `message` the sentence for people."""
        trial = {} if line.trial is None else {"trial": line.trial}
        logger = structlog.stdlib.get_logger(f"{OURS}.search")
        logger.log(
            logging.getLevelNamesMapping()[line.level.upper()], line.event, **trial, **line.fields, message=line.message
        )


@contextmanager
def logged(search: str) -> Iterator[Listener]:
    """A log of a search, with its name in all lines meanwhile. Context follows this thread alone, the coordinator's."""
    with structlog.contextvars.bound_contextvars(search=search):
        yield LogListener()


@contextmanager
def listener_for(settings: Settings, console: Console, *, search: str | None = None) -> Iterator[Listener]:
    """Who tells of a search: a log where that is JSON, else the terminal."""
    if settings.log_format == "json":
        with logged(search or "") as log:
            yield log
        return
    with TerminalListener(console) as listener:
        yield listener


@contextmanager
def telling(search: str | None = None, *, quiet: bool = False) -> Iterator[Listener]:
    """Who tells of what goes on; on stderr where stdout is for a program."""
    with listener_for(load_settings(), Console(stderr=True) if quiet else console, search=search) as listener:
        yield listener
