"""What a search's devices reach, and whether its targets and limits can be met there; their tables measured first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from latency.collect import measure_missing
from latency.extremes import Range, latency_range
from latency.table import LatencyTable
from search.config.load import RunConfig
from search.events import Listener
from search.objective.latency import OwnLatency
from search.plan import Inputs, compute_device, sampled_range
from search.plugins import Plugin
from search.record.rows import FurtherTarget
from search.record.store import Store
from search.tables import settings_for, workspace
from space.arch import Architecture
from space.cost import cost_of
from space.errors import InfeasibleTarget
from space.keys import keys_of
from trainer.training.networks import require_device


def with_device(inputs: Inputs, store: Store) -> Inputs:
    """The same with the device as it was added to the record.

    Raises:
        InvalidConfig: it was added with other threads than the configuration has.
    """
    return replace(inputs, settings=settings_for(store, inputs.config.device))


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
class Reached:
    """What a device can reach, and what is wanted there."""

    table_id: int | None
    reach: Range
    target_ms: float

    @property
    def further(self) -> FurtherTarget:
        """As the record has a search's further devices."""
        assert self.table_id is not None
        assert self.reach.reference_ms is not None
        return FurtherTarget(table_id=self.table_id, target_ms=self.target_ms, reference_ms=self.reach.reference_ms)


def _of_devices(store: Store, inputs: Inputs, listener: Listener) -> Iterator[Reached]:
    """Per device, the tables measured where they are missing and can be, the targets checked."""
    config = inputs.config
    for name, target in config.devices.items():
        on = f"on '{name}' " if len(config.devices) > 1 else ""
        if config.latency is not None:
            table_id = None
            reference = _reference(inputs) if config.blocks.reference else None
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
        yield Reached(table_id=table_id, reach=reach, target_ms=target_ms)


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


def measured_reach(store: Store, inputs: Inputs, listener: Listener) -> list[Reached]:
    """Measure what is missing and check the targets on each device; nothing is recorded but tables."""
    if inputs.config.executor == "local":
        require_device(compute_device(inputs.config))
    if inputs.config.netadapt.start is None:
        check_limits(inputs)
    return list(_of_devices(store, inputs, listener))
