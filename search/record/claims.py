"""Who runs a search: a claim that its holder renews, and that ends by itself when the holder is gone.

A claim is held while its last sign of life is younger than `CLAIM_EXPIRES_S` by the database's clock. Of processes of
the same kernel and process namespace it is also known at once whether they still live, so that a killed search can be
resumed without waiting. Nothing hangs on that: a claim that was taken over is noticed in the transaction of its former
holder's next write.
"""

import os
import platform
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

HEARTBEAT_S = 5.0
CLAIM_EXPIRES_S = 30.0

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Claim:
    """The process that runs a search; a random part tells its claims apart."""

    host: str
    kernel: str
    pid: int
    started: str
    random: str

    def __str__(self) -> str:
        return "/".join((self.host, self.kernel, str(self.pid), self.started, self.random))

    @classmethod
    def parse(cls, text: str) -> "Claim":
        """The inverse of str()."""
        host, kernel, pid, started, random = text.rsplit("/", 4)
        return cls(host, kernel, int(pid), started, random)

    def is_known_dead(self) -> bool:
        """Whether this machine can tell that the process is gone."""
        return bool(self.kernel) and self.kernel == _kernel() and self.started != _started(self.pid)


def new_claim() -> Claim:
    """A claim of this process, unlike any other."""
    pid = os.getpid()
    return Claim(platform.node(), _kernel(), pid, _started(pid), secrets.token_hex(4))


def is_held(claimed_by: str | None, heartbeat_at: datetime | None, now: datetime) -> bool:
    """Whether a recorded claim still counts."""
    if claimed_by is None or heartbeat_at is None or now - heartbeat_at > timedelta(seconds=CLAIM_EXPIRES_S):
        return False
    return not Claim.parse(claimed_by).is_known_dead()


def _kernel() -> str:
    """Equal for processes that see each other under the same numbers; empty where that cannot be said."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}.{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty where there is no such process, or a dead one."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    # proc(5): the state is the first field behind the name, the start time the twentieth.
    return "" if fields[0] in ("Z", "X") else fields[19]
