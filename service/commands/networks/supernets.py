"""The commands of `mobilenas supernet`: train, import, list, show, export, gc."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from search.evaluation.data import Images
from search.events import Listener
from search.executors import executor_for
from search.plan import Inputs, available_cores, compute_device, look_up
from search.run_folder import SUPERNET_WEIGHTS
from search.trainings import supernets
from search.trainings.elsewhere import train_by_parts
from search.trainings.folder import TrainingFolder
from search.trainings.supernets import Elsewhere, SupernetTraining, train_named
from service.commands.networks.training import stop_asked
from service.commands.search import configuration
from service.terminal.console import say
from service.terminal.logs import telling
from service.terminal.rows import Format, show
from space.errors import InvalidConfig, RunError
from space.formats import published_or_read
from space.paths import expanded
from space.preset import preset_names
from trainer.supernet.files import SupernetFile
from trainer.supernet.sharing import Supernet
from trainer.training.metrics import wilson_interval
from trainer.training.networks import DeviceKind, best_device, require_device
from trainer.training.recipe import load_recipe
from trainer.training.train import Trained

IMAGES = 120_000
_TYPES: dict[str, type] = {
    "name": str,
    "space": str,
    "width": float,
    "resolution": int,
    "classes": int,
    "data": str,
    "images": int,
    "of": int,
    "largest": float,
    "smallest": float,
    "mb": float,
}
_SHOWN = ("name", "space", "data", "images", "largest", "smallest")


def _inputs(
    config: Path | None,
    data: str | None,
    data_dir: Path | None,
    resolution: int | None,
    space: str | None,
    width: float | None,
    listener: Listener,
    *,
    skip_damaged: bool,
    init: str | None = None,
) -> tuple[Inputs, Images]:
    asked = configuration(
        config,
        name=None,
        device=None,
        data=data,
        data_dir=data_dir,
        resolution=resolution,
        target=None,
        seed=None,
        workers=None,
        skip_damaged=skip_damaged,
        space=space,
        width=width,
    )
    # A run's file may name the supernet that is still to be trained.
    asked = asked.model_copy(update={"evaluator": None, "supernet": None, "supernet_hash": None})
    if asked.init is not None:
        raise InvalidConfig(
            f"config key init: a supernet does not begin with a network, as {asked.init} is; leave it out (--init "
            "names another supernet)"
        )
    if init is not None and asked.executor != "local":
        raise InvalidConfig(f"a supernet that begins with another ({init}) is trained here; leave executor: ray out")
    asked = asked.judged_in(1)  # folds are of trainings that judge networks
    listener.begin(f"preparing {asked.data.source}", 1)
    inputs = look_up(asked, listener.advance)
    listener.end()
    if not isinstance(inputs.data, Images):
        raise InvalidConfig("a supernet is trained on images; name them with --data")
    return inputs, inputs.data


def train(
    name: str,
    *,
    config: Path | None,
    data: str | None,
    data_dir: Path | None,
    resolution: int | None,
    space: str | None,
    width: float | None,
    recipe_name: str | None,
    init: str | None,
    images: int | None,
    minutes: float | None,
    drawn: int,
    warmup: int,
    seed: int,
    threads: int | None,
    device: DeviceKind | None,
    checkpoint_minutes: float,
    skip_damaged: bool,
    runs: Path,
) -> None:
    """The command `supernet train`."""
    if images is not None and minutes is not None:
        raise InvalidConfig("give either --images or --minutes")
    recipe_name = recipe_name or ("proxy" if init is None else "transfer-proxy")
    recipe, folder = load_recipe(recipe_name), supernets.folder_named(runs, name)
    begun = None if init is None else supernets.read_given(runs, init)
    if begun is not None and config is None:
        space, width = space or _shipped(begun, init), width or begun.supernet.space.width
    torch.set_num_threads(threads or len(available_cores()))
    with telling() as listener:
        inputs, looked_up = _inputs(
            config, data, data_dir, resolution, space, width, listener, skip_damaged=skip_damaged, init=init
        )
        is_here = inputs.config.executor == "local"
        if is_here:
            device = device or best_device()
            require_device(device)
        elif device is not None or minutes is not None or threads is not None:
            raise InvalidConfig(
                "a supernet that a Ray cluster trains runs as `ray.gpus` and `ray.cpus` say, and for so many --images; "
                "leave --device, --threads and --minutes out"
            )
        else:
            device = compute_device(inputs.config)
        start = None if begun is None else begun.begun_for(looked_up.dataset, seed)
        if start is not None and start.space != inputs.space:
            known, mine = start.space, inputs.space
            raise InvalidConfig(
                f"supernet {init} is of space '{known.preset.name}' at width {known.width:g} (scope {known.scope}), "
                f"this one is of '{mine.preset.name}' at width {mine.width:g} (scope {mine.scope}); name the same space"
            )
        wanted = SupernetTraining(
            space=inputs.space,
            dataset=looked_up.dataset,
            splits=looked_up.splits,
            recipe=replace(recipe, images=IMAGES),
            folder=folder,
            seed=seed,
            drawn=drawn,
            warmup=warmup,
            start=start,
            start_named=init,
            reward_fraction=inputs.config.data.reward_fraction,
            split_seed=inputs.config.data.split_seed,
            device=device,
            checkpoint_seconds=60 * checkpoint_minutes,
        )
        wanted = replace(wanted, recipe=wanted.kept.length(wanted.recipe, images, minutes, wanted.images_for))
        listener.note(
            f"training a supernet of '{inputs.space.preset.name}' on {len(wanted.splits.train):,} images of "
            f"{looked_up.dataset.name}: {recipe_name}, {wanted.recipe.images:,} images seen by {2 + drawn} members each"
            + ("" if init is None else f"; from {init}")
        )
        with stop_asked() as stopping:
            report = train_named(wanted, listener, stopping, None if is_here else _on_executor(inputs))
    say(f"supernet {report['content_hash']}, {report['seconds'] / 60:.1f} minutes: {folder / SUPERNET_WEIGHTS}")


def _shipped(begun: SupernetFile, init: str | None) -> str:
    name = begun.supernet.space.preset.name
    if name not in preset_names():
        raise InvalidConfig(f"supernet {init} is of '{name}', a space of your own; name its file: --space FILE")
    return name


def _on_executor(inputs: Inputs) -> Elsewhere:
    def train(wanted: SupernetTraining, listener: Listener, stopping: Callable[[], bool]) -> tuple[Supernet, Trained]:
        executor = executor_for(inputs, listener)
        # A part that is ended by the limit of a trial would be lost.
        part = min(wanted.checkpoint_seconds, 60 * inputs.config.trial_minutes / 2)
        try:
            return train_by_parts(replace(wanted, checkpoint_seconds=part), executor, listener, stopping)
        finally:
            executor.close()

    return train


def import_(name: str, checkpoint: Path, resolution: int, runs: Path) -> None:
    """The command `supernet import`."""
    folder = supernets.folder_named(runs, name)
    content = supernets.import_once_for_all(expanded(checkpoint), folder, resolution)
    space, path = content["space"], folder / SUPERNET_WEIGHTS
    say(f"supernet {content['content_hash']} of '{space['name']}', width {space['width']:g}: {path}")


def list_(form: Format, out: Path | None, runs: Path) -> None:
    """The command `supernet list`."""
    rows = []
    for name, content in supernets.reports(runs).items():
        space, data, curve = content.get("space", {}), content.get("data", {}), content.get("curve") or [{}]
        path = runs / name / SUPERNET_WEIGHTS
        rows.append(
            {
                "name": name,
                "space": space.get("name"),
                **{key: space.get(key) for key in ("width", "resolution", "classes")},
                "data": data.get("name") or content.get("source", {}).get("file"),
                "images": content.get("images_seen") or curve[-1].get("images"),
                "of": content.get("images"),
                "largest": curve[-1].get("largest"),
                "smallest": curve[-1].get("smallest"),
                "mb": path.stat().st_size / 1e6 if path.exists() else None,
            }
        )
    show("supernets", rows, form, shown=_SHOWN, types=_TYPES, out=out)


def show_(name: str, runs: Path) -> None:
    """The command `supernet show`: all that is known of it, as YAML."""
    folder = supernets.folder_named(runs, name)
    content = supernets.reports(runs).get(name)
    if content is None:
        supernets.read_named(runs, name)  # which says what there is
        raise RunError(f"nothing is known of {folder}; train it anew, or import it")
    say(yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip())


def export(
    name: str,
    spec: str,
    *,
    data: str | None,
    data_dir: Path | None,
    skip_damaged: bool,
    out: Path,
    runs: Path,
) -> None:
    """The command `supernet export`."""
    file, out = supernets.read_named(runs, name), expanded(out)
    space = file.supernet.space
    arch = published_or_read(spec, width=None, resolution=None)
    if data is None:
        supernets.write_member(file, arch, out)
        say(f"spec and weights to train on, on any data: mobilenas train --init {out} --data …")
        return
    with telling() as listener:
        _, looked_up = _inputs(None, data, data_dir, space.resolution, None, None, listener, skip_damaged=skip_damaged)
    found = supernets.export_member(file, name, arch, looked_up.dataset, looked_up.splits, out)
    low, high = wilson_interval(int(found.right.sum()), len(found))
    say(f"top-1 (test split, {len(found):,} images): {found.top1:.2%}, 95% interval {low:.2%} to {high:.2%}")
    say(f"spec, weights, ONNX file, labels and preprocessing: {out}")


def gc(names: Sequence[str], runs: Path, *, dry_run: bool) -> None:
    """The command `supernet gc`."""
    freed = 0
    for name in names or supernets.reports(runs):
        whole = (supernets.folder_named(runs, name) / SUPERNET_WEIGHTS).exists()
        if not names and not (whole and TrainingFolder(runs / name, supernets.KIND).checkpoint.exists()):
            continue
        try:
            size = supernets.free(runs, name, dry_run=dry_run)
        except RunError as error:
            if names:
                raise
            say(str(error))  # somebody trains it
            continue
        say(f"{name}: {size / 1e6:.1f} MB that its training could go on from")
        freed += size
    say(f"{'would free' if dry_run else 'freed'} {freed / 1e6:.1f} MB; the supernets themselves stay")
