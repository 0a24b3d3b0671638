"""The command `netadapt`: a search that is but a walk from a given network."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from search.begun import begin_with
from search.config.load import NO_DATA, RunConfig, load_config, parse_config
from search.config.sections import StartConfig, parse_target
from search.evaluation.data import Images
from search.lifecycle.creation import SearchRequest
from search.plan import compute_device, look_up
from search.present import PresentModel
from search.record.rows import SearchRecord
from search.record.store import Store
from search.reports.recorded_search import found_trial
from search.run_folder import WEIGHTS
from search.tables import settings_for
from search.trial import State, Trial
from service.commands import search
from service.commands.networks import training
from service.terminal.console import say
from service.terminal.logs import telling
from space.arch import Architecture
from space.errors import InvalidConfig, RunError
from space.formats import FILE_NAMES, read_spec_file
from trainer.data.preprocess import Preprocess
from trainer.training.networks import DeviceKind
from trainer.training.recipe import Recipe, load_recipe
from trainer.training.state import UnfitState


@dataclass(frozen=True, slots=True, kw_only=True)
class NetAdaptRequest:
    """What the command line says; None leaves it to the configuration."""

    source: str | None
    init: str | None
    resolution: int | None
    trial: int | None
    target: str
    config: Path | None
    name: str | None
    device: str | None
    data: str | None
    data_dir: Path | None
    workers: int | None
    skip_damaged: bool = False
    present: Mapping[str, str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A trained network, and the run that it came from."""

    architecture: Architecture
    weights: Path
    config: RunConfig
    classes: tuple[str, ...] | None
    preprocess: Preprocess | None


def netadapt(database: str, runs: Path, request: SearchRequest, walk: NetAdaptRequest) -> None:
    """The command `netadapt`."""
    if (walk.source is None) == (walk.init is None):
        raise InvalidConfig("name the network to start from: either --from a search or run folder, or --init a file")
    if walk.resolution is not None and walk.init is None:
        raise InvalidConfig("--resolution goes with --init; a trained network has its own")
    store = Store.open(database)
    store.retry_s = search.RETRY_S
    try:
        if walk.init is not None:
            walk = _trained_first(store, walk, walk.init, runs)
        assert walk.source is not None
        folder = Path(walk.source)
        found = _of_folder(folder, walk) if folder.is_dir() else _of_search(store, walk, walk.source)
        try:
            content = found.weights.read_bytes()
        except OSError as error:
            raise RunError(f"weights {found.weights} cannot be read: {error.strerror}; name another --from") from error
        config = _learning(_configured(found, walk, hashlib.sha256(content).hexdigest()), found)
        search.start_walk(store, config, runs, request, content)
    finally:
        store.close()


def _learning(config: RunConfig, found: _Source) -> RunConfig:
    """Who is learnt from, where that is open: the network itself, if it is known to know these classes and pictures."""
    if config.netadapt.teacher is not None:
        return config
    with telling() as listener:
        listener.begin(f"preparing {config.data.source}", 1)
        data = look_up(config, listener.advance).data
        listener.end()
    assert isinstance(data, Images), "a walk has images"
    dataset = data.dataset
    teaches = (found.classes, found.preprocess) == (tuple(dataset.classes), dataset.preprocess)
    if not teaches:
        say(
            "narrowed networks learn from the labels alone: the network to start from is not known to have the classes "
            f"and the preprocessing of {dataset.name}"
        )
    netadapt = config.netadapt.model_copy(update={"teacher": "start" if teaches else "none"})
    return config.model_copy(update={"netadapt": netadapt})


def _trained_first(store: Store, walk: NetAdaptRequest, init: str, runs: Path) -> NetAdaptRequest:
    """The same from a run folder, in which the given weights are trained on for the data; or went on, if they had.

    What can be refused without them is refused before.
    """
    if walk.trial is not None:
        raise InvalidConfig("--trial is for a recorded search; leave it out, or --init")
    parse_target(walk.target)
    config = load_config(walk.config, {"name": walk.name} if walk.name else None)
    if any(record.name == walk.name for record in store.searches.all()):
        raise RunError(
            f"a search named '{walk.name}' exists already; resume it: mobilenas resume {walk.name}, or choose another "
            "--name"
        )
    settings_for(store, config.device.named(walk.device or config.device.name))
    present = load_config(walk.config, {"present": dict(walk.present)} if walk.present else None).present
    model = None if present.model is None else PresentModel.named(present)
    data, here = config.data, config.model_copy(update={"executor": "local"})
    recipe = config.training.recipe("transfer", min(load_recipe("transfer").images, config.final.images))
    wanted = (init, walk.data or data.source, walk.resolution or data.resolution, data.reward_fraction, data.split_seed)
    digest = hashlib.sha256(repr((*wanted, recipe, config.training.seed)).encode()).hexdigest()[:8]
    out = runs / f"{training.short_name(init)}-start-{digest}"
    try:
        _train(walk, config, init, recipe, out, runs, compute_device(here), model)
    except UnfitState as error:
        raise RunError(f"{out} holds another training ({error}); remove it, and start again") from error
    return replace(walk, source=str(out))


