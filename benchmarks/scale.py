"""The coordinator's own limit: thousands of trials whose evaluator sleeps, on hundreds of workers, into SQLite.

    PYTHONPATH=. .venv/bin/python benchmarks/scale.py --trials 10000 --workers 256

Prints trials per second over the whole search and in its last quarter, the memory of the coordinator along the way, and
how busy the workers were.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.raw import Raw

EVALUATOR = """
import time

from space.cost import cost_of


def top1(arch):
    time.sleep({seconds})
    return 0.5


def ms(arch):
    return cost_of(arch).madds / 1e6
"""


def resident_mb() -> float:
    """Memory of this process, without its workers."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 1e6


class Watch:
    """Notes the time and the memory as trials end."""

    def __init__(self, every: int) -> None:
        self.every, self.ended = every, 0
        self.marks: list[tuple[int, float, float]] = []

    def trial(self, trial: object, reward: float | None) -> None:  # noqa: ARG002 - inherited
        """Count it."""
        self.ended += 1
        if self.ended % self.every == 0:
            self.marks.append((self.ended, time.monotonic(), resident_mb()))


def main() -> None:
    """Run it and print; imports are here, since every worker process imports this file, too."""
    from contextlib import closing

    import yaml

    from search.config.load import load_config
    from search.events import Listener
    from search.lifecycle.creation import SearchRequest, create
    from search.lifecycle.opening import session
    from search.plan import look_up
    from search.record.heartbeat import hold
    from search.record.store import Store
    from search.stages.blocks import search_blocks
    from search.trial import SearchStage, State

    class Watching(Watch, Listener):
        """A listener."""

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--space", default="mobilenet-v3-small-32px")
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments, raw = parser.parse_args(), Raw("scale")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sleeper.py").write_text(EVALUATOR.format(seconds=arguments.seconds))
        (folder / "run.yaml").write_text(
            yaml.safe_dump(
                {
                    "name": "scale",
                    "evaluator": "sleeper:top1",
                    "latency": "sleeper:ms",
                    "workers": arguments.workers,
                    "data": {"source": "none", "resolution": 32, "channels": 1, "classes": 10},
                    "space": {"preset": arguments.space, "width": 0.5},
                    "target": {"ms": 8.0},
                    "blocks": {"trials": arguments.trials, "sampler": arguments.sampler},
                    "netadapt": {"max_steps": 0},
                }
            )
        )
        with closing(Store.open(f"sqlite:///{folder}/record.db")) as store:
            inputs = look_up(load_config(folder / "run.yaml").from_anywhere())
            record = create(store, inputs, folder / "runs", Listener(), SearchRequest())
            watch = Watching(max(1, arguments.trials // 8))
            start, processor = time.monotonic(), time.process_time()
            with hold(store, record.id) as heartbeat, session(store, "scale", watch, heartbeat) as running:
                search_blocks(running)
            took, used = time.monotonic() - start, time.process_time() - processor
            trials = store.trials.of(record.id, SearchStage.BLOCKS)
            complete = sum(trial.state is State.COMPLETE for trial in trials)
            numbers = [trial.number for trial in trials]
            size_mb = (folder / "record.db").stat().st_size / 1e6
    assert numbers == list(range(len(numbers)))
    assert complete == arguments.trials
    print(f"{complete:,} trials complete, {len(trials):,} recorded, threads alive {threading.active_count()}")
    print(f"{took:.1f} s: {complete / took:.0f} trials/s, {len(trials) / took:.0f} records/s")
    for count, seconds, memory_mb in watch.marks:
        raw.add(workers=arguments.workers, ended=count, seconds=seconds - start, memory_mb=memory_mb)
    raw.write(arguments.csv)
    (first, t1, m1), (last, t2, m2) = watch.marks[-3], watch.marks[-1]
    print(f"last quarter: {(last - first) / (t2 - t1):.0f} endings/s")
    print(f"workers asleep {complete * arguments.seconds / took / arguments.workers:.0%} of the time")
    print(f"coordinator: {used / took:.0%} of a core, {1000 * used / len(trials):.2f} ms of processor time per record")
    print("memory along the way, MB: " + ", ".join(f"{count:,}: {memory:.0f}" for count, _, memory in watch.marks))
    growth = 1000 * (m2 - m1) / (last - first)
    print(f"per thousand records in the last quarter {growth:.1f} MB; database {size_mb:.0f} MB")


if __name__ == "__main__":
    main()
