"""Is the found network better than the one that everybody could have taken? python -m benchmarks.headline --help.

So many searches of the default job, each with an empty record and its own seed of search and training. Then every found
network and the reference at widths 0.30 to 1.00 are trained by the same recipe with the same seeds, and measured whole,
interleaved. The baseline of a found network is the reference's curve over its widths, interpolated at equal measured
latency. Each step writes a JSON file of its own; run the command again and again until it says that all is done.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import mobilenas
from benchmarks.curves import MEASURING, space_of
from benchmarks.headline.report import write_report
from latency.kit import Campaign
from latency.meter import LocalMeter
from latency.probe import processor_name
from search.config.load import parse_config
from search.evaluation.processes import start_context
from search.record.store import Store
from search.trial import SearchStage, State
from space.arch import Architecture
from space.errors import Stopped
from space.reference import REFERENCES, mobilenet_v3_small_32px
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import split
from trainer.training.judging import judge
from trainer.training.networks import load_model
from trainer.training.state import TrainingState
from trainer.training.train import Attended, Checkpoints, train

# The other published families at widths that make them about as fast as the target; V2 cannot be.
FAMILIES = {"mobilenet_v1_32px": 0.2, "mobilenet_v3_large_32px": 0.15}
WIDTHS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8, 1.0)
SEEDS = (100, 101, 102)
"""Of the trainings that are compared; the searches' own are others."""
HERE = Path(__file__).parent


def search(data: str, data_dir: str | None, seed: int, budget: str, work: Path, out: Path) -> None:
    """One search, or on with it; what it found, and what it took."""
    folder = work / f"search-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    url, name = f"sqlite:///{folder / 'record.db'}", f"headline-{seed}"
    began = time.time()
    with closing(Store.open(url)) as store:
        has_begun = any(record.name == name for record in store.searches.all())
    if has_begun:
        found = mobilenas.resume(name, database=url)
    else:
        source = {"source": data, "data_dir": data_dir}
        config = {"seed": seed, "training": {"seed": seed}, "data": source}
        found = mobilenas.search(config, name=name, database=url, runs=folder / "runs", budget=budget)
    with closing(Store.open(url)) as store:
        record = store.searches.get(name)
        trials = store.trials.of(record.id)
    config = parse_config(dict(record.config))
    trained = [trial for trial in trials if trial.state is State.COMPLETE]
    finals = {trial.origin: trial for trial in trained if trial.stage is SearchStage.FINAL}
    begun = {trial.number: trial.images_seen for trial in trained}
    images = sum(
        trial.images_seen - (begun.get(trial.parent, 0) if trial.parent is not None else 0)
        for trial in trained
        if trial.origin != "found"
    )
    content = {
        "seed": seed,
        "budget": budget,
        "minutes": None if has_begun else round((time.time() - began) / 60, 2),
        "images": images,
        "final_images": config.final.images,
        "rungs": [[rung.images, rung.networks] for rung in config.race.rungs],
        "chosen_is_baseline": "baseline" in finals and finals["found"].architecture == finals["baseline"].architecture,
        "spec": finals["found"].architecture.to_json(),
        "report": json.loads((found.folder / "report.json").read_text(encoding="utf-8")),
        **_made(),
    }
    _write(out, content)


