"""A whole search from start to export, and the same from where it stopped."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from latency.collect import POOR_CALIBRATION, collect, is_reliable
from latency.device import Device, conditions
from latency.measure import local_device
from latency.table import LatencyTable
from search.blocks import search_blocks
from search.config import RunConfig, parse_config
from search.events import Listener
from search.executor import LocalExecutor
from search.final import export_found, measure_both, train_both
from search.plan import Inputs, Range, latency_range, look_up
from search.record import SearchRecord
from search.refine import refine
from search.report import write_report
from search.session import Session
from search.store import Store
from search.trial import Stage
from space.errors import InfeasibleTarget, RunError
from space.keys import keys_of


class Busy(RunError):
    """Another process runs the search."""


def table_for(store: Store, inputs: Inputs, listener: Listener) -> tuple[int, LatencyTable]:
    """The recorded table of this device and space, or a newly measured one."""
    space, device = inputs.space, inputs.device
    known = store.find_table(device, space.scope)
    if known is not None and is_reliable(known[1], inputs.config.device.protocol):
        listener.note(f"latency table {known[0]} of device '{device.name}' is reused ({len(known[1].entries)} blocks)")
        return known
    protocol = inputs.config.device.protocol
    listener.begin(f"measuring {len(space.reachable_keys())} blocks on '{device.name}'", protocol.rounds)
    table = collect(space, device, protocol, listener.advance)
    listener.end()
    reference = set(keys_of(space.reference))
    table_id = store.record_table(
        table,
        conditions=conditions(),
        protocol=str(protocol),
        reasons=dict.fromkeys(reference, "reference"),
    )
    fit = table.calibration
    listener.note(
        f"latency table {table_id}: {len(table.entries)} blocks, calibrated on {fit.networks} whole networks, "
        f"mean error {fit.error:.1%} (cross-validated)"
    )
    if fit.error > POOR_CALIBRATION:
        listener.note(
            "the device was busy while the table was measured: expect predictions to be that far off"
            + ("" if is_reliable(table, protocol) else "; the next search measures again")
        )
    return table_id, table


def check_target(target_ms: float, reach: Range) -> None:
    """Refuse a target that no network of the space can meet.

    Raises:
        InfeasibleTarget: the target lies below the fastest network.
    """
    if target_ms < reach.fastest_ms:
        raise InfeasibleTarget(
            f"target {target_ms:.3f} ms is out of reach: the space's networks take {reach.fastest_ms:.3f} to "
            f"{reach.slowest_ms:.3f} ms on this device (its reference {reach.reference_ms:.3f} ms); "
            "choose a target in this range or a smaller width multiplier"
        )


def _new_name(store: Store, inputs: Inputs, runs: Path) -> str:
    if inputs.config.name is not None:
        return inputs.config.name
    data = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(inputs.config.data.source.removeprefix("imagefolder:")).name)
    taken = {search.name for search in store.searches()}
    number = 1
    while (name := f"{data or 'photos'}-{inputs.device.name}-{number}") in taken or (runs / name).exists():
        number += 1
    return name


def create(store: Store, inputs: Inputs, runs: Path, listener: Listener) -> SearchRecord:
    """Measure what is missing, check the target, and record a new search; nothing is trained yet.

    Raises:
        InfeasibleTarget: no network of the space can be so fast.
        RunError: the run folder is taken.
        StoreError: the name is taken.
    """
    name = _new_name(store, inputs, runs)
    folder = (runs / name).absolute()
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"folder {folder} is not empty; choose another --name or remove it")
    if name in {search.name for search in store.searches()}:
        raise RunError(f"a search named '{name}' exists already; resume it (mobilenas resume {name}) or choose another")
    table_id, table = table_for(store, inputs, listener)
    reach = latency_range(table, inputs.space)
    listener.note(
        f"the space reaches {reach.fastest_ms:.3f} to {reach.slowest_ms:.3f} ms, the reference takes "
        f"{reach.reference_ms:.3f} ms"
    )
    target_ms = inputs.config.target.in_ms(reach.reference_ms)
    check_target(target_ms, reach)
    folder.mkdir(parents=True, exist_ok=True)
    return store.create_search(
        name=name,
        config=inputs.config.model_copy(update={"name": name}).model_dump(mode="json"),
        run_folder=folder,
        data_hash=inputs.dataset.content_hash,
        table_id=table_id,
        target_ms=target_ms,
        seed_target_ms=target_ms * inputs.config.blocks.seed_factor,
        fastest_ms=reach.fastest_ms,
        slowest_ms=reach.slowest_ms,
        reference_ms=reach.reference_ms,
    )


def _check_unchanged(record: SearchRecord, inputs: Inputs, table: LatencyTable, device: Device) -> None:
    if inputs.dataset.content_hash != record.data_hash:
        raise RunError(
            f"search '{record.name}' was started on data {record.data_hash}, but '{inputs.dataset.name}' now is "
            f"{inputs.dataset.content_hash}; restore the data or start a new search"
        )
    if table.scope != inputs.space.scope:
        raise RunError(f"the search space of '{record.name}' has changed; restore its file or start a new search")
    if table.device.fingerprint != device.fingerprint:
        raise RunError(
            f"search '{record.name}' was started on {table.device.processor} with ONNX Runtime "
            f"{table.device.runtime_version}; this is {device.processor} with {device.runtime_version}: "
            "go on there, or start a new search here"
        )


@contextmanager
def session(store: Store, name: str, listener: Listener) -> Iterator[Session]:
    """The one session of a recorded search, with its workers; both end with the context.

    Raises:
        RunError: another process runs it, or device, data or space are not those that it was started with.
    """
    record = store.search(name)
    config: RunConfig = parse_config(dict(record.config))
    if record.table_id is None:
        raise RunError(f"search '{name}' has no latency table; start a new search")
    record.run_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(record.run_folder / ".lock")
    try:
        # `status` holds the lock for a moment when it looks.
        lock.acquire(timeout=1)
    except Timeout as error:
        raise Busy(f"search '{name}' is being run by another process; see: mobilenas status {name}") from error
    try:
        inputs = look_up(config)
        table = store.load_table(record.table_id)
        _check_unchanged(record, inputs, table, local_device(config.device.name, threads=config.device.threads))
        executor = LocalExecutor(inputs.workers, job_seconds=config.trial_minutes * 60)
        try:
            yield Session(
                store=store,
                record=record,
                config=config,
                space=inputs.space,
                dataset=inputs.dataset,
                table_id=record.table_id,
                table=table,
                executor=executor,
                listener=listener,
            )
        finally:
            executor.close()
    finally:
        lock.release()


def drive(running: Session) -> Path:
    """Take a search through the stages that are left, and return the report's path.

    Raises:
        Interrupted: it was stopped; everything finished is recorded.
        RunError: a stage cannot be completed.
    """
    _enter(running, Stage.BLOCKS)
    search_blocks(running)
    _enter(running, Stage.NETADAPT)
    found = refine(running)
    _enter(running, Stage.FINAL)
    train_both(running, found)
    measure_both(running)
    export_found(running)
    report = write_report(running)
    _enter(running, Stage.DONE)
    return report


_ORDER = (Stage.BLOCKS, Stage.NETADAPT, Stage.FINAL, Stage.DONE)


def _enter(running: Session, stage: Stage) -> None:
    """Record a stage; a resumed search never falls back to an earlier one."""
    if _ORDER.index(stage) > _ORDER.index(running.record.stage):
        running.store.set_stage(running.record.id, stage)
        running.record = replace(running.record, stage=stage)
