"""NetAdapt's walk against uniform width scaling: same network, equal latency, equal fine-tuning, several seeds.

    .venv/bin/python benchmarks/netadapt.py --data fashion-mnist --seeds 3 --out walk.json

Per seed a network is trained, `mobilenas netadapt` walks from it, and along the walk the accepted networks are
fine-tuned for long. Beside each stands the same start network with all of its expansions and stage widths multiplied
by one factor, with weights inherited by the same rule, fine-tuned equally long ("equal"), and once more on as many
images as the walk's network saw in all, short fine-tunings included ("longer").
Widths are multiples of 8, so no factor meets a latency exactly: the two that enclose the walked network's predicted
latency are tuned, and their top-1 on the test split are interpolated linearly.
"""

import argparse
import os
import statistics
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch
import yaml

from benchmarks.raw import Raw
from latency.collect import measure_missing
from latency.meter import LocalMeter
from search.config.load import parse_config
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.trial import SearchStage, State
from space.arch import Architecture, make_divisible
from space.keys import keys_of
from space.preset import load_preset
from space.reference import mobilenet_v3_small_32px
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import split
from trainer.training.inherit import inherit
from trainer.training.judging import judge
from trainer.training.networks import load_model
from trainer.training.recipe import Recipe
from trainer.training.train import train
from trainer.training.weight_files import read_weights, write_weights


def scaled(arch: Architecture, factor: float) -> Architecture:
    """All expansions and stage widths times `factor`, in multiples of 8; stem and head stay, as they do in a walk."""

    def width(channels: int) -> int:
        return min(channels, make_divisible(channels * factor))

    stages = tuple(
        replace(
            stage,
            out_channels=width(stage.out_channels),
            blocks=tuple(
                block
                if block.expanded_channels is None
                else replace(block, expanded_channels=width(block.expanded_channels))
                for block in stage.blocks
            ),
        )
        for stage in arch.stages
    )
    return replace(arch, stages=stages)


@dataclass(frozen=True)
class Task:
    """One fine-tuning."""

    method: str
    latency_ms: float
    share: float
    wide: Architecture
    weights: Path
    narrow: Architecture
    images: int
    recipe: Recipe
    folder: Path
    seed: int


def tuned(task: Task) -> tuple[str, float, float, int, float]:
    """Method, share of the start's latency, latency, images and top-1 on the test split."""
    torch.set_num_threads(1)
    dataset = Dataset.open(task.folder)
    splits = split(dataset, reward_fraction=0.15, seed=0)
    weights = inherit(task.wide, read_weights(task.weights), task.narrow)
    recipe = replace(task.recipe, images=task.images)
    trained = train(task.narrow, dataset, splits.train, recipe, seed=task.seed, weights=weights)
    found = judge(load_model(task.narrow, trained.weights), dataset, splits.test).top1
    return task.method, task.share, task.latency_ms, task.images, found


def config_of(arguments: argparse.Namespace) -> dict[str, object]:
    """The walk's configuration, as a user would write it."""
    return {
        "data": {"source": arguments.data, "data_dir": arguments.data_dir, "reward_images": arguments.judge},
        "space": {"width": arguments.width},
        "training": {"shift": 0.0625 if arguments.data == "cifar10" else 0.0},
        "netadapt": {"delta": arguments.delta, "images": arguments.short, "choice": arguments.choice, "steps": "fixed"},
        "final": {"images": 512},
    }


def start_network(arguments: argparse.Namespace, dataset: Dataset, seed: int, folder: Path) -> Architecture:
    """Train the network to start from, unless an earlier run has left it."""
    channels, classes = len(dataset.preprocess.mean), len(dataset.classes)
    arch = mobilenet_v3_small_32px(width=arguments.width, in_channels=channels, num_classes=classes)
    if not (folder / "weights.safetensors").exists():
        folder.mkdir(parents=True)
        splits = split(dataset, reward_fraction=0.15, seed=0)
        recipe = parse_config(config_of(arguments)).training.recipe(arguments.start)
        trained = train(arch, dataset, splits.train, recipe, seed=seed)
        (folder / "architecture.json").write_text(arch.to_json())
        write_weights(trained.weights, folder / "weights.safetensors")
    return arch


