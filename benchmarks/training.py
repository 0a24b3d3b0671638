"""What a training costs and reaches: python benchmarks/training.py --help.

`accuracy`: CPU minutes until the reward split says 92 % (Fashion-MNIST) or 80 % (CIFAR-10) of the reference, by the
recipe `proxy`, judged on its way, and by version 0.1's at the shortest of five lengths that reaches it, each a training
of its own (found by halving: a longer one is taken to reach no less). `minutes`: what `final` and version 0.1's recipe
reach on the test split in so many minutes of the whole machine, or in as many images as an earlier run trained in them.
`augmentation`: what `final` reaches with each kind of augmentation after so many images.
`speed`: images per second of the trainer beside a plain loop, and its step beside the sum of its kernels. `checkpoint`:
what keeping costs.
"""

import argparse
import multiprocessing
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from benchmarks.raw import Raw
from search.plan import available_cores
from space.arch import Architecture
from space.reference import mobilenet_v3_small_32px
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import Splits, split
from trainer.training.batches import Images
from trainer.training.judgement import Judgement
from trainer.training.judging import judge
from trainer.training.networks import channels_last, load_model, new_model
from trainer.training.recipe import Recipe, load_recipe
from trainer.training.train import Attended, Check, Trained, train

TARGETS = {"fashion-mnist": 0.92, "cifar10": 0.80}
LENGTHS = {
    "fashion-mnist": (30_000, 60_000, 90_000, 120_000, 180_000),
    "cifar10": (120_000, 180_000, 240_000, 300_000, 420_000),
}
LONGEST = {"fashion-mnist": 120_000, "cifar10": 420_000}
EVERY = 6_000


def reference(dataset: Dataset) -> Architecture:
    """The default reference for a data set."""
    return replace(
        mobilenet_v3_small_32px(width=0.5),
        in_channels=len(dataset.preprocess.mean),
        num_classes=len(dataset.classes),
    )


def recipe_for(name: str, data: str, images: int) -> Recipe:
    """A shipped recipe; colour photos are moved, too, as in configs/cifar10.yaml."""
    recipe = load_recipe(name)
    how = replace(recipe.augmentation, shift=0.0625) if data == "cifar10" else recipe.augmentation
    return replace(recipe, images=images, augmentation=how)


@dataclass(frozen=True)
class Task:
    """One way to the target with one seed."""

    name: str
    data: str
    folder: Path
    seed: int


def curve(task: Task) -> tuple[Task, list[tuple[int, float, float]]]:
    """Images, CPU minutes and top-1 on the whole reward split; of version 0.1's recipe at the end of each length."""
    torch.set_num_threads(1)
    dataset = Dataset.open(task.folder)
    arch, splits = reference(dataset), split(dataset)
    if task.name == "proxy":
        return task, _endless(task, arch, dataset, splits)
    found, lengths = [], LENGTHS[task.data]
    too_short, enough = 0, len(lengths)
    while too_short < enough:
        images = lengths[middle := (too_short + enough) // 2]
        started = time.process_time()
        trained = train(arch, dataset, splits.train, recipe_for(task.name, task.data, images), seed=task.seed)
        minutes = (time.process_time() - started) / 60
        top1 = judge(load_model(arch, trained.weights), dataset, splits.reward).top1
        found.append((images, minutes, top1))
        if top1 > TARGETS[task.data]:
            enough = middle
        else:
            too_short = middle + 1
    return task, sorted(found)


def _endless(task: Task, arch: Architecture, dataset: Dataset, splits: Splits) -> list[tuple[int, float, float]]:
    recipe = recipe_for(task.name, task.data, LONGEST[task.data])
    found, started, judging = [], time.process_time(), 0.0

    def look(model: nn.Module, share: float) -> None:
        nonlocal judging
        began = time.process_time()
        found.append(
            (round(share * recipe.images), (began - started - judging) / 60, judge(model, dataset, splits.reward).top1)
        )
        judging += time.process_time() - began

    check = Check(times=recipe.images // EVERY - 1, look=look)
    train(arch, dataset, splits.train, recipe, seed=task.seed, attended=Attended(check=check))
    return found


def accuracy(arguments: argparse.Namespace, raw: Raw) -> None:
    """The ratio of CPU minutes, by seed."""
    dataset = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir)
    names = ("proxy", "sgd-cosine")
    tasks = [Task(name, arguments.data, dataset.folder, seed) for name in names for seed in arguments.seed]
    reached: dict[tuple[str, int], float] = {}
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for task, points in pool.imap_unordered(curve, tasks):
            for images, minutes, top1 in points:
                raw.add(
                    part="accuracy",
                    data=task.data,
                    recipe=task.name,
                    seed=task.seed,
                    images=images,
                    cpu_minutes=minutes,
                    top1=top1,
                )
                print(f"{task.name} seed {task.seed}: {images:,} images, {minutes:.2f} CPU min, {top1:.2%}", flush=True)
            raw.write(arguments.csv)
            stays = [all(later > TARGETS[task.data] for *_, later in points[at:]) for at in range(len(points))]
            if any(stays):
                reached[task.name, task.seed] = points[stays.index(True)][1]
    for seed in arguments.seed:
        if all((name, seed) in reached for name in names):
            now, before = (reached[name, seed] for name in names)
            print(f"seed {seed}: {now:.2f} of {before:.2f} CPU minutes, ratio {now / before:.2f}")
        else:
            print(f"seed {seed}: reached by {[name for name in names if (name, seed) in reached]}")


def ended(task: Task, images: int, threads: int) -> tuple[Task, Trained, Judgement]:
    """A training of so many images, and what it says on the test split."""
    torch.set_num_threads(threads)
    dataset = Dataset.open(task.folder)
    arch, splits = reference(dataset), split(dataset)
    trained = train(arch, dataset, splits.train, recipe_for(task.name, task.data, images), seed=task.seed)
    return task, trained, judge(load_model(arch, trained.weights), dataset, splits.test)


def minutes(arguments: argparse.Namespace, raw: Raw) -> None:
    """What is reached in a given time with all cores for one training; given its images, in trainings side by side."""
    dataset = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir)
    names = ("sgd-cosine", "final")
    tasks = [Task(name, arguments.data, dataset.folder, seed) for seed in arguments.seed for name in names]

    def tell(task: Task, trained: Trained, found: Judgement) -> None:
        raw.add(
            part="minutes",
            data=task.data,
            recipe=task.name,
            seed=task.seed,
            images=trained.images_seen,
            minutes=trained.seconds / 60,
            top1=found.top1,
            log_likelihood=found.log_likelihood,
        )
        raw.write(arguments.csv)
        took = f"{trained.images_seen:,} images in {trained.seconds / 60:.1f} min"
        print(f"{task.name} seed {task.seed}: {took}, test {found.top1:.2%}", flush=True)

    if arguments.images:
        given = dict(zip(names, arguments.images, strict=True))
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
            for answer in [pool.apply_async(ended, (task, given[task.name], 1)) for task in tasks]:
                tell(*answer.get())
        return
    for task in tasks:
        for _ in range(2):
            _, probe, _ = ended(task, 64 * 20, len(available_cores()))
        rate = probe.images_seen / probe.seconds
        tell(*ended(task, round(rate * 60 * arguments.minutes), len(available_cores())))


