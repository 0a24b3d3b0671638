"""The commands of `mobilenas latency` that make tables and hand them over: collect, bundle, import, export."""

import re
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latency.calibration import POOR
from latency.collect import campaign_for_missing, enqueued_of, entries_from, space_of
from latency.device import Device
from latency.extremes import latency_range
from latency.kit import KIT_MEMORY_MB, Campaign, make_kit, measure_options
from latency.meter import DeviceSettings, LocalMeter, Meter
from latency.probe import CPU, Protocol
from latency.results import Results, read_results, read_results_file
from latency.table import LatencyTable
from search.config.load import load_config, parse_config
from search.config.sections import DeviceConfig
from search.plan import look_up, table_minutes
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.stages.walk.refine import keys_to_refine
from search.tables import Tables, settings_for, workspace
from service.commands.spaces import space_named
from service.terminal.console import console, say
from service.terminal.logs import telling
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import DeviceError, InvalidConfig, InvalidResults, InvalidTable, RunError


@dataclass(frozen=True, slots=True)
class Wanted:
    """The space that a table is for, by a run's configuration or by itself, and how it is to be measured."""

    config: Path | None
    space: str | None
    width: float
    resolution: int | None
    in_channels: int
    classes: int
    rounds: int | None = None
    precision: float | None = None
    minutes: float | None = None
    anew: bool = False
    enqueue: tuple[str, ...] = ()

    def look_up(self) -> tuple[SearchSpace, DeviceConfig, tuple[Architecture, ...]]:
        """The space, the configuration of its device, and the networks that the run enqueues.

        Raises:
            InvalidConfig: neither a configuration nor a space is named, or both.
            MobilenasError: as `search.plan.look_up` does.
        """
        if (self.config is None) == (self.space is None):
            raise InvalidConfig("say what the table is for: either --config RUN.yaml, or --space with its sizes")
        if self.space is not None:
            space = space_named(self.space, self.width, self.resolution, self.in_channels, self.classes)
            named = parse_config({"blocks": {"enqueue": self.enqueue}}).from_anywhere().blocks
            return space, self._changed({}), named.networks(space)
        if self.enqueue:
            raise InvalidConfig("--enqueue is for --space; a configuration names its networks itself")
        inputs = look_up(load_config(self.config).from_anywhere())
        device = self._changed(inputs.config.device.model_dump())
        return inputs.space, device, inputs.config.blocks.networks(inputs.space)

    def _changed(self, device: dict[str, Any]) -> DeviceConfig:
        given = {"rounds": self.rounds, "precision": self.precision, "minutes": self.minutes}
        changes = {name: value for name, value in given.items() if value is not None}
        return parse_config({"device": {**device, **changes}}).device


def default_device(name: str) -> DeviceConfig:
    """The default configuration of a device of this name."""
    return parse_config({"device": {"name": name}}).device


def tables_of(store: Store, device: str | None, wanted: Wanted) -> Tables:
    """The tables of a named device, or of the configuration's."""
    space, config, enqueued = wanted.look_up()
    settings = settings_for(store, config if device is None else config.model_copy(update={"name": device}))
    return Tables(
        store=store, settings=settings, space=space, protocol=config.protocol, enqueued=enqueued, anew=wanted.anew
    )


def meter_of(settings: DeviceSettings, what: str) -> Meter:
    """What measures on a device.

    Raises:
        DeviceError: people carry kits there; `what` cannot be done from here.
    """
    meter = settings.meter(workspace())
    if meter is None:
        raise DeviceError(f"device '{settings.name}' is reached by kit and cannot {what} from here; {KIT_HINT}")
    return meter


KIT_HINT = "a kit made with: mobilenas latency bundle measures on it"


def _cost(campaign: Campaign, meter: Meter) -> str:
    minutes = table_minutes(campaign, meter)
    return f"{len(campaign.blocks):,} blocks, about {minutes:.1f} min, and {len(campaign.networks)} whole networks"


def collect(database: str, device: str | None, wanted: Wanted) -> None:
    """The command `collect`."""
    with closing(Store.open(database)) as store:
        tables = tables_of(store, device, wanted)
        device = tables.settings.name
        meter = meter_of(tables.settings, "be measured")
        known = tables.known()
        if known is not None:
            say(
                f"latency table {known[0]} of '{device}' holds all {len(known[1].entries):,} blocks: "
                "nothing to measure (--anew measures them again)"
            )
            return
        with console.status("timing a sample of the blocks"):
            cost = _cost(tables.to_measure(), meter)
        say(f"to measure on '{device}': {cost}")
        with telling() as listener:
            table_id, found = tables.collect(listener)
        _tell_range(found.table, tables.space)
        if found.table.calibration.error > POOR:
            say(f"table {table_id} is recorded anyway; measure again when the device is idle")