def _made() -> dict[str, object]:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return {
        "version": mobilenas.__version__,
        "machine": processor_name(),
        "cpu_flags": sorted(name for name in ("avx2", "avx512f", "avx512_vnni", "amx_bf16") if f" {name}" in flags),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


@dataclass(frozen=True)
class Job:
    """A training to compare by."""

    folder: Path
    spec: str
    seed: int
    images: int
    out: Path
    checkpoint: Path
    until: float


def train_one(job: Job) -> str:
    """One network with one seed by the default job's final recipe, or on with it."""
    torch.set_num_threads(1)
    dataset = Dataset.open(job.folder)
    splits = split(dataset)
    config = parse_config({"final": {"images": job.images}})
    state = TrainingState.read(job.checkpoint) if job.checkpoint.exists() else None
    arch = Architecture.from_json(job.spec)
    attended = Attended(
        checkpoints=Checkpoints(keep=lambda kept: kept.write(job.checkpoint)),
        stopping=lambda: time.time() > job.until,
    )
    try:
        trained = train(arch, dataset, splits.train, config.final_recipe, seed=job.seed, state=state, attended=attended)
    except Stopped:
        return f"{job.out.stem}: to be gone on with"
    tested = judge(load_model(arch, trained.weights), dataset, splits.test)
    content = {"arch_id": arch.arch_id, "seed": job.seed, "images": job.images, "top1": tested.top1}
    _write(job.out, {**content, "log_likelihood": tested.log_likelihood, "seconds": trained.seconds, **_made()})
    job.checkpoint.unlink(missing_ok=True)
    return f"{job.out.stem}: {tested.top1:.2%}"


def networks(dataset: Dataset, out: Path) -> dict[str, Architecture]:
    """The found networks, the width curve, and the other families."""
    space = space_of(dataset)
    sizes = {"resolution": space.resolution, "in_channels": space.in_channels, "num_classes": space.num_classes}
    curve = {f"width-{round(100 * width)}": replace(mobilenet_v3_small_32px(width=width), **sizes) for width in WIDTHS}
    found = {path.stem: Architecture.from_json(_read(path)["spec"]) for path in sorted(out.glob("search-*.json"))}
    others = {name: REFERENCES[name](width=width, **sizes) for name, width in FAMILIES.items()}
    return {**found, **curve, **others}


def jobs(dataset: Dataset, out: Path, work: Path, until: float) -> Iterator[Job]:
    """The trainings that are left, as long as the searches' final ones."""
    searches = [_read(path) for path in out.glob("search-*.json")]
    lengths = sorted(found["final_images"] for found in searches)
    images = lengths[len(lengths) // 2]
    for seed in SEEDS:
        for arch in dict.fromkeys(networks(dataset, out).values()):
            name = f"train-{arch.arch_id}-{seed}"
            if not (out / f"{name}.json").exists():
                checkpoint = work / f"{name}.checkpoint"
                yield Job(dataset.folder, arch.to_json(), seed, images, out / f"{name}.json", checkpoint, until)


def measure(dataset: Dataset, out: Path) -> None:
    """All networks whole, interleaved."""
    found = LocalMeter("local").run(Campaign(networks=networks(dataset, out), protocol=MEASURING)).networks
    rows = {}
    for name, each in found.items():
        low, high = each.measurement.interval("warm", "wall")
        rows[name] = {"ms": each.measurement.estimate("warm", "wall"), "low_ms": low, "high_ms": high}
    _write(out / "latency.json", {"networks": rows, **_made()})


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def main() -> None:
    """Go on with what is left, for so many minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--searches", type=int, default=8)
    parser.add_argument("--budget", default="default")
    parser.add_argument("--work", type=Path, required=True, help="folder for records and checkpoints")
    parser.add_argument("--out", type=Path, help="folder for the results; default: beside this file")
    parser.add_argument("--minutes", type=float, default=29.0)
    arguments = parser.parse_args()
    until, out = time.time() + 60 * arguments.minutes, arguments.out or HERE / arguments.data
    out.mkdir(parents=True, exist_ok=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.searches):
        path = out / f"search-{seed}.json"
        if not path.exists():
            if time.time() > until:
                print(f"{path.stem} is next")
                return
            search(arguments.data, arguments.data_dir, seed, arguments.budget, arguments.work, path)
            print(f"{path.stem}: done")
    dataset = prepare(arguments.data, data_dir=Path(arguments.data_dir) if arguments.data_dir else None)
    left = list(jobs(dataset, out, arguments.work, until))
    with start_context(trains=True).Pool(len(os.sched_getaffinity(0))) as pool:
        for told in pool.imap_unordered(train_one, left):
            print(told, flush=True)
    if list(jobs(dataset, out, arguments.work, until)):
        print("run it again")
        return
    if not (out / "latency.json").exists():
        measure(dataset, out)
    write_report(out, {name: arch.arch_id for name, arch in networks(dataset, out).items()}, SEEDS)
    print("all is done")


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