AUGMENTED: dict[str, dict[str, float]] = {
    "as shipped": {},
    "erasing": {"erase": 0.25},
    "two operations": {"operations": 2, "magnitude": 0.3},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
}


def augmented(task: Task, images: int, kind: str) -> tuple[Task, str, Judgement, Judgement]:
    """A training with one kind of augmentation, judged on the reward split and on the test split."""
    torch.set_num_threads(1)
    dataset = Dataset.open(task.folder)
    arch, splits, recipe = reference(dataset), split(dataset), recipe_for("final", task.data, images)
    recipe = replace(recipe, augmentation=replace(recipe.augmentation, **AUGMENTED[kind]))
    trained = train(arch, dataset, splits.train, recipe, seed=task.seed)
    model = load_model(arch, trained.weights)
    return task, kind, judge(model, dataset, splits.reward), judge(model, dataset, splits.test)


def augmentation(arguments: argparse.Namespace, raw: Raw) -> None:
    """What each kind is worth, beside the recipe as it is shipped."""
    dataset = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir)
    (images,) = arguments.images or (60_000,)
    tasks = [
        (Task("final", arguments.data, dataset.folder, seed), kind) for seed in arguments.seed for kind in AUGMENTED
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for answer in [pool.apply_async(augmented, (task, images, kind)) for task, kind in tasks]:
            task, kind, reward, test = answer.get()
            raw.add(
                part="augmentation",
                data=task.data,
                recipe=task.name,
                kind=kind,
                seed=task.seed,
                images=images,
                reward_top1=reward.top1,
                reward_log_likelihood=reward.log_likelihood,
                top1=test.top1,
                log_likelihood=test.log_likelihood,
            )
            raw.write(arguments.csv)
            print(
                f"{images:,} images, {kind}, seed {task.seed}: reward split {reward.top1:.2%} "
                f"({reward.log_likelihood:.4f}), test split {test.top1:.2%} ({test.log_likelihood:.4f})",
                flush=True,
            )


def plain_loop(arch: Architecture, dataset: Dataset, indices: np.ndarray, steps: int, batch: int) -> float:
    """Seconds per step of SGD in a loop that does nothing else, its images in memory."""
    model = channels_last(new_model(arch, 0)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True)
    batches = [Images(dataset).batch(indices[at * batch : (at + 1) * batch]) for at in range(4)]
    times = []
    for step in range(steps):
        started = time.process_time()
        inputs, labels = batches[step % len(batches)]
        loss = functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.process_time() - started)
    return float(np.median(times[3:]))


