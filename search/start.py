"""Starting a search: its device and table, what its space reaches, its name, its run folder and its record."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from latency.collect import measure_missing
from latency.table import LatencyTable
from search.budget import by_counts, needs_speed, within_budget
from search.config.load import RunConfig, parse_config
from search.events import Listener
from search.objective.latency import OwnLatency
from search.plan import (
    Inputs,
    Range,
    calibrate_speed,
    compute_device,
    latency_range,
    look_up,
    sampled_range,
)
from search.plugins import Plugin
from search.record.rows import FurtherTarget, SearchRecord, SearchStart
from search.record.searches import NameTaken
from search.record.store import Store
from search.run_folder import RunFolder
from search.tables import settings_for, workspace
from space.arch import Architecture
from space.cost import cost_of
from space.errors import InfeasibleTarget, RunError
from space.keys import keys_of
from space.paths import recordable
from trainer.training.networks import require_device


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What people say of a search."""

    owner: str | None = None
    labels: tuple[str, ...] = ()
    note: str | None = None
    budget: str | None = None
    group: str | None = None
    priority: int = 0


def with_device(inputs: Inputs, store: Store) -> Inputs:
    """The same with the device as it was added to the record.

    Raises:
        InvalidConfig: it was added with other threads than the configuration has.
    """
    return replace(inputs, settings=settings_for(store, inputs.config.device))


def inputs_for(store: Store, config: RunConfig, budget: str) -> Inputs:
    """Everything that a configuration names, scaled to a budget; one of minutes takes a calibration of some seconds.

    Raises:
        MobilenasError: as `look_up` and `with_device` do.
    """
    inputs = with_device(look_up(by_counts(config, budget)), store)
    if not needs_speed(config, budget):
        return inputs
    return within_budget(inputs, calibrate_speed(inputs, store), budget)


def table_for(store: Store, inputs: Inputs, listener: Listener) -> tuple[int, LatencyTable]:
    """The recorded table of this device and space; where the device is this machine, a newly measured one will do.

    Raises:
        MissingBlock: another device lacks blocks; the message says what measures them.
    """
    tables = inputs.tables(store)
    if not inputs.settings.is_local:
        known = tables.require(run_options(inputs))
    else:
        found = tables.known()
        if found is None:
            meter = tables.meter
            assert meter is not None
            with meter.keeping():
                found = tables.known()  # another search may have measured it while this one waited
                if found is None:
                    table_id, collected = tables.collect(listener)
                    return table_id, collected.table
        known = found
    name = inputs.settings.name
    listener.note(f"using latency table {known[0]} of device '{name}' ({len(known[1].entries):,} blocks)")
    return known


def check_sources(store: Store, config: RunConfig) -> None:
    """Refuse searches to start from that are not there, before a search is recorded and its name taken.

    Raises:
        StoreError: there is no such search; the message names the nearest ones.
    """
    for name in config.blocks.start_from:
        store.searches.get(name)


def require_table(store: Store, inputs: Inputs) -> None:
    """Refuse to start where another device than this machine lacks blocks.

    Raises:
        MissingBlock: it does; the message says what measures them.
    """
    if inputs.config.latency is not None:
        return
    for name in inputs.config.devices:
        one = with_device(replace(inputs, config=inputs.config.for_device(name)), store)
        if not one.settings.is_local:
            one.tables(store).require(run_options(one))


def run_options(inputs: Inputs) -> str:
    """The options that name to the commands that measure what a run needs."""
    space, chosen, enqueued = inputs.space, inputs.config.space, inputs.config.blocks.enqueue
    if any(named.startswith("{") for named in enqueued):
        return "--config RUN.yaml (this run's)"
    sizes = f"--resolution {space.resolution} --classes {space.num_classes} --in-channels {space.in_channels}"
    return " ".join(
        [f"--space {chosen.preset} --width {chosen.width!r} {sizes}", *(f"--enqueue {named}" for named in enqueued)]
    )


def check_target(target_ms: float, reach: Range, what: str = "target") -> None:
    """Refuse a target, or a limit, that no network of the space can meet.

    Raises:
        InfeasibleTarget: the target lies below the fastest network.
    """
    if target_ms < reach.fastest_ms:
        reference = "" if reach.reference_ms is None else f", the reference {reach.reference_ms:.3f} ms"
        raise InfeasibleTarget(
            f"{what} {target_ms:.4g} ms is out of reach: the networks of the space take {reach.fastest_ms:.3f} to "
            f"{reach.slowest_ms:.3f} ms on this device{reference}; "
            "choose a target in this range, or a smaller width multiplier"
        )


