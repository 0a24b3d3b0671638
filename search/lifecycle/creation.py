"""A new search: its name, its run folder and its record; or one that was queued, taken to its first stage."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from search.budget import by_counts, needs_speed, within_budget
from search.config.load import RunConfig, parse_config
from search.events import Listener
from search.lifecycle.reach import Reached, measured_reach, with_device
from search.plan import Inputs, calibrate_speed, check_supernet, compute_device, look_up
from search.record.rows import FurtherTarget, SearchRecord, SearchStart
from search.record.searches import NameTaken
from search.record.store import Store
from search.run_folder import RunFolder, supernet_file
from space.errors import InvalidConfig, RunError
from space.paths import recordable
from trainer.training.weight_files import write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What people say of a search."""

    owner: str | None = None
    labels: tuple[str, ...] = ()
    note: str | None = None
    budget: str | None = None
    group: str | None = None
    priority: int = 0


def inputs_for(store: Store, config: RunConfig, budget: str) -> Inputs:
    """Everything that a configuration names, scaled to a budget; one of minutes takes a calibration of some seconds.

    Raises:
        MobilenasError: as `look_up` and `with_device` do.
    """
    inputs = with_device(look_up(by_counts(config, budget)), store)
    check_supernet(inputs)
    if not needs_speed(config, budget):
        return inputs
    return within_budget(inputs, calibrate_speed(inputs, store), budget)


def check_sources(store: Store, config: RunConfig) -> None:
    """Refuse searches to start from that are not there, before a search is recorded and its name taken.

    Raises:
        StoreError: there is no such search; the message names the nearest ones.
    """
    for name in config.blocks.start_from:
        store.searches.get(name)


def tell_data(inputs: Inputs, listener: Listener) -> None:
    """Say what misleads about the data, where no plan has said it before."""
    if (facts := inputs.data.facts) is not None:
        for warning in facts.warnings():
            listener.note(f"data: {warning}")


def _refuse_full(folder: Path, *allowed: Path) -> None:
    if folder.exists() and any(path not in allowed for path in folder.iterdir()):
        raise RunError(f"run folder {folder} is not empty; choose another --name, or remove it")


def _start(inputs: Inputs, folder: Path, reached: list[Reached]) -> tuple[SearchStart, list[FurtherTarget]]:
    """What a search in this run folder begins with."""
    first, *others = reached
    start = SearchStart(
        run_folder=folder,
        data_hash=inputs.data.content,
        table_id=first.table_id,
        target_ms=first.target_ms,
        seed_target_ms=first.target_ms * inputs.config.seed_factor,
        fastest_ms=first.reach.fastest_ms,
        slowest_ms=first.reach.slowest_ms,
        reference_ms=first.reach.reference_ms,
        data_facts=inputs.data.facts,
    )
    return start, [other.further for other in others]


def names_for(store: Store, config: RunConfig, runs: Path | None) -> Iterator[str]:
    """The name that the user gave, or all that nobody has taken: <data>-<device>-<n>."""
    if config.name is not None:
        yield config.name
        return
    data = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(config.data.source.removeprefix("imagefolder:")).name)
    taken = {name for search in store.searches.all() for name in (search.name, search.group)}
    for number in count(1):
        name = f"{data or 'photos'}-{config.device.name}-{number}"
        if name not in taken and not (runs and (runs / name).exists()):
            yield name


def create(
    store: Store, inputs: Inputs, runs: Path, listener: Listener, request: SearchRequest, weights: bytes | None = None
) -> SearchRecord:
    """Measure what is missing, check the target, and record a new search; nothing is trained yet.

    `weights` are those of the network that a walk starts from.

    Raises:
        InfeasibleTarget: no network of the space can be so fast.
        RunError: the run folder is taken.
        StoreError: the name is taken.
    """
    names = names_for(store, inputs.config, runs)
    name = next(names)
    if name in {search.name for search in store.searches.all()}:
        raise RunError(
            f"a search named '{name}' exists already; resume it (mobilenas resume {name}), or choose another name"
        )
    _refuse_group_name(store, name)
    _refuse_full(_folder(runs, name))
    reached = measured_reach(store, inputs, listener)
    runs.mkdir(parents=True, exist_ok=True)
    while True:  # others may have begun meanwhile, and taken the next numbers
        folder = _folder(runs, name)
        try:
            # Whoever makes an unnamed search's folder has its name.
            folder.mkdir(exist_ok=inputs.config.name is not None)
            _refuse_group_name(store, name)
            start, further = _start(inputs, folder, reached)
            if weights is not None:
                with start.files.start_weights.open("xb") as file:
                    file.write(weights)
            config = _named(_where_it_trains(_with_its_files(inputs, start)), name)
            return store.searches.create(name=name, config=config, start=start, further=further, **asdict(request))
        except FileExistsError:
            if inputs.config.name is not None:
                raise RunError(f"run folder {folder} was taken meanwhile; choose another --name") from None
            name = next(names)
        except NameTaken:
            if inputs.config.name is not None:
                raise
            for left in RunFolder(folder).given:
                left.unlink(missing_ok=True)
            folder.rmdir()
            name = next(names)