def trainer_step(arch: Architecture, dataset: Dataset, indices: np.ndarray, recipe: Recipe) -> float:
    """Seconds per step of the trainer, the difference of two lengths."""
    took = []
    for steps in (4, 24):
        started = time.process_time()
        train(arch, dataset, indices, replace(recipe, images=steps * recipe.batch_size), seed=0)
        took.append(time.process_time() - started)
    return (took[1] - took[0]) / 20


WAYS = ("plain loop", "sgd-cosine", "proxy")


def timed(folder: Path, way: str) -> float:
    """Seconds of a step in a process with one thread."""
    torch.set_num_threads(1)
    dataset = Dataset.open(folder)
    arch, indices = reference(dataset), split(dataset).train
    if way == "plain loop":
        return plain_loop(arch, dataset, indices, 24, 64)
    return trainer_step(arch, dataset, indices, load_recipe(way))


def speed(arguments: argparse.Namespace, raw: Raw) -> None:
    """Images per second in CPU time, alone and in two processes at once: ratios within one run, medians of repeats."""
    dataset = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir)
    for processes in (1, 2):
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for _ in range(arguments.repeats):
                for way in WAYS:
                    found[way] += pool.starmap(timed, [(dataset.folder, way)] * processes, chunksize=1)
        for way, seconds in found.items():
            middle = float(np.median(seconds))
            raw.add(
                part="speed",
                way=way,
                processes=processes,
                ms_per_step=1e3 * middle,
                images_per_second=processes * 64 / middle,
            )
            print(
                f"{way}, {processes} at once: {1e3 * middle:.1f} ms per step of 64, "
                f"{processes * 64 / middle:.0f} images/s in all"
            )
    torch.set_num_threads(1)
    _kernels(reference(dataset), dataset, split(dataset).train, raw)


def _kernels(arch: Architecture, dataset: Dataset, indices: np.ndarray, raw: Raw) -> None:
    """How much of the trainer's time is inside torch's kernels, and of which kind."""
    recipe = replace(load_recipe("proxy"), images=64 * 12)
    train(arch, dataset, indices, recipe, seed=0)
    started = time.process_time()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        train(arch, dataset, indices, recipe, seed=0)
    whole = time.process_time() - started
    kinds = {
        "convolution, forward": ("mkldnn_convolution", "slow_conv2d_forward"),
        "convolution, backward": ("convolution_backward", "slow_conv2d_backward"),
        "BatchNorm": ("batch_norm",),
        "matrices (Muon, SE's and small depthwise layers)": ("aten::mm", "addmm", "bmm"),
        "products and activations": ("aten::mul", "hardswish", "threshold", "hardsigmoid", "aten::add", "relu"),
    }
    left = {event.key: event.self_cpu_time_total / 1e6 for event in found.key_averages()}
    inside = sum(seconds for key, seconds in left.items() if key.startswith("aten::"))
    for kind, parts in kinds.items():
        mine = {key for key in left if any(part in key for part in parts) and key.startswith("aten::")}
        seconds = sum(left.pop(key) for key in mine)
        raw.add(part="kernels", kind=kind, share=seconds / whole)
        print(f"{kind}: {seconds / whole:.0%} of the CPU time")
    print(f"inside ATen's operations: {inside / whole:.0%}; the rest is Python, autograd and the profiler's own")


def checkpoint(arguments: argparse.Namespace, raw: Raw) -> None:
    """Milliseconds to keep a training, as a share of the default interval."""
    torch.set_num_threads(1)
    dataset = prepare(arguments.data, resolution=None, data_dir=arguments.data_dir)
    arch, indices = reference(dataset), split(dataset).train
    state = train(arch, dataset, indices, replace(load_recipe("proxy"), images=640), seed=0).state
    assert state is not None
    times = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.checkpoint"
        for _ in range(arguments.repeats * 5):
            started = time.monotonic()
            state.write(path)
            times.append(time.monotonic() - started)
        size = path.stat().st_size
    middle = float(np.median(times))
    raw.add(part="checkpoint", ms=1e3 * middle, bytes=size, share=middle / 300)
    print(f"{size / 1e6:.1f} MB in {1e3 * middle:.1f} ms: {middle / 300:.4%} of 5 minutes (slowest {max(times):.3f} s)")


def main() -> None:
    """One part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {
        "accuracy": accuracy,
        "minutes": minutes,
        "augmentation": augmentation,
        "speed": speed,
        "checkpoint": checkpoint,
    }
    parser.add_argument("part", choices=parts)
    parser.add_argument("--data", choices=tuple(TARGETS), default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--images", type=int, nargs="+", help="minutes: of sgd-cosine, then of final; augmentation: one"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    raw = Raw("training")
    parts[arguments.part](arguments, raw)
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
