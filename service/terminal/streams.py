"""stdin, stdout and stderr as the system gave them to us, which may be less than a program expects."""

import io
import os
import sys

NARROWEST = 20
"""So many columns are used at least."""


def make_usable() -> None:
    """Whatever is printed later can be: nothing is closed, and what a terminal cannot show is replaced.

    Closed streams become the null device, or else the next file that is opened would be the new stdout.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)  # nor shall it be one in programs that are started from here
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as we run
    if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns) < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)  # at none there would be nothing to see
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # In UTF-8 only halves of names that are no UTF-8 cannot be shown, and those can be told by number.
            is_utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="backslashreplace" if is_utf8 else "replace")


def leave_quietly() -> None:
    """Whoever read our output has gone: nothing more is written, also not by Python at its own end."""
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(null, number)