def walk(arguments: argparse.Namespace, folder: Path, seed: int, url: str) -> str:
    """Let the product walk; an interrupted one goes on."""
    name, config = f"walk-{seed}", folder / "walk.yaml"
    config.write_text(yaml.safe_dump(config_of(arguments)))
    runs = ("--runs", str(folder / "runs"), "--database", url)
    store = Store.open(url)
    known = {record.name: record.state for record in store.searches.all()}
    store.close()
    if known.get(name) == "done":
        return name
    command = ["netadapt", "--from", str(folder / f"start-{seed}"), "--config", str(config), "--name", name]
    command += ["--target", f"{arguments.until:.0%}"]
    if name in known:
        command = ["resume", name]
    subprocess.run([sys.executable, "-m", "service.cli", *command, *runs], check=True, env=dict(os.environ))
    return name


def tasks(arguments: argparse.Namespace, recorded: RecordedSearch, dataset: Dataset, seed: int) -> list[Task]:
    """Fine-tunings of the walk's networks and of uniformly scaled ones."""
    (start,) = recorded.trials(SearchStage.BLOCKS)
    recipe = parse_config(config_of(arguments)).fine_tuning_recipe
    (device,) = recorded.devices
    family = [scaled(start.architecture, percent / 100) for percent in range(100, 0, -1)]
    family = list(dict.fromkeys(family))
    missing = device.table.missing(key for arch in family for key in keys_of(arch))
    measured = measure_missing(device.table, missing, LocalMeter("local"), recorded.config.device.protocol)
    recorded.store.tables.add_entries(device.table_id, measured, reason="enqueued")
    table = recorded.store.tables.load(device.table_id)
    found = []
    by_number = {
        trial.number: trial for stage in (SearchStage.BLOCKS, SearchStage.NETADAPT) for trial in recorded.trials(stage)
    }
    start_ms = start.scores.latency_ms
    for share in arguments.shares:
        steps = [
            step
            for step in recorded.store.trials.steps(recorded.record.id)
            if step.latency_after_ms <= share * start_ms
        ]
        if not steps:
            continue
        trial = by_number[steps[0].trial]
        assert trial.weights is not None
        assert start.weights is not None
        walked_ms = table.estimate(trial.architecture)
        index = next((index for index, arch in enumerate(family) if table.estimate(arch) <= walked_ms), None)
        if index is None:
            print(f"uniform scaling does not reach {walked_ms:.4f} ms: stem and head alone take the rest")
            continue
        seen = steps[0].iteration * arguments.short
        common = {"share": share, "recipe": recipe, "folder": dataset.folder, "seed": seed}
        here = recorded.start.run_folder
        found.append(
            Task(
                method="netadapt",
                latency_ms=walked_ms,
                wide=trial.architecture,
                weights=here / trial.weights,
                narrow=trial.architecture,
                images=arguments.long,
                **common,
            )
        )
        for where, uniform in (("above", family[index - 1]), ("below", family[index])):
            for how, images in (("equal", arguments.long), ("longer", arguments.long + seen)):
                found.append(
                    Task(
                        method=f"{how} {where}",
                        latency_ms=table.estimate(uniform),
                        wide=start.architecture,
                        weights=here / start.weights,
                        narrow=uniform,
                        images=images,
                        **common,
                    )
                )
    return found