def _tell_range(table: LatencyTable, space: SearchSpace) -> None:
    reach = latency_range(table, space)
    say(
        f"the networks of the space take {reach.fastest_ms:.3f} to {reach.slowest_ms:.3f} ms there, its reference "
        f"{space.preset.reference} {reach.reference_ms:.3f} ms"
    )


def bundle(database: str, device: str | None, wanted: Wanted, out: Path) -> None:
    """The command `bundle`: a kit for the whole table of a space."""
    with closing(Store.open(database)) as store:
        tables = tables_of(store, device, wanted)
        device = tables.settings.name
        # Whatever the device is, here it is one that a kit is carried to, and its board may have little memory.
        added = not tables.settings.is_local
        # One that was not added is not known to have any block.
        tables = replace(
            tables,
            settings=replace(tables.settings, address="kit"),
            protocol=_for_small_memory(tables.protocol),
            anew=tables.anew or not added,
        )
        if (known := tables.known()) is not None:
            raise RunError(
                f"latency table {known[0]} of '{device}' holds all {len(known[1].entries):,} blocks; "
                "--anew makes a kit that measures them again"
            )
        campaign = tables.to_measure()
        named = f"mobilenas latency import results.json --device {device}"
        unnamed = "mobilenas device add NAME kit, mobilenas latency import results.json --device NAME"
        _write(campaign, out, measure_options(tables.settings.runtime), named if added else unnamed)


def bundle_refinement(database: str, name: str, out: Path) -> None:
    """The command `bundle --refine`: what NetAdapt can reach from a search's winner."""
    with closing(Store.open(database)) as store:
        recorded = RecordedSearch.read(store, name)
        keys = keys_to_refine(recorded)
        table = next((each.table for each in recorded.devices if each.table.missing(keys)), None)
        if table is None:
            raise RunError(
                f"the latency table of '{name}' holds all blocks that NetAdapt can reach; go on with: mobilenas "
                f"resume {name}"
            )
        campaign = campaign_for_missing(table, table.missing(keys), _for_small_memory(recorded.config.device.protocol))
        campaign = replace(campaign, purpose={"kind": "refine", "search": name, "scope": table.scope})
        device = table.device.name
        options = measure_options(table.device.runtime, table.device.processor)
        then = f"mobilenas latency import results.json --device {device}, and: mobilenas resume {name}"
        _write(campaign, out, options, then)


def _for_small_memory(protocol: Protocol) -> Protocol:
    """A kit runs on a board with little memory."""
    return replace(protocol, memory_mb=KIT_MEMORY_MB)


def _write(campaign: Campaign, out: Path, options: str, then: str) -> None:
    if not out.name or out.is_dir():
        raise RunError(f"--out {str(out)!r} is a folder; name a zip file to write")
    with console.status("making the models, and timing a sample of them on this machine"):
        kit = make_kit(campaign)
        cost = _cost(campaign, LocalMeter("local"))
        try:
            kit.write_zip(out)
        except OSError as error:
            raise RunError(f"{out} cannot be written: {error.strerror}; choose another --out") from error
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {cost} (on this machine)")
    say("on the device, with Python 3.9, numpy and onnxruntime 1.15 or newer:")
    hint = (
        "it can be stopped and started again"
        if "--cpus" in options
        else "--cpus 4-7 keeps to these cores; it can be stopped and started again"
    )
    say(f"  unzip {out.name} && python3 {out.stem}/measure.py{options}      ({hint})")
    say(f"then, with the results.json that it writes: {then}")


def take(database: str, file: Path, device: str | None) -> None:
    """The command `import`: a kit's results, or a colleague's table."""
    text = read_results_file(file)
    with closing(Store.open(database)) as store:
        if _is_table(text):
            _take_table(store, text, device)
            return
        if device is None:
            raise InvalidConfig("name the device that the results are from with --device")
        results = read_results(text, device)
        match results.purpose.get("kind"):
            case "collect":
                tables = Tables(
                    store=store,
                    settings=_known_device(store, results.device),
                    space=space_of(results),
                    protocol=results.protocol,
                    enqueued=enqueued_of(results),
                )
                with telling() as listener:
                    _, found = tables.take(results, listener)
                _tell_range(found.table, tables.space)
            case "refine":
                _take_refinement(store, results)
            case "certify" | "finalists":
                name = results.purpose.get("search")
                name = name if re.fullmatch(r"[A-Za-z0-9._-]{1,128}", str(name)) else "NAME"
                raise InvalidResults(
                    f"these results are for certifying a search; run: mobilenas certify {name} --import {file}"
                )
            case kind:
                raise InvalidResults(
                    f"results of a kit for {str(kind)[:40]!r} cannot be imported; make the kit with: mobilenas "
                    "latency bundle"
                )


