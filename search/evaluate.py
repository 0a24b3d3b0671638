"""One evaluation: the only place where a network's latency and its training meet."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from latency.table import LatencyTable
from search.trial import Scores
from space.arch import Architecture
from space.cost import cost_of
from space.errors import DataError
from trainer.data import Dataset, Splits, split, subset
from trainer.inherit import inherit
from trainer.train import Progress, Recipe, load_model, predict, top1, train

# Raised whenever trainer or modules change so that the same evaluation gives another result: older ones are then no
# longer taken over.
EVALUATOR_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUse:
    """Which part of which data an evaluation uses; None means the whole split."""

    content_hash: str
    reward_fraction: float
    split_seed: int
    train_images: int | None
    reward_images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that a top-1 depends on; equal evaluations have equal results.

    `parent_key` is the key of the evaluation whose weights are inherited, None for training from scratch.
    """

    architecture: Architecture
    data: DataUse
    recipe: Recipe
    seed: int
    parent_key: str | None = None

    @property
    def key(self) -> str:
        """A hash of the content."""
        content = {
            **asdict(self),
            "architecture": self.architecture.arch_id,
            "evaluator": [EVALUATOR_VERSION, torch.__version__],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The network whose weights are inherited."""

    architecture: Architecture
    weights: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An evaluation and where its files are, as it travels to a worker."""

    number: int
    attempt: int
    evaluation: Evaluation
    data_folder: Path
    weights: Path
    parent: Parent | None = None
    touch_test: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an evaluation found; `right` says which test images it classified right, if test was touched."""

    top1: float
    images_seen: int
    right: tuple[bool, ...] | None


def scores_of(arch: Architecture, table: LatencyTable, top1: float | None = None) -> Scores:
    """Scores with the table's latency and exact costs.

    Raises:
        MissingBlock: the table lacks one of the blocks.
    """
    cost = cost_of(arch)
    return Scores(top1=top1, latency_ms=table.estimate(arch), madds=cost.madds, params=cost.params)


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights {path} cannot be read ({error}); train the network again") from error


def write_weights(weights: dict[str, Tensor], path: Path, *, evaluation_key: str | None = None) -> None:
    """Write a state dict, with the key of the evaluation that made it; a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(weights, draft, metadata={"evaluation": evaluation_key} if evaluation_key else None)
    with draft.open("rb") as written:
        os.fsync(written.fileno())  # the record must not be ahead of the file after a power cut
    draft.replace(path)


def evaluation_of_weights(path: Path) -> str | None:
    """The key of the evaluation that wrote a file of weights, or None where there is no such file or key."""
    try:
        with safe_open(path, framework="pt") as opened:
            key: str | None = (opened.metadata() or {}).get("evaluation")
            return key
    except (OSError, SafetensorError):
        return None


@lru_cache(maxsize=2)
def _data(folder: Path, reward_fraction: float, seed: int) -> tuple[Dataset, Splits]:
    """Opened once per worker process, not once per trial."""
    dataset = Dataset.open(folder)
    return dataset, split(dataset, reward_fraction=reward_fraction, seed=seed)


def run_job(job: Job, progress: Progress | None = None) -> Outcome:
    """Train and evaluate one network, and leave its weights behind; runs in a worker.

    Raises:
        DataError: the data or the parent's weights cannot be read, or training diverged.
    """
    evaluation, use = job.evaluation, job.evaluation.data
    arch = evaluation.architecture
    dataset, splits = _data(job.data_folder, use.reward_fraction, use.split_seed)
    labels = dataset.labels()
    chosen = (
        splits.train if use.train_images is None else subset(splits.train, labels, use.train_images, use.split_seed)
    )
    inherited = None
    if job.parent is not None:
        inherited = inherit(job.parent.architecture, read_weights(job.parent.weights), arch)
    trained = train(
        arch, dataset, chosen, evaluation.recipe, seed=evaluation.seed, weights=inherited, progress=progress
    )
    model = load_model(arch, trained.weights)
    judged = subset(splits.reward, labels, use.reward_images, use.split_seed)
    share_right = top1(model, dataset, judged)
    right = None
    if job.touch_test:
        right = tuple(np.asarray(predict(model, dataset, splits.test) == labels[splits.test]).tolist())
    write_weights(trained.weights, job.weights, evaluation_key=evaluation.key)
    return Outcome(top1=share_right, images_seen=trained.images_seen, right=right)
