"""Commands about trainings: train a spec alone; recipe list and show."""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
import yaml

from search.begun import begin_with
from search.plan import available_cores
from search.stages.teacher import teacher_from
from search.trainings.single import SingleTraining, train_alone
from service.terminal.console import console, say, tell
from service.terminal.logs import telling
from service.terminal.rows import Format, show
from space.arch import Architecture
from space.errors import InvalidConfig, Stopped
from space.formats import published_or_read
from space.paths import expanded
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import split
from trainer.pretrained.fitting import architecture_for, fitted
from trainer.pretrained.published import Pretrained
from trainer.training.networks import DeviceKind, best_device, require_device
from trainer.training.recipe import Recipe, load_recipe, recipe_names
from trainer.training.train import CHECKPOINT_SECONDS

_RECIPE_TYPES: dict[str, type] = {"name": str, "images": int, "optimizer": str, "schedule": str, "average": str}


def list_recipes(form: Format, out: Path | None) -> None:
    """The command `recipe list`."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        average = recipe.average
        rows.append(
            {
                "name": name,
                "images": recipe.images,
                "optimizer": recipe.optimizer,
                "schedule": recipe.schedule.kind,
                "average": "none" if average is None else f"{average.share or average.decay:g}",
            }
        )
    show("recipes", rows, form, shown=_RECIPE_TYPES, types=_RECIPE_TYPES, out=out)


def show_recipe(name: str) -> None:
    """The command `recipe show`: all fields, as a YAML file to begin from."""
    say(yaml.safe_dump(asdict(load_recipe(name)), sort_keys=False).rstrip())


def train(
    spec: str | None,
    data: str,
    data_dir: Path | None,
    recipe_name: str | None,
    *,
    images: int | None,
    minutes: float | None,
    width: float | None,
    resolution: int | None,
    init: str | None,
    teacher: Path | None,
    teacher_labels: str | None = None,
    teacher_preprocess: str | None = None,
    seed: int,
    threads: int | None,
    device: DeviceKind | None,
    checkpoint_minutes: float = CHECKPOINT_SECONDS / 60,
    skip_damaged: bool,
    out: Path | None,
    runs: Path,
    recipe: Recipe | None = None,
    reward_fraction: float = 0.15,
    split_seed: int = 0,
    require: Callable[[Dataset], object] | None = None,
) -> Path:
    """The command `train`; returns the folder. A `recipe` is one that was read already; no device: the best one.

    `require` is called with the data set before anything is trained, and may refuse it.
    """
    if images is not None and minutes is not None:
        raise InvalidConfig("give either --images or --minutes")
    if spec is None and width is not None:
        raise InvalidConfig("--width goes with a published network; name one, or leave it out")
    recipe_name = recipe_name or ("final" if init is None else "transfer")
    recipe = recipe or load_recipe(recipe_name)
    arch = None if spec is None else published_or_read(spec, width=width, resolution=resolution)
    torch.set_num_threads(threads or len(available_cores()))
    device = device or best_device()
    require_device(device)
    if teacher is None and (teacher_labels or teacher_preprocess):
        raise InvalidConfig("--teacher-labels and --teacher-preprocess go with --teacher; name one, or leave them out")
    teacher = None if teacher is None else expanded(teacher)
    begun = None if init is None else begin_with(init, spec=arch, tell=tell)
    if (known := arch if begun is None else begun.architecture) is None:
        raise InvalidConfig("name the network to train, or weights to begin with (--init)")
    with telling() as listener:
        listener.begin(f"preparing {data}", 1)
        dataset = prepare(
            data,
            resolution=resolution or (arch or known).resolution,
            data_dir=None if data_dir is None else expanded(data_dir),
            skip_damaged=skip_damaged,
            progress=listener.advance,
        )
        listener.end()
        if require is not None:
            require(dataset)
        weights = None
        if begun is None:
            arch = _for_data(known, dataset)
        else:
            arch = architecture_for(begun, dataset.preprocess, len(dataset.classes), arch)
            weights = fitted(begun, arch, dataset.preprocess, dataset.classes, seed)
        data_name = dataset.name.rpartition(":")[2].rpartition("/")[2]
        named = (short_name(spec or init or ""), arch.arch_id[:8], data_name, Path(recipe_name).stem)
        folder = expanded(out) if out else runs / "-".join(named)
        wanted = SingleTraining(
            arch=arch,
            dataset=dataset,
            splits=split(dataset, reward_fraction=reward_fraction, seed=split_seed),
            recipe=recipe,
            folder=folder,
            seed=seed,
            weights=weights,
            teacher=None
            if teacher is None
            else teacher_from(teacher, dataset, device, labels=teacher_labels, preprocess=teacher_preprocess),
            device=device,
            checkpoint_seconds=60 * checkpoint_minutes,
        )
        wanted = replace(wanted, recipe=wanted.kept.length(recipe, images, minutes, wanted.images_for))
        listener.note(
            f"training {arch.arch_id}{_begun_in_words(begun)} on {len(wanted.splits.train):,} images of "
            f"{dataset.name}: {recipe_name}, {wanted.images:,} images seen"
        )
        with stop_asked() as stopping:
            report = train_alone(wanted, listener, stopping)
    _tell(report, folder)
    return folder


def short_name(named: str) -> str:
    """Of a file, a folder, or weights by name: what a folder may be called by."""
    return named.rpartition(":")[2] if re.match(r"(torchvision|timm):", named) else Path(named).stem


def _begun_in_words(begun: Pretrained | None) -> str:
    """From scratch nothing is said."""
    if begun is None:
        return ""
    network = f"{begun.network}, width {begun.width:g}" if begun.network else begun.architecture.arch_id
    return f" from weights of {network} ({begun.dialect})"


def _for_data(arch: Architecture, dataset: Dataset) -> Architecture:
    """With the input and the classes of the data."""
    preprocess = dataset.preprocess
    return replace(
        arch,
        num_classes=len(dataset.classes),
        in_channels=len(preprocess.mean),
        resolution=preprocess.resolution,
    )


def _tell(report: dict[str, object], folder: Path) -> None:
    test = report["test_split"]
    assert isinstance(test, dict)
    low, high = test["top1_95"]
    say(f"top-1 (test split, {test['images']:,} images): {test['top1']:.2%}, 95% interval {low:.2%} to {high:.2%}")
    say(f"balanced accuracy {test['balanced_accuracy']:.2%}, log-likelihood {test['log_likelihood']:.4f}")
    say(f"spec, weights, ONNX file, labels, preprocessing and training.json: {folder}")


@contextmanager
def stop_asked() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM asked for an end, after which the same command goes on; the second one ends at once."""
    asked = False

    def on_signal(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            signal.default_int_handler(number, frame)  # type: ignore[arg-type]
        asked = True
        console.print("stopping after this step (Ctrl-C again: at once)")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    except Stopped as error:
        raise Stopped(f"{error}; the same command goes on") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