def check_limits(inputs: Inputs) -> None:
    """Refuse a limit that no network of the space can keep, unless others are to be tried first.

    Raises:
        InfeasibleTarget: it lies below what the smallest network has.
    """
    blocks, smallest = inputs.config.blocks, cost_of(inputs.space.smallest)
    if blocks.enqueue or blocks.start_from:
        return
    for name in ("madds", "params", "peak_bytes"):
        limit, least = getattr(inputs.config.limits, name), getattr(smallest, name)
        if limit is not None and limit < least:
            raise InfeasibleTarget(
                f"limits.{name} {limit:,} is out of reach: the smallest network of the space has {least:,}; raise it, "
                "or choose a smaller width multiplier"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """What a device can reach, and what is wanted there."""

    table_id: int | None
    reach: Range
    target_ms: float

    @property
    def further(self) -> FurtherTarget:
        assert self.table_id is not None
        assert self.reach.reference_ms is not None
        return FurtherTarget(table_id=self.table_id, target_ms=self.target_ms, reference_ms=self.reach.reference_ms)


def _reached(store: Store, inputs: Inputs, listener: Listener) -> Iterator[_Reached]:
    """Per device, the tables measured where they are missing and can be, the targets checked."""
    config = inputs.config
    for name, target in config.devices.items():
        on = f"on '{name}' " if len(config.devices) > 1 else ""
        if config.latency is not None:
            table_id = None
            reference = inputs.space.reference if config.blocks.reference else None
            reach = sampled_range(own_latency(config), inputs.space, reference)
        else:
            one = with_device(replace(inputs, config=config.for_device(name)), store)
            table_id, table = table_for(store, one, listener)
            reference = _reference(inputs)
            table = _with_blocks(store, table_id, table, one, reference)
            reach = latency_range(table, inputs.space, reference)
        takes = "" if reach.reference_ms is None else f", the reference takes {reach.reference_ms:.3f} ms"
        listener.note(f"{on}the networks of the space take {reach.fastest_ms:.3f} to {reach.slowest_ms:.3f} ms{takes}")
        target_ms = target.in_ms(reach.reference_ms)
        if config.netadapt.start is None:
            check_target(target_ms, reach)
            if config.limits.latency_ms is not None:
                check_target(config.limits.latency_ms, reach, "limits.latency_ms")
        elif reach.reference_ms is not None and target_ms >= reach.reference_ms:
            raise InfeasibleTarget(
                f"target {target_ms:.3f} ms is met already: the start network takes {reach.reference_ms:.3f} ms; "
                "choose a lower target"
            )
        yield _Reached(table_id=table_id, reach=reach, target_ms=target_ms)


def _reference(inputs: Inputs) -> Architecture:
    """What targets are relative to: the space's reference, or the network that a walk starts from."""
    start = inputs.config.netadapt.start
    return inputs.space.reference if start is None else Architecture.from_json(start.network)


def _with_blocks(store: Store, table_id: int, table: LatencyTable, inputs: Inputs, arch: Architecture) -> LatencyTable:
    """The table with the blocks of a network that is none of its space's, measured where they can be."""
    missing = table.missing(keys_of(arch))
    meter = inputs.settings.meter(workspace())
    if not missing or meter is None:
        return table
    store.tables.add_entries(
        table_id, measure_missing(table, missing, meter, inputs.config.device.protocol), reason="enqueued"
    )
    return store.tables.load(table_id)


def own_latency(config: RunConfig) -> OwnLatency:
    """The user's own function from architecture to ms."""
    assert config.latency is not None
    return OwnLatency(Plugin(name=config.latency, folder=config.plugins))


def tell_data(inputs: Inputs, listener: Listener) -> None:
    """Say what misleads about the data, where no plan has said it before."""
    if (facts := inputs.data.facts) is not None:
        for warning in facts.warnings():
            listener.note(f"data: {warning}")


def _refuse_full(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"run folder {folder} is not empty; choose another --name, or remove it")


def _measured(store: Store, inputs: Inputs, listener: Listener) -> list[_Reached]:
    """Measure what is missing and check the targets on each device; nothing is recorded but tables."""
    if inputs.config.executor == "local":
        require_device(compute_device(inputs.config))
    if inputs.config.netadapt.start is None:
        check_limits(inputs)
    return list(_reached(store, inputs, listener))


def _start(inputs: Inputs, folder: Path, reached: list[_Reached]) -> tuple[SearchStart, list[FurtherTarget]]:
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
    reached = _measured(store, inputs, listener)
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
            config = _named(_where_it_trains(inputs.config), name)
            return store.searches.create(name=name, config=config, start=start, further=further, **asdict(request))
        except FileExistsError:
            if inputs.config.name is not None:
                raise RunError(f"run folder {folder} was taken meanwhile; choose another --name") from None
            name = next(names)
        except NameTaken:
            if inputs.config.name is not None:
                raise
            RunFolder(folder).start_weights.unlink(missing_ok=True)
            folder.rmdir()
            name = next(names)


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
    _refuse_full(folder)
    tell_data(inputs, listener)
    reached = _measured(store, inputs, listener)
    folder.mkdir(parents=True, exist_ok=True)
    start, further = _start(inputs, folder, reached)
    config = _where_it_trains(inputs.config)
    store.searches.begin(record.id, _named(config, record.name), start, further)
