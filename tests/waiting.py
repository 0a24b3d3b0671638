"""Waiting for what other processes do."""

import time
from collections.abc import Callable
from pathlib import Path

# What takes so long hangs; on a busy machine everything may take several times as long as on an idle one.
HANGS_S = 1200.0


def wait_for(condition: Callable[[], bool], pause: float = 0.1) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + HANGS_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(pause)


def has_ended(pid: int) -> bool:
    """Whether a process is gone for good, but perhaps for its parent to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
