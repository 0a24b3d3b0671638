"""One network trained alone: by a recipe, gone on with where it was left, tested in the end, and exported."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from search.events import Listener
from search.stages.export import export_network
from search.trainings.folder import TrainingFolder, images_for
from space.arch import Architecture
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits, subset
from trainer.training.batches import Order
from trainer.training.judgement import Judgement
from trainer.training.judging import judge, temperature_of
from trainer.training.metrics import wilson_interval
from trainer.training.networks import DeviceKind, Weights, load_model
from trainer.training.recipe import Recipe
from trainer.training.train import CHECKPOINT_SECONDS, Attended, Check, Checkpoints, Teacher, Trained, train
from trainer.training.weight_files import weights_digest, write_whole

# Looked at so often on the way, on at most so many images of the reward split.
LOOKS, LOOK_IMAGES = 8, 2500

# What judged it, a byte per image (`trainer.training.judgement`): the reward split, and the test split.
JUDGED, TESTED = "training.judged", "training.tested"


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
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def order(self) -> Order:
        """Which images it sees."""
        return Order(indices=self.splits.train, batch_size=self.recipe.batch_size, seed=self.seed)

    @property
    def images(self) -> int:
        """How many images it sees in all: of a set smaller than a batch, fewer than the recipe says."""
        return self.recipe.steps * self.order.size

    def images_for(self, minutes: float) -> int:
        """How many images can be trained in so many minutes here."""

        def attempt(recipe: Recipe) -> Trained:
            images, teacher, device = self.splits.train, self.teacher, self.device
            weights = self.weights
            return train(
                self.arch, self.dataset, images, recipe, seed=0, weights=weights, teacher=teacher, device=device
            )

        return images_for(minutes, self.recipe, attempt, batches=6)

    @property
    def kept(self) -> TrainingFolder:
        """What is kept of it while it is trained."""
        return TrainingFolder(self.folder, "training")


def train_alone(wanted: SingleTraining, listener: Listener, stopping: Callable[[], bool] = bool) -> dict[str, Any]:
    """Train, or go on; test on the test split and export. Returns the content of the report.

    Raises:
        DataError: what lies in the folder is another training, or damaged.
        Stopped: `stopping` said so; it is kept.
        Diverged: its loss is no number.
        RunError: the folder holds something else, cannot be written, or another process trains there.
    """
    with wanted.kept.held():
        return _train(wanted, listener, stopping)


def _train(wanted: SingleTraining, listener: Listener, stopping: Callable[[], bool]) -> dict[str, Any]:
    kept, size, total = wanted.kept, wanted.order.size, wanted.images
    state = kept.left_off()
    curve = [] if state is None else kept.curve_until(state.steps * size)
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
            checkpoints=Checkpoints(keep=lambda left: left.write(kept.checkpoint), seconds=wanted.checkpoint_seconds),
            stopping=stopping,
        ),
    )
    listener.end()
    assert trained.state is not None
    trained.state.write(kept.checkpoint)
    model = load_model(wanted.arch, trained.weights).to(wanted.device)
    on_reward, on_test = (judge(model, wanted.dataset, images) for images in (wanted.splits.reward, wanted.splits.test))
    for name, judgement in ((JUDGED, on_reward), (TESTED, on_test)):
        write_whole(wanted.folder / name, judgement.to_bytes())
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
        wanted.folder,
        wanted.arch,
        trained.weights,
        wanted.dataset.classes,
        wanted.dataset.preprocess,
        metadata,
        temperature=temperature_of(model, wanted.dataset, wanted.splits.reward),
    )
    return content


def _figures(found: Judgement) -> dict[str, float]:
    return {"top1": found.top1, "log_likelihood": found.log_likelihood, "probability": found.probability}


def _told(found: Judgement) -> str:
    return f"top-1 {found.top1:.2%}, log-likelihood {found.log_likelihood:.4f}"


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
    return wanted.kept.write_report(content)
