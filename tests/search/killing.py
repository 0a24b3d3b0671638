"""Searches that are killed again and again: coordinator or workers, by SIGKILL, at random moments, and resumed."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from search.record.store import Store
from search.trial import SearchStage, State, Trial

EVALUATOR = """
import os
import time

from space.cost import cost_of
from space.reference import mobilenet_v3_small_32px

REFERENCE = mobilenet_v3_small_32px(width=0.5, in_channels=1).arch_id


def top1(arch):
    time.sleep({seconds})
    while os.path.exists({gate!r}) and arch.arch_id != REFERENCE:
        time.sleep(0.02)
    kernels = sum(block.kernel_size for stage in arch.stages for block in stage.blocks)
    squeezed = sum(block.use_se for stage in arch.stages for block in stage.blocks)
    millions = cost_of(arch).madds / 1e6
    return 0.9 - 1 / (2 + millions) + 0.002 * squeezed - 0.0005 * kernels


def ms(arch):
    return cost_of(arch).madds / 1e6
"""


def write_run(folder: Path, *, seconds: float = 0.15, gate: Path | None = None, **changes: Any) -> Path:  # noqa: ANN401 - sections of a run
    """A configuration whose evaluator answers after some time, and whose latency is multiply-adds in millions.

    While there is a file `gate`, in the folder if it is not said where, it answers for the reference alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "slow_judge.py").write_text(EVALUATOR.format(seconds=seconds, gate=str(gate or folder / "gate")))
    config = {
        "evaluator": "slow_judge:top1",
        "latency": "slow_judge:ms",
        "data": {"source": "none", "resolution": 32, "channels": 1, "classes": 10},
        "space": {"preset": "mobilenet-v3-small-32px", "width": 0.5},
        "target": {"ms": 8.0},
        "workers": 2,
        "determinism": "strict",
        "batch": 4,
        "blocks": {"trials": 24},
        "netadapt": {"delta": 0.03},
        **changes,
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def command(*arguments: str | Path) -> list[str]:
    """The command line in a process of its own."""
    return [sys.executable, "-m", "service.cli", *map(str, arguments)]


@dataclass
class Killed:
    """What was done to a search."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, target: str, stage: str) -> None:
        """Count one, by target ("coordinator" or "worker") and the stage that the search was in."""
        self.counts[target, stage] += 1

    @property
    def total(self) -> int:
        """All kills."""
        return self.counts.total()


def outcome(url: str, name: str) -> tuple[list[object], list[object], object]:
    """What must not depend on kills: every trial with its network and result, the walk, and the stage."""
    store = Store.open(url)
    try:
        record = store.searches.get(name)
        trials, steps = store.trials.of(record.id), store.trials.steps(record.id)
    finally:
        store.close()
    return [_told(trial) for trial in trials], list(steps), record.stage


def _told(trial: Trial) -> object:
    return (
        *(trial.number, trial.stage, trial.state, trial.origin, trial.architecture.arch_id, trial.scores),
        *(trial.parent, trial.iteration, trial.error if trial.state is State.PRUNED else None),
    )


def run_with_kills(
    config: Path, url: str, runs: Path, name: str, *, kills: int, seed: int, longest_s: float = 2.0
) -> Killed:
    """Start a search and kill it, or one of its workers, at `kills` random moments; resume it each time to its end.

    It may work for up to `longest_s` between two kills.
    """
    rng, killed = random.Random(seed), Killed()
    where = ("--runs", runs, "--database", url)
    start = command("search", "--config", config, "--name", name, *where)
    resume = command("resume", name, *where)
    while killed.total < kills:
        with subprocess.Popen(start, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            start = resume if _recorded(url, name, process) else start
            if not _kill_at_random(process, url, name, rng, killed, longest_s):
                break
    done = subprocess.run(start, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0 or "is done" in done.stderr, done.stderr
    return killed


def _recorded(url: str, name: str, process: "subprocess.Popen[str]") -> bool:
    """Wait until the search is in the record: what comes before is nothing that could be lost."""
    while process.poll() is None:
        if _stage(url, name) is not None:
            return True
        time.sleep(0.05)
    return _stage(url, name) is not None


def _stage(url: str, name: str) -> SearchStage | None:
    path = Path(url.removeprefix("sqlite:///"))
    if not path.exists():
        return None
    store = Store(url)
    try:
        return next((record.stage for record in store.searches.all() if record.name == name), None)
    except Exception:  # noqa: BLE001 - the schema is just being made
        return None
    finally:
        store.close()


def _kill_at_random(
    process: "subprocess.Popen[str]", url: str, name: str, rng: random.Random, killed: Killed, longest_s: float
) -> bool:
    """Kill a worker perhaps, and then the coordinator; returns whether it was killed, False where it ended before.

    One worker in a coordinator's life: a second one might take the retry of the same trial, which then has failed.
    """
    targets = ["worker", "coordinator"] if rng.random() < 0.5 else ["coordinator"]
    while targets:
        # It takes some seconds to start, and nothing can be lost before it works.
        while process.poll() is None and not workers_of(process.pid):
            time.sleep(0.02)
        try:
            process.wait(rng.uniform(0.0, longest_s))
        except subprocess.TimeoutExpired:
            target, workers = targets.pop(0), workers_of(process.pid)
            if target == "worker" and not workers:
                continue
            _kill(rng.choice(workers) if target == "worker" else process.pid)
            killed.note(target, str(_stage(url, name)))
            continue
        told = process.stderr.read() if process.stderr else ""
        assert process.returncode == 0 or "is done" in told, told
        return False
    process.wait()
    return True


def workers_of(pid: int) -> list[int]:
    """Its worker processes, which it spawned, or had forked by multiprocessing's server."""
    found = []
    for child in _children(pid):
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in line:
            found.append(child)
        elif b"multiprocessing.forkserver" in line:
            found += _children(child)
    return found


def _children(pid: int) -> list[int]:
    with suppress(OSError):  # it has ended
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
