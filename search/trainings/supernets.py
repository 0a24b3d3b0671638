"""Supernets by name, a folder each: trained here, gone on with where they were left, or brought from elsewhere."""

import hashlib
import json
import random
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from search.events import Listener
from search.run_folder import FOLDER_NAME, LABELS, PREPROCESS, SPEC, SUPERNET_WEIGHTS, WEIGHTS, supernet_file
from search.stages.export import export_network
from search.trainings.folder import TrainingFolder, images_for
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import RunError
from space.paths import expanded
from trainer.data.dataset import Dataset
from trainer.data.preprocess import IMAGENET
from trainer.data.splits import Splits, subset
from trainer.supernet.files import SupernetFile
from trainer.supernet.once_for_all import read_once_for_all
from trainer.supernet.sharing import Supernet
from trainer.supernet.training import DRAWN, train_supernet
from trainer.training.batches import Order, images_hash
from trainer.training.judgement import Judgement
from trainer.training.judging import judge, temperature_of
from trainer.training.networks import DeviceKind, load_model
from trainer.training.recipe import Recipe
from trainer.training.state import TrainingState
from trainer.training.train import CHECKPOINT_SECONDS, Attended, Check, Checkpoints, Trained
from trainer.training.weight_files import write_weights

# Members beside the largest and the smallest that are looked at, how often, and on how many images of the reward split.
LOOKED_AT, LOOKS, LOOK_IMAGES = 3, 4, 2500
KIND: Literal["supernet"] = "supernet"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernetTraining:
    """What is trained, on what, how, and the folder that it is kept in; each step also trains `drawn` members.

    The first `warmup` images are seen by the largest member alone. It begins with `start`, which
    the user named so, or from scratch.
    `reward_fraction` and `split_seed` are those of `splits`.
    """

    space: SearchSpace
    dataset: Dataset
    splits: Splits
    recipe: Recipe
    folder: Path
    seed: int = 0
    drawn: int = DRAWN
    warmup: int = 0
    start: Supernet | None = None
    start_named: str | None = None
    reward_fraction: float = 0.15
    split_seed: int = 0
    device: DeviceKind = "cpu"
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def kept(self) -> TrainingFolder:
        """What is kept of it while it is trained."""
        return TrainingFolder(self.folder, KIND)

    @property
    def size(self) -> int:
        """Images in a step."""
        return Order(indices=self.splits.train, batch_size=self.recipe.batch_size, seed=self.seed).size

    def run(self, state: TrainingState | None, attended: Attended, recipe: Recipe) -> tuple[Supernet, Trained]:
        """Train by a recipe, on from a state."""
        return train_supernet(
            self.space,
            self.dataset,
            self.splits.train,
            recipe,
            seed=self.seed,
            drawn=self.drawn,
            warmup=self.warmup,
            start=self.start,
            state=state,
            attended=attended,
            device=self.device,
        )

    def images_for(self, minutes: float) -> int:
        """How many images can be trained in so many minutes here."""
        alike = replace(self, warmup=0)
        return images_for(minutes, self.recipe, lambda recipe: alike.run(None, Attended(), recipe)[1], batches=4)


Elsewhere = Callable[[SupernetTraining, Listener, Callable[[], bool]], tuple[Supernet, Trained]]
"""Trains a supernet on other machines (`search.trainings.elsewhere.train_by_parts`)."""


def train_named(
    wanted: SupernetTraining,
    listener: Listener,
    stopping: Callable[[], bool] = bool,
    elsewhere: Elsewhere | None = None,
) -> dict[str, Any]:
    """Train a supernet, or go on, and write it; here, unless `elsewhere`. Returns the content of its report.

    Raises:
        DataError: what lies in the folder is another training, or damaged.
        Stopped: `stopping` said so; it is kept.
        Diverged: its loss is no number.
        RunError: the folder holds something else, cannot be written, or another process trains there.
    """
    with wanted.kept.held():
        if (wanted.folder / SUPERNET_WEIGHTS).exists() and not wanted.kept.checkpoint.exists():
            raise RunError(
                f"{wanted.folder} holds a whole supernet, and nothing that its training could go on from; choose "
                "another name, or remove that folder"
            )
        return _train(wanted, listener, stopping, elsewhere)