def run(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Every seed: start, walk, long fine-tunings."""
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    data_dir = Path(arguments.data_dir) if arguments.data_dir else None
    dataset = prepare(arguments.data, resolution=None, data_dir=data_dir)
    load_preset("mobilenet-v3-small-32px")
    url = f"sqlite:///{folder / 'record.db'}"
    rows: list[dict[str, object]] = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        start_network(arguments, dataset, seed, folder / f"start-{seed}")
        name = walk(arguments, folder, seed, url)
        store = Store.open(url)
        recorded = RecordedSearch.read(store, name)
        waiting = tasks(arguments, recorded, dataset, seed)
        trials = [trial for trial in recorded.trials(SearchStage.NETADAPT) if trial.state is State.COMPLETE]
        print(f"seed {seed}: {len(store.trials.steps(recorded.record.id))} steps, {len(trials)} proposals")
        print("\n".join(walk_lines(recorded)))
        store.close()
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            for method, share, latency_ms, images, found in pool.map(tuned, waiting):
                rows.append(
                    {
                        "seed": seed,
                        "method": method,
                        "share": share,
                        "latency_ms": latency_ms,
                        "images": images,
                        "top1": found,
                    }
                )
                print(f"  {method:<13} {share:.0%} {latency_ms:.4f} ms  {images:,} images  {found:.2%}", flush=True)
    return rows


def walk_lines(recorded: RecordedSearch) -> list[str]:
    """The walk, a line per step: share of the start's latency, and top-1 on the reward split after the short tuning."""
    steps = recorded.store.trials.steps(recorded.record.id)
    start = steps[0].latency_before_ms if steps else 1.0
    return [
        f"  step {step.iteration:<3} {step.latency_after_ms / start:.1%}  {step.top1_after:.2%}  {step.narrowed}"
        for step in steps
    ]


def pair(rows: list[dict[str, object]], how: str) -> tuple[float, float]:
    """Top-1 of the walked network, and that of uniform scaling interpolated at its latency, of one seed and share."""
    at = {str(row["method"]): (float(str(row["latency_ms"])), float(str(row["top1"]))) for row in rows}
    (latency, walked), above, below = at["netadapt"], at[f"{how} above"], at[f"{how} below"]
    weight = 0.0 if above[0] == below[0] else (latency - below[0]) / (above[0] - below[0])
    return walked, below[1] + weight * (above[1] - below[1])


def summary(rows: list[dict[str, object]]) -> list[str]:
    """A line per share and fine-tuning: means, their difference seed by seed, and the spread of that."""
    lines = []
    for share in dict.fromkeys(row["share"] for row in rows):
        here = [row for row in rows if row["share"] == share]
        seeds = dict.fromkeys(row["seed"] for row in here)
        for how in ("equal", "longer"):
            pairs = [pair([row for row in here if row["seed"] == seed], how) for seed in seeds]
            gaps = [walked - uniform for walked, uniform in pairs]
            spread = statistics.stdev(gaps) if len(gaps) > 1 else float("nan")
            walked, uniform = (statistics.fmean(values) for values in zip(*pairs, strict=True))
            lines.append(
                f"{share:.0%}: NetAdapt {walked:.2%}, uniform tuned {how} {uniform:.2%}, difference "
                f"{statistics.fmean(gaps):+.2%} (standard deviation over {len(gaps)} seeds {spread:.2%})"
            )
    return lines


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=60_000, help="images that the start network sees")
    parser.add_argument("--short", type=int, default=1280, help="images per proposal")
    parser.add_argument("--judge", type=int, default=2500, help="images of the reward split that judge a proposal")
    parser.add_argument("--long", type=int, default=20_000, help="images of the long fine-tuning")
    parser.add_argument("--delta", type=float, default=0.015)
    parser.add_argument("--choice", default="ratio")
    parser.add_argument("--until", type=float, default=0.55, help="share of the start network's latency")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.85, 0.7, 0.55])
    parser.add_argument("--folder", type=Path, default=Path("runs/netadapt-benchmark"))
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments = parser.parse_args()
    rows = run(arguments)
    print("\n".join(summary(rows)))
    raw = Raw("netadapt")
    for row in rows:
        raw.add(data=arguments.data, **row)
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
