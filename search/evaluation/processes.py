"""How processes that train are started: forked from one that has imported torch, and with large memory pages.

To import torch takes seconds, which a forked worker does not need. And where the kernel gives memory in pages of
2 MB, far fewer of their addresses are looked up, which is slow in virtual machines: there trainings were 1.5 to 2.6
times as fast (docs/decisions/0014-processes-that-train.md). Latency is not measured in these processes, but as networks
will be run.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

_TUNABLES, _LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"

StartContext = SpawnContext | ForkServerContext


def start_context(*, trains: bool) -> StartContext:
    """What starts processes here; a user's own evaluator may do without torch, which takes seconds and 200 MB.

    Other systems than Linux cannot fork what has threads of its own.
    """
    if not trains or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["search.evaluation.worker"])
    with large_pages(), interrupts_ignored():
        forkserver.ensure_running()
    return context


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """What is started here ignores Ctrl-C from its first moment, while it still imports torch.

    Ctrl-C reaches the whole process group; what a worker does is for the coordinator to decide.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change signal handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def large_pages() -> Iterator[None]:
    """What is started here asks the kernel for large pages, unless its user has said how malloc is to behave.

    It is glibc's tunable, which is read when a process starts; elsewhere it means nothing.
    """
    before = os.environ.get(_TUNABLES)
    if before is None:
        os.environ[_TUNABLES] = f"{_LARGE_PAGES}=1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_TUNABLES, None)


def take_environment(given: Mapping[str, str]) -> None:
    """Live in the environment of who started this process: that of the server may be older."""
    os.environ.clear()
    os.environ.update(given)