def _train(
    wanted: SupernetTraining, listener: Listener, stopping: Callable[[], bool], elsewhere: Elsewhere | None
) -> dict[str, Any]:
    kept, space, dataset = wanted.kept, wanted.space, wanted.dataset
    state = kept.left_off()
    curve = [] if state is None else kept.curve_until(state.steps * wanted.size)
    if state is not None:
        listener.note(f"going on after {state.steps * wanted.size:,} images and {state.seconds / 60:.1f} minutes")
    reward, total = wanted.splits.reward, wanted.recipe.steps * wanted.size
    transforms = {} if wanted.start is None else wanted.start.transforms
    few = subset(reward, dataset.labels(), min(LOOK_IMAGES, len(reward)), 0)

    def look(shared: Supernet, images: int) -> None:
        found = {
            name: judge(shared.model_of(arch, dataset, wanted.splits.train), dataset, few).top1
            for name, arch in _looked_at(space).items()
        }
        curve[:] = [*(row for row in curve if row["images"] != images), {"images": images, **found}]
        told = ", ".join(f"{name} {top1:.2%}" for name, top1 in found.items())
        listener.note(f"{images:,} images: {told} (top-1, {len(few):,} images of the reward split)")
        _write(wanted, curve)

    attended = Attended(
        progress=listener.advance,
        check=Check(
            times=LOOKS - 1,
            look=lambda model, share: look(
                Supernet(space=space, weights=_on_cpu(model.state_dict()), transforms=transforms), round(share * total)
            ),
        ),
        checkpoints=Checkpoints(keep=lambda left: left.write(kept.checkpoint), seconds=wanted.checkpoint_seconds),
        stopping=stopping,
    )
    listener.begin("training the supernet", total)
    if elsewhere is None:
        supernet, trained = wanted.run(state, attended, wanted.recipe)
    else:
        supernet, trained = elsewhere(wanted, listener, stopping)
    listener.end()
    assert trained.state is not None
    trained.state.write(kept.checkpoint)
    look(supernet, trained.images_seen)
    file = SupernetFile(
        supernet=supernet,
        preprocess=dataset.preprocess,
        classes=dataset.classes,
        data=dataset.content_hash,
        images=images_hash(wanted.splits.train),
    )
    file.write(wanted.folder / SUPERNET_WEIGHTS)
    ended = {"seconds": trained.seconds, "images_seen": trained.images_seen, "content_hash": file.content_hash}
    return _write(wanted, curve, **ended)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _looked_at(space: SearchSpace) -> dict[str, Architecture]:
    rng = random.Random(0)
    drawn = {f"drawn {number}": space.sample(rng) for number in range(1, LOOKED_AT + 1)}
    return {"largest": space.largest, "smallest": space.smallest, **drawn}


def _write(wanted: SupernetTraining, curve: list[dict[str, float]], **more: object) -> dict[str, Any]:
    space = wanted.space
    content = {
        "space": _said_of(space),
        "data": {"name": wanted.dataset.name, "content_hash": wanted.dataset.content_hash},
        "recipe": asdict(wanted.recipe),
        "images": wanted.recipe.steps * wanted.size,
        "seed": wanted.seed,
        "drawn": wanted.drawn,
        "warmup": wanted.warmup,
        "init": wanted.start_named,
        "start": None if wanted.start is None else wanted.start.digest,
        "device": wanted.device,
        "threads": torch.get_num_threads(),
        "torch": version("torch"),
        "curve": curve,
        **more,
    }
    return wanted.kept.write_report(content)


def _said_of(space: SearchSpace) -> dict[str, str | float]:
    return {
        "name": space.preset.name,
        "width": space.width,
        "resolution": space.resolution,
        "classes": space.num_classes,
        "scope": space.scope,
    }


