"""What Ray costs and gains: trials that do nothing, trainings on one and two slots, and slots kept busy.

    PYTHONPATH=. .venv/bin/python benchmarks/cluster.py overhead
    PYTHONPATH=. .venv/bin/python benchmarks/cluster.py scaling --repeats 3
    PYTHONPATH=. .venv/bin/python benchmarks/cluster.py busy --slots 64 --seconds 10
    PYTHONPATH=. .venv/bin/python benchmarks/cluster.py together --seeds 4

Each keeps as many trials under way as there are slots, as a search does. The cluster is one of this machine's own.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.raw import Raw
from search.evaluation.executor import Executor, LocalExecutor
from search.evaluation.job import DataUse, Job, OwnEvaluation, Training, ask_own
from search.plugins import Plugin
from search.ray.executor import RayExecutor
from search.ray.messages import ClusterSetup
from space.reference import mobilenet_v3_small_32px
from trainer.data.prepare import prepare
from trainer.training.recipe import Recipe

KINDS = ("local", "ray")


@contextmanager
def executor(kind: str, slots: int) -> Iterator[Executor]:
    """An executor that has started: its slots, and what they import, are there."""
    if kind == "local":
        made: Executor = LocalExecutor(slots, job_seconds=3600)
    else:
        setup = ClusterSetup(address=None, local_cpus=slots, cpus=1, gpus=0, resources={}, retries=0, job_seconds=3600)
        made = RayExecutor(setup)
    try:
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Endings:
    """When trials ended, in seconds since the first was handed in."""

    ended: list[float]
    top1: list[float]

    def rate(self, first: int, last: int) -> float:
        """Endings per second from one ending to another, counted from 1."""
        return (last - first) / (self.ended[last - 1] - self.ended[first - 1])


def run(on: Executor, jobs: list[Job], slots: int) -> Endings:
    """All jobs, with never more of them handed in than there are slots."""
    started, waiting, running = time.monotonic(), list(jobs), 0
    ended: list[float] = []
    top1: dict[int, float] = {}
    while waiting or running:
        while waiting and running < slots:
            on.submit(waiting.pop(0))
            running += 1
        for result in on.wait(0.5):
            assert result.outcome is not None, result.error
            running -= 1
            ended.append(time.monotonic() - started)
            top1[result.job.number] = result.outcome.top1
    return Endings(ended=ended, top1=[value for _, value in sorted(top1.items())])


def sleepers(folder: Path, count: int, seconds: float) -> list[Job]:
    """Trials whose evaluator sleeps."""
    (folder / "sleeper.py").write_text(f"import time\n\n\ndef top1(arch):\n    time.sleep({seconds})\n    return 0.5\n")
    plugin = Plugin(name="sleeper:top1", folder=str(folder))
    arch = mobilenet_v3_small_32px()
    evaluation = OwnEvaluation(architecture=arch, evaluator=plugin, content=plugin.content)
    return [Job(number=number, attempt=1, evaluation=evaluation) for number in range(count)]


def trainings(folder: Path, count: int, images: int, judging: int, processes: int = 1) -> list[Job]:
    """Short trainings on Fashion-MNIST, each of another seed, judged on so many images of the reward split."""
    data = prepare("fashion-mnist", resolution=None, data_dir=None)
    use = DataUse(
        content_hash=data.content_hash, reward_fraction=0.15, split_seed=0, train_images=None, reward_images=judging
    )
    arch = mobilenet_v3_small_32px(width=0.25, resolution=28, in_channels=1)
    return [
        Job(
            number=number,
            attempt=1,
            evaluation=Training(
                architecture=arch, data=use, recipe=Recipe(images=images), seed=number, processes=processes
            ),
            data_folder=data.folder,
            weights=folder / f"{number}.safetensors",
        )
        for number in range(count)
    ]


def overhead(folder: Path, count: int, raw: Raw) -> None:
    """Trials of an evaluator that answers at once, on one slot."""
    jobs = sleepers(folder, count, 0.0)
    evaluation = jobs[0].evaluation
    assert isinstance(evaluation, OwnEvaluation)
    ask_own(evaluation)
    start = time.perf_counter()
    for _ in jobs:
        ask_own(evaluation)
    print(f"bare   {(time.perf_counter() - start) / count * 1e3:8.3f} ms per trial")
    for kind in KINDS:
        with executor(kind, 1) as made:
            endings = run(made, jobs, 1)
        gaps = [later - earlier for earlier, later in zip(endings.ended, endings.ended[1:], strict=False)]
        for number, gap in enumerate(gaps):
            raw.add(executor=kind, trial=number + 1, ms=1000 * gap)
        print(
            f"{kind:6} {statistics.median(gaps) * 1e3:8.3f} ms per trial (median), first after {endings.ended[0]:.1f} s"
        )


def scaling(folder: Path, count: int, images: int, repeats: int, raw: Raw) -> None:
    """Trainings on one slot and on two, while all slots run: neither while they import, nor when trials run out."""
    jobs = trainings(folder, count, images, 500)
    for repeat in range(repeats):
        for kind in KINDS:
            rates = {}
            for slots in (1, 2):
                with executor(kind, slots) as made:
                    rates[slots] = run(made, jobs, slots).rate(count // 4, count - slots)
            raw.add(executor=kind, repeat=repeat, one_slot_per_s=rates[1], two_slots_per_s=rates[2])
            print(f"{kind:6} {rates[1]:.3f} and {rates[2]:.3f} trials/s: {rates[2] / rates[1]:.2f} times", flush=True)


def busy(folder: Path, slots: int, rounds: int, seconds: float, raw: Raw) -> None:
    """Sleeping evaluators on many slots: the share of the slots' time that they sleep."""
    count = slots * rounds
    for kind in KINDS:
        with executor(kind, slots) as made:
            endings = run(made, sleepers(folder, count, seconds), slots)
        # In whole rounds of the second half, before slots run out of trials: while slots start, two cores have to
        # import for all of them.
        share = endings.rate(count // 2, count - slots) * seconds / slots
        overall = count * seconds / slots / (endings.ended[-1] - endings.ended[0] + seconds)
        raw.add(executor=kind, slots=slots, trial_seconds=seconds, busy=share, busy_in_all=overall)
        print(
            f"{kind:6} {share:.1%} busy with trials of {seconds:g} s in the steady state, {overall:.1%} since the "
            f"first one began; first ending after {endings.ended[0]:.1f} s, {count} trials in "
            f"{endings.ended[-1]:.1f} s",
            flush=True,
        )


def together(folder: Path, seeds: int, images: int, raw: Raw) -> None:
    """Trainings by one process and by two, seed for seed."""
    for processes in (1, 2):
        with executor("ray", 2) as made:
            found = run(made, trainings(folder, seeds, images, 9000, processes), 1).top1
        spread = statistics.stdev(found)
        for seed, top1 in enumerate(found):
            raw.add(processes=processes, seed=seed, images=images, top1=top1)
        told = " ".join(f"{top1:.4f}" for top1 in found)
        print(f"{processes} process(es): {told}, mean {statistics.mean(found):.4f}, sd {spread:.4f}", flush=True)


def main() -> None:
    """See the head of the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("overhead", "scaling", "busy", "together"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--trainings", type=int, default=24)
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    asked = parser.parse_args()
    raw = Raw(f"cluster {asked.what}")
    with tempfile.TemporaryDirectory() as folder:
        if asked.what == "overhead":
            overhead(Path(folder), asked.trials, raw)
        elif asked.what == "scaling":
            scaling(Path(folder), asked.trainings, asked.images, asked.repeats, raw)
        elif asked.what == "busy":
            busy(Path(folder), asked.slots, asked.rounds, asked.seconds, raw)
        else:
            together(Path(folder), asked.seeds, asked.images, raw)
    raw.write(asked.csv)


if __name__ == "__main__":
    main()