def _known_device(store: Store, device: Device) -> DeviceSettings:
    """How the device of an import is reached.

    Raises:
        InvalidResults: it was not added, and is not this machine; or it was added with other options.
    """
    settings = store.devices.settings(device.name)
    if settings is None:
        here = LocalMeter(device.name, device.runtime)
        if device.provider == CPU and here.device.fingerprint == device.fingerprint:
            return DeviceSettings(name=device.name)
        raise InvalidResults(
            f"'{device.name}' ({device.processor}) is not this machine: add it first, so that searches know how it is "
            f"reached: mobilenas device add {device.name} kit"
        )
    if device.runtime != settings.runtime:
        raise InvalidResults(
            f"it was measured with {device.provider}, {device.threads} thread(s) and optimisation "
            f"{device.graph_optimization}, but '{settings.name}' was added with {settings.provider}, "
            f"{settings.threads} and {settings.graph_optimization}; measure again with these, or use another name"
        )
    return settings


def _is_table(text: str) -> bool:
    return '"entries"' in text[:100_000_000] and '"mobilenas-results"' not in text


def _take_table(store: Store, text: str, device: str | None) -> None:
    table = LatencyTable.from_json(text)
    name = DeviceSettings(name=device or table.device.name).name
    if not table.entries:
        raise InvalidTable("the table holds no blocks; export it again")
    table = replace(table, device=replace(table.device, name=name))
    _known_device(store, table.device)
    table_id = store.tables.add(table, conditions={"imported": "table"}, protocol="as exported")
    say(f"latency table {table_id} of '{name}': {len(table.entries):,} blocks from {table.device.processor}")


def _take_refinement(store: Store, results: Results) -> None:
    recorded = RecordedSearch.read(store, str(results.purpose.get("search")))
    if not recorded.devices:
        raise InvalidResults(
            f"search '{recorded.record.name}' has no device: {recorded.config.latency} predicts its latencies"
        )
    target = next((each for each in recorded.devices if each.name == results.device.name), recorded.devices[0])
    table = target.table
    if results.device.fingerprint != table.device.fingerprint or results.device.name != table.device.name:
        raise InvalidResults(
            f"the results are from {results.device.processor} with ONNX Runtime {results.device.runtime_version} as "
            f"'{results.device.name}', the table of '{recorded.record.name}' is from {table.device.processor} with "
            f"{table.device.runtime_version} as '{table.device.name}': tables of different devices are never mixed"
        )
    needed = keys_to_refine(recorded)
    surplus = set(results.blocks) - {*needed, *table.entries}
    lacking = [key for key in table.missing(needed) if key not in results.blocks]
    if surplus or lacking:
        raise InvalidResults(
            f"the results lack {len(lacking)} blocks that NetAdapt can reach from '{recorded.record.name}', and hold "
            f"{len(surplus)} others; make the kit again"
        )
    new = entries_from(results, table)
    store.tables.add_entries(target.table_id, new, reason="netadapt")
    say(f"{len(new):,} blocks added to latency table {target.table_id}")
    say(f"go on with: mobilenas resume {recorded.record.name}")


def export(database: str, device: str | None, wanted: Wanted, out: Path) -> None:
    """The command `export`."""
    with closing(Store.open(database)) as store:
        table_id, table = newest(tables_of(store, device, wanted))
    device = table.device.name
    try:
        out.write_text(table.to_json(), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}; choose another --out") from error
    say(f"{out}: latency table {table_id} of '{device}', {len(table.entries):,} blocks")


def newest(tables: Tables) -> tuple[int, LatencyTable]:
    """The newest table, of a device that may be away."""
    space, device = tables.space, tables.settings.name
    found = tables.store.tables.newest(device, space.scope)
    if found is None:
        raise InvalidTable(
            f"'{device}' has no table of space {space.preset.name} at {space.resolution} px, width {space.width:g}, "
            f"{space.num_classes} classes and {space.in_channels} channels; measure it: mobilenas latency collect"
        )
    return found