def import_once_for_all(checkpoint: Path, folder: Path, resolution: int) -> dict[str, Any]:
    """Bring a checkpoint of Once-for-All into a folder of its own. Returns the content of its report.

    Raises:
        DataError: it is none, or cannot be read.
        RunError: the folder holds something already, or cannot be written.
    """
    supernet = read_once_for_all(checkpoint, resolution=resolution)
    kept = TrainingFolder(folder, KIND)
    with kept.held():
        if (folder / SUPERNET_WEIGHTS).exists() or kept.checkpoint.exists():
            raise RunError(f"{folder} holds a supernet already; choose another name")
        # As Once-for-All (Cai et al. 2020) evaluates them, at any resolution.
        preprocess = replace(IMAGENET, resolution=resolution, crop=resolution, resize=round(resolution * 8 / 7))
        file = SupernetFile(supernet=supernet, preprocess=preprocess, classes=None, data=None, images=None)
        file.write(folder / SUPERNET_WEIGHTS)
        source = {"file": checkpoint.name, "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
        content = {"space": _said_of(supernet.space), "source": source, "content_hash": file.content_hash}
        return kept.write_report(content)


def folder_named(runs: Path, name: str) -> Path:
    """The folder of a supernet of this name, be it there or not.

    Raises:
        RunError: a folder cannot have that name.
    """
    if not re.fullmatch(FOLDER_NAME, name):
        raise RunError(f"name {name[:80]!r} must match {FOLDER_NAME}; choose another")
    return runs / name


def read_named(runs: Path, name: str) -> SupernetFile:
    """The supernet of this name.

    Raises:
        RunError: there is none, or it is not whole yet.
        DataError: it is damaged.
    """
    folder = folder_named(runs, name)
    if (folder / SUPERNET_WEIGHTS).exists():
        return SupernetFile.read(folder / SUPERNET_WEIGHTS)
    if TrainingFolder(folder, KIND).checkpoint.exists():
        init = reports(runs).get(name, {}).get("init")
        how = f"{name} --init {shlex.quote(init)}" if isinstance(init, str) else name
        raise RunError(f"supernet '{name}' is not trained to its end; go on with: mobilenas supernet train {how}")
    raise RunError(f"there is no supernet named '{name}' in {runs}; see: mobilenas supernet list")


def read_given(runs: Path, named: str) -> SupernetFile:
    """The supernet of this name, in this folder, or in this file.

    Raises:
        DataError: there is none, or it is damaged.
        RunError: it is not whole yet.
    """
    if re.fullmatch(FOLDER_NAME, named) and (runs / named).is_dir():
        return read_named(runs, named)
    return SupernetFile.read(supernet_file(str(expanded(named))))


def reports(runs: Path) -> dict[str, dict[str, Any]]:
    """What is known of every supernet, by name; a report that cannot be read, or is none, says nothing."""
    found = {}
    for path in sorted(runs.glob(f"*/{KIND}.json")):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            content = None
        found[path.parent.name] = content if _is_report(content) else {}
    return found


def _is_report(content: object) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("curve", []), list):
        return False
    parts = (*(content.get(name, {}) for name in ("space", "data", "source")), *content.get("curve", []))
    return all(isinstance(part, dict) for part in parts)


def free(runs: Path, name: str, *, dry_run: bool) -> int:
    """Give up what the training of a whole supernet could go on from; returns how many bytes that is.

    Raises:
        RunError: there is no such supernet, it is not whole, or somebody trains it.
    """
    read_named(runs, name)
    kept = TrainingFolder(folder_named(runs, name), KIND)
    with kept.held():
        size = kept.checkpoint.stat().st_size if kept.checkpoint.exists() else 0
        if not dry_run:
            kept.checkpoint.unlink(missing_ok=True)
    return size


def write_member(file: SupernetFile, arch: Architecture, folder: Path) -> None:
    """Write a member's spec, its part of the weights, and how it takes pictures: what `--init` begins with.

    BatchNorm's statistics are those of the whole supernet, so that it is to be trained on before it is used.

    Raises:
        InvalidArchitecture: it is no member.
        RunError: the folder holds something already.
    """
    _require_empty(folder)
    weights = file.supernet.weights_of(arch)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SPEC).write_text(arch.to_json() + "\n", encoding="utf-8")
    (folder / PREPROCESS).write_text(file.preprocess.to_json() + "\n", encoding="utf-8")
    if file.classes is not None:
        (folder / LABELS).write_text("".join(f"{name}\n" for name in file.classes), encoding="utf-8")
    write_weights(weights, folder / WEIGHTS)


def _require_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} holds something already; choose another folder with --out")


def export_member(
    file: SupernetFile, name: str, arch: Architecture, dataset: Dataset, splits: Splits, folder: Path
) -> Judgement:
    """Hand out a member with the weights that the supernet has for it, as a search hands out what it found.

    Returns how well it classifies the test split.

    Raises:
        InvalidArchitecture: it is no member.
        DataError: the supernet is none for these data.
        RunError: the folder holds something already.
    """
    _require_empty(folder)
    supernet = file.fitted_to(dataset, splits.train, f"supernet '{name}'")
    model = supernet.model_of(arch, dataset, splits.train)
    metadata = {
        "mobilenas_supernet": f"{name} {file.content_hash}",
        "mobilenas_exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    alone = load_model(arch, weights)
    temperature = temperature_of(alone, dataset, splits.reward)
    export_network(folder, arch, weights, dataset.classes, dataset.preprocess, metadata, temperature=temperature)
    return judge(alone, dataset, splits.test)