def _with_its_files(inputs: Inputs, start: SearchStart) -> RunConfig:
    """With copies of what it is given by which it goes on, and is handed over, without the originals.

    Raises:
        RunError: its supernet cannot be copied.
    """
    config = _with_its_weights(inputs, start)
    if inputs.present is None:
        if config.present.sha256 is not None:
            raise InvalidConfig("config key present.sha256: a search sets it, of its own copy; leave it out")
        return config
    inputs.present.store(start.files)
    present = config.present.model_copy(update={"sha256": inputs.present.sha256})
    return config.model_copy(update={"present": present})


def _with_its_weights(inputs: Inputs, start: SearchStart) -> RunConfig:
    config, initial = inputs.config, inputs.initial_weights
    if initial is None and config.init_hash is not None:
        raise InvalidConfig("config key init_hash: a search sets it, of its own copy of the weights; leave it out")
    if initial is not None:
        write_whole(start.files.start_weights, initial)
        known = {"init_hash": hashlib.sha256(initial).hexdigest(), "init_images": config.final.images}
        return config.model_copy(update=known)
    if config.supernet is None:
        return config
    try:
        write_whole(start.files.supernet, supernet_file(config.supernet).read_bytes())
    except OSError as error:
        raise RunError(
            f"supernet {config.supernet} cannot be copied to {start.files.supernet} ({error.strerror}); mend that, and "
            "start again"
        ) from error
    return config.model_copy(update={"supernet_hash": check_supernet(inputs)})


def _folder(runs: Path, name: str) -> Path:
    return recordable((runs / name).absolute(), "run folder")


def enqueue(store: Store, config: RunConfig, request: SearchRequest) -> SearchRecord:
    """Record a search for a coordinator to begin.

    Raises:
        StoreError: the name is taken.
    """
    names = names_for(store, config, None)
    while True:
        name = next(names)
        _refuse_group_name(store, name)
        try:
            return store.searches.create(name=name, config=_named(config, name), **asdict(request))
        except NameTaken:
            if config.name is not None:
                raise


def _refuse_group_name(store: Store, name: str) -> None:
    if any(name == search.group for search in store.searches.all()):
        raise NameTaken(
            f"a group named '{name}' exists already, and commands could not tell them apart; choose another name"
        )


def _where_it_trains(config: RunConfig) -> RunConfig:
    """With the device that was found here: what is resumed elsewhere must not train its other half in another way."""
    if config.executor == "ray":
        return config
    training = config.training.model_copy(update={"device": compute_device(config)})
    return config.model_copy(update={"training": training})


def _named(config: RunConfig, name: str) -> dict[str, Any]:
    return config.model_copy(update={"name": name}).model_dump(mode="json")


def begin(store: Store, record: SearchRecord, runs: Path, listener: Listener) -> None:
    """Take a queued search to its first stage, on this machine.

    Raises:
        MobilenasError: as `look_up` and `create` do.
    """
    inputs = inputs_for(store, parse_config(dict(record.config)), record.budget or "default")
    folder = _folder(runs, record.name)
    # A coordinator that was killed here may have left its copies.
    _refuse_full(folder, *RunFolder(folder).given)
    tell_data(inputs, listener)
    reached = measured_reach(store, inputs, listener)
    folder.mkdir(parents=True, exist_ok=True)
    start, further = _start(inputs, folder, reached)
    config = _where_it_trains(_with_its_files(inputs, start))
    store.searches.begin(record.id, _named(config, record.name), start, further)
