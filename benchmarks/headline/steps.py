"""What the headline and its arms share: files of results, trainings to compare networks by, and their latency."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import mobilenas
from benchmarks.curves.make import MEASURING
from benchmarks.raw import commit
from latency.kit import Campaign
from latency.meter import LocalMeter
from latency.probe import processor_name
from search.config.load import parse_config
from search.evaluation.processes import start_context
from space.arch import Architecture
from space.errors import Stopped
from trainer.data.dataset import Dataset
from trainer.data.splits import split
from trainer.training.judging import judge
from trainer.training.networks import load_model
from trainer.training.state import TrainingState
from trainer.training.train import Attended, Checkpoints, train

SEEDS = (100, 101, 102)
"""Of the trainings that are compared; the searches' own are others."""


def made() -> dict[str, object]:
    """By what and where a figure was made."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    return {
        "version": mobilenas.__version__,
        "commit": commit(),
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
    write(job.out, {**content, "log_likelihood": tested.log_likelihood, "seconds": trained.seconds, **made()})
    job.checkpoint.unlink(missing_ok=True)
    return f"{job.out.stem}: {tested.top1:.2%}"


def trainings(
    dataset: Dataset, networks: Iterable[Architecture], images: int, out: Path, work: Path, until: float
) -> list[Job]:
    """Those that are left, a seed of all networks first."""
    left = []
    for seed in SEEDS:
        for arch in dict.fromkeys(networks):
            name = f"train-{arch.arch_id}-{seed}"
            if not (out / f"{name}.json").exists():
                checkpoint = work / f"{name}.checkpoint"
                left.append(Job(dataset.folder, arch.to_json(), seed, images, out / f"{name}.json", checkpoint, until))
    return left


def run_all(jobs: Iterable[Job]) -> None:
    """Trainings, one per core."""
    with start_context(trains=True).Pool(len(os.sched_getaffinity(0))) as pool:
        for told in pool.imap_unordered(train_one, jobs):
            print(told, flush=True)


def measure(networks: Mapping[str, Architecture], path: Path) -> None:
    """All networks whole, interleaved."""
    found = LocalMeter("local").run(Campaign(networks=dict(networks), protocol=MEASURING)).networks
    rows = {}
    for name, each in found.items():
        low, high = each.measurement.interval("warm", "wall")
        rows[name] = {"ms": each.measurement.estimate("warm", "wall"), "low_ms": low, "high_ms": high}
    write(path, {"networks": rows, **made()})


def read(path: Path) -> dict[str, Any]:
    """What a step has left."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def write(path: Path, content: Mapping[str, Any]) -> None:
    """What a step leaves, whole or not at all."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