def _train(
    walk: NetAdaptRequest,
    config: RunConfig,
    init: str,
    recipe: Recipe,
    out: Path,
    runs: Path,
    device: DeviceKind,
    present: PresentModel | None,
) -> None:
    data = config.data
    training.train(
        None,
        walk.data or data.source,
        walk.data_dir or (None if data.data_dir is None else Path(data.data_dir)),
        "transfer",
        images=recipe.images,
        minutes=None,
        width=None,
        resolution=walk.resolution or data.resolution,
        init=init,
        teacher=None,
        seed=config.training.seed,
        threads=None,
        device=device,
        skip_damaged=walk.skip_damaged or data.skip_damaged,
        out=out,
        runs=runs,
        recipe=recipe,
        reward_fraction=data.reward_fraction,
        split_seed=data.split_seed,
        require=None if present is None else lambda dataset: present.order_of(dataset.classes),
    )


def _of_folder(folder: Path, walk: NetAdaptRequest) -> _Source:
    if walk.trial is not None:
        raise RunError("--trial is for a recorded search; a run folder holds only the found network")
    arch = read_spec_file(folder / FILE_NAMES["spec"])
    config = load_config(walk.config)
    if config.data.resolution is None or walk.init is not None:  # which the space follows from, too
        config = load_config(walk.config, {"data": {"resolution": arch.resolution}})
    known = begin_with(str(folder), spec=arch)
    return _Source(
        architecture=arch,
        weights=folder / WEIGHTS,
        config=config.from_anywhere(),
        classes=known.classes,
        preprocess=known.preprocess,
    )


def _of_search(store: Store, walk: NetAdaptRequest, name: str) -> _Source:
    record = store.searches.get(name)
    if walk.config is not None:
        raise RunError(f"--config is for a run folder; '{name}' has its own configuration")
    if record.config["data"]["source"] == NO_DATA:
        raise RunError(
            f"search '{name}' trained nothing (data.source none), so there are no weights to start from; name "
            "a search with data, or a run folder"
        )
    if (folds := record.config["data"].get("folds") or 1) > 1:
        raise RunError(
            f"networks of search '{name}' were judged in {folds} folds and know all images that would judge a walk; "
            f"start from the published weights: --init {record.config.get('init')}"
        )
    trial = _chosen(store, record, walk)
    if trial.weights is None:
        raise RunError(f"trial {trial.number} of '{name}' has no weights to start from; name another --trial")
    start = record.require_start()
    facts = start.data_facts
    return _Source(
        architecture=trial.architecture,
        weights=start.files.weights(trial),
        config=parse_config(dict(record.config)),
        classes=None if facts is None else facts.classes,
        preprocess=None if facts is None else facts.preprocess,
    )


def _chosen(store: Store, record: SearchRecord, walk: NetAdaptRequest) -> Trial:
    """The trial that was named, else the found network, else the best of the block-level search."""
    complete = [trial for trial in store.trials.of(record.id) if trial.state is State.COMPLETE]
    if walk.trial is not None:
        chosen = next((trial for trial in complete if trial.number == walk.trial), None)
    else:
        chosen = found_trial(complete, store.trials.exports(record.id), has_finals=True)
        chosen = chosen or _best(complete, store.trials.rewards(record.id))
    if chosen is None:
        raise RunError(
            f"search '{walk.source}' has no such completed trial; see: mobilenas trials --search {walk.source}"
        )
    return chosen


def _best(complete: list[Trial], rewards: dict[int, float]) -> Trial | None:
    """The best of the block-level search; a trial has no reward where the user's own reward failed for it."""
    rewarded = [trial for trial in complete if trial.number in rewards]
    return max(rewarded, key=lambda trial: (rewards[trial.number], trial.number), default=None)


def _configured(found: _Source, walk: NetAdaptRequest, sha256: str) -> RunConfig:
    """The source's run, but for what a walk alone does not do."""
    config, spec = found.config.with_first_device(), found.architecture.to_json()
    data = config.data.model_dump()
    if walk.data is not None:
        data["source"] = walk.data
    if walk.data_dir is not None:
        data["data_dir"] = str(walk.data_dir)
    if walk.skip_damaged:
        data["skip_damaged"] = True
    content = config.model_dump(mode="json") | {
        "name": walk.name,
        "data": data,
        "target": parse_target(walk.target),
        "workers": walk.workers or config.workers,
        "device": config.device.named(walk.device or config.device.name).model_dump(),
    }
    if config.supernet is not None:  # which has no weights for what is narrowed
        content |= {"evaluator": None, "supernet": None, "supernet_hash": None}
    content |= {"init": None, "init_hash": None, "init_images": None}  # the walk begins with its own network
    if config.present.sha256 is not None:  # of a search, which alone has that copy: it is to be named once more
        content["present"] = parse_config({}).present.model_dump()
    content["present"] |= walk.present or {}
    content["data"] |= {"folds": None}
    content["blocks"] |= {"trials": 1, "enqueue": [spec], "start_from": [], "objectives": []}
    content["race"] |= {"rungs": []}
    content["netadapt"] |= {
        "start": StartConfig(network=spec, weights=sha256).model_dump(),
    }
    if not content["netadapt"]["max_steps"]:  # a search without a walk, or a race
        content["netadapt"] |= {"max_steps": parse_config({}).netadapt.max_steps}
    content["final"] |= {"weights": "inherited", "top_k": 1}
    return parse_config(content).from_anywhere()
