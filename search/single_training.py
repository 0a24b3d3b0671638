"""One network trained alone: by a recipe, gone on with where it was left, tested in the end, and exported."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

from search.events import Listener
from search.stages.export import export_network
from space.arch import Architecture
from space.errors import DataError, RunError
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits, subset
from trainer.training.batches import Order
from trainer.training.judgement import Judgement
from trainer.training.judging import judge
from trainer.training.metrics import wilson_interval
from trainer.training.networks import DeviceKind, Weights, load_model
from trainer.training.recipe import Recipe
from trainer.training.state import TrainingState
from trainer.training.train import Attended, Check, Checkpoints, Teacher, train
from trainer.training.weight_files import weights_digest, write_whole

OURS = "training."
CHECKPOINT, REPORT = f"{OURS}checkpoint", f"{OURS}json"
# Looked at so often on the way, on at most so many images of the reward split.
LOOKS, LOOK_IMAGES = 8, 2500


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleTraining:
    """What is trained, on what, how, and the folder that it is kept in.

    `weights` are those to begin with, from scratch where None. `checkpoint_seconds` is how often it is kept.
    """

    arch: Architecture
    dataset: Dataset
    splits: Splits
    recipe: Recipe
    folder: Path
    seed: int = 0
    weights: Weights | None = None
    teacher: Teacher | None = None
    device: DeviceKind = "cpu"
    checkpoint_seconds: float = 300.0

    @property
    def order(self) -> Order:
        """Which images it sees."""
        return Order(indices=self.splits.train, batch_size=self.recipe.batch_size, seed=self.seed)

    @property
    def images(self) -> int:
        """How many images it sees in all: of a set smaller than a batch, fewer than the recipe says."""
        return self.recipe.steps * self.order.size

    @property
    def checkpoint(self) -> Path:
        """What it goes on from."""
        return self.folder / CHECKPOINT

    @property
    def report(self) -> Path:
        """What is known of it so far, as JSON."""
        return self.folder / REPORT


def left_off(folder: Path) -> TrainingState | None:
    """Where a training in this folder was left, None where there is none.

    Raises:
        DataError: it cannot be read.
    """
    path = folder / CHECKPOINT
    return TrainingState.read(path) if path.exists() else None


def train_alone(wanted: SingleTraining, listener: Listener, stopping: Callable[[], bool] = bool) -> dict[str, Any]:
    """Train, or go on; test on the test split and export. Returns the content of the report.

    Raises:
        DataError: what lies in the folder is another training, or damaged.
        Stopped: `stopping` said so; it is kept.
        Diverged: its loss is no number.
        RunError: the folder holds something else, cannot be written, or another process trains there.
    """
    others = sorted(path.name for path in wanted.folder.glob("*") if not path.name.startswith(OURS))
    if others and not wanted.checkpoint.exists():
        raise RunError(f"folder {wanted.folder} holds no training, but {others[0]}; choose another with --out")
    wanted.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(wanted.folder / f"{OURS}lock", timeout=0):
            return _train(wanted, listener, stopping)
    except Timeout as error:
        raise RunError(
            f"another process trains in {wanted.folder}; wait for it, or choose another with --out"
        ) from error
    except OSError as error:
        raise RunError(
            f"{wanted.folder} cannot be written ({error.strerror or error}); what was kept is still there: mend that, "
            "and train again"
        ) from error


def _train(wanted: SingleTraining, listener: Listener, stopping: Callable[[], bool]) -> dict[str, Any]:
    state, size, total = left_off(wanted.folder), wanted.order.size, wanted.images
    curve = [] if state is None else _curve_until(wanted, state)
    if state is not None:
        listener.note(f"going on after {state.steps * size:,} images and {state.seconds / 60:.1f} minutes")
    labels = wanted.dataset.labels()
    few = subset(wanted.splits.reward, labels, min(LOOK_IMAGES, len(wanted.splits.reward)), 0)

    def look(model: nn.Module, share: float) -> None:
        found = judge(model, wanted.dataset, few)
        curve.append({"images": round(share * total), **_figures(found)})
        listener.note(f"{curve[-1]['images']:,} images: {_told(found)} (reward split, {len(few):,} images)")
        _write(wanted, curve)

    listener.begin("training", total)
    trained = train(
        wanted.arch,
        wanted.dataset,
        wanted.splits.train,
        wanted.recipe,
        seed=wanted.seed,
        weights=wanted.weights,
        state=state,
        teacher=wanted.teacher,
        device=wanted.device,
        attended=Attended(
            progress=listener.advance,
            check=Check(times=LOOKS, look=look),
            checkpoints=Checkpoints(keep=lambda kept: kept.write(wanted.checkpoint), seconds=wanted.checkpoint_seconds),
            stopping=stopping,
        ),
    )
    listener.end()
    assert trained.state is not None
    trained.state.write(wanted.checkpoint)
    model = load_model(wanted.arch, trained.weights).to(wanted.device)
    on_reward, on_test = (judge(model, wanted.dataset, images) for images in (wanted.splits.reward, wanted.splits.test))
    result = {
        "reward_split": {"images": len(on_reward), **_figures(on_reward)},
        "test_split": {
            "images": len(on_test),
            **_figures(on_test),
            "balanced_accuracy": on_test.balanced(labels[wanted.splits.test]),
            "top1_95": list(wilson_interval(int(on_test.right.sum()), len(on_test))),
        },
    }
    content = _write(wanted, curve, seconds=trained.seconds, images_seen=trained.images_seen, **result)
    metadata = {
        "mobilenas_training": wanted.folder.name,
        "mobilenas_exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    export_network(
        wanted.folder, wanted.arch, trained.weights, wanted.dataset.classes, wanted.dataset.preprocess, metadata
    )
    return content


def images_for_minutes(wanted: SingleTraining, minutes: float) -> int:
    """How many images can be trained in so many minutes here, from some batches."""
    batches = 6
    recipe = replace(wanted.recipe, images=wanted.recipe.batch_size * batches)
    # The first call pays for the kernels' set-up.
    for attempt in (replace(recipe, images=1), recipe):
        trained = train(
            wanted.arch,
            wanted.dataset,
            wanted.splits.train,
            attempt,
            seed=0,
            teacher=wanted.teacher,
            device=wanted.device,
        )
    steps = 60 * minutes * batches / trained.seconds
    return max(1, round(steps * recipe.batch_size))


def _figures(found: Judgement) -> dict[str, float]:
    return {"top1": found.top1, "log_likelihood": found.log_likelihood, "probability": found.probability}


def _told(found: Judgement) -> str:
    return f"top-1 {found.top1:.2%}, log-likelihood {found.log_likelihood:.4f}"


def _curve_until(wanted: SingleTraining, state: TrainingState) -> list[dict[str, float]]:
    """What was seen of it up to where it was left; a report that cannot be read is no reason not to go on."""
    try:
        curve: list[dict[str, float]] = json.loads(wanted.report.read_bytes())["curve"]
        return [row for row in curve if row["images"] <= state.steps * wanted.order.size]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(wanted: SingleTraining, curve: list[dict[str, float]], **more: object) -> dict[str, Any]:
    """Write the report, whole or not at all."""
    content = {
        "arch_id": wanted.arch.arch_id,
        "data": {"name": wanted.dataset.name, "content_hash": wanted.dataset.content_hash},
        "recipe": asdict(wanted.recipe),
        "seed": wanted.seed,
        "first_weights": None if wanted.weights is None else weights_digest(wanted.weights),
        "teacher": None if wanted.teacher is None else wanted.teacher.identity,
        "device": wanted.device,
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "curve": curve,
        **more,
    }
    write_whole(wanted.report, (json.dumps(content, indent=2) + "\n").encode())
    return content


def begun_recipe(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe with the length of a training that was begun in this folder by the same one, where there is one.

    Raises:
        DataError: the training there cannot be read.
    """
    state = left_off(folder)
    if state is None:
        return recipe
    same = replace(recipe, images=state.recipe.images)
    if same != state.recipe:
        raise DataError(f"the training in {folder} is by another recipe; choose another folder with --out")
    return same
