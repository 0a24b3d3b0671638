"""The latency tables of a search: found in the record, measured on the device, or taken from a kit's results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latency.analysis.validate import Group, validation_from
from latency.calibration import POOR
from latency.collect import Collected, campaign_for, collect, is_reliable, needed_keys, table_from
from latency.device import Device
from latency.extremes import latency_range
from latency.kit import Campaign
from latency.measurement import Measurement
from latency.meter import DeviceSettings, Meter
from latency.probe import Protocol
from latency.results import Results
from latency.table import LatencyTable
from search.config.sections import DeviceConfig
from search.events import Listener
from search.record.store import Store
from space.arch import Architecture
from space.choices import SearchSpace
from space.errors import InvalidConfig, MissingBlock
from space.keys import BlockKey, keys_of
from space.variation.scaling import scaled_references
from trainer.data.sources import cache_dir

# Of the widths of scaled references that a kit measures.
_SCALED_STEP = 0.05


def workspace() -> Path:
    """Where kits lie while they are measured on this machine, so that a measurement that was killed goes on."""
    return cache_dir() / "kits"


def settings_for(store: Store, config: DeviceConfig) -> DeviceSettings:
    """How the device of a configuration is reached: as it was added, or it is this machine.

    Raises:
        InvalidConfig: the configuration asks for other threads than the device was added with.
    """
    known = store.devices.settings(config.name)
    if known is None:
        return DeviceSettings(name=config.name, threads=config.threads or 1)
    if config.threads not in (None, known.threads):
        raise InvalidConfig(
            f"config key device.threads is {config.threads}, but device '{known.name}' was added with {known.threads}; "
            "leave the key out, or add the device under another name"
        )
    return known


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of one device and space.

    Blocks of `enqueued` networks are measured by a search itself, but for devices that it cannot reach. `anew` measures
    what is recorded already once more.
    """

    store: Store
    settings: DeviceSettings
    space: SearchSpace
    protocol: Protocol
    enqueued: tuple[Architecture, ...] = ()
    anew: bool = False

    @property
    def needed(self) -> tuple[BlockKey, ...]:
        """The blocks that a table must hold before a search begins."""
        return needed_keys(self.space, self.enqueued if self.settings.is_kit else ())

    @property
    def meter(self) -> Meter | None:
        """What measures on the device, None where people carry kits."""
        return self.settings.meter(workspace())

    def newest(self) -> tuple[int, LatencyTable] | None:
        """The newest recorded table, with its id.

        Of a device that is reached, only one of its present fingerprint: tables of different ones are never mixed.

        Raises:
            DeviceError: the device cannot be reached.
        """
        meter = self.meter
        if meter is None:
            return self.store.tables.newest(self.settings.name, self.space.scope)
        return self.store.tables.find(meter.device, self.space.scope)

    def known(self) -> tuple[int, LatencyTable] | None:
        """The newest recorded table with its id, if it can serve a search.

        Raises:
            DeviceError: the device cannot be reached.
        """
        found = None if self.anew else self.newest()
        if found is None or found[1].missing(self.needed):
            return None
        # Of another device than this machine somebody has judged the table, when it was measured.
        return found if not self.settings.is_local or is_reliable(found[1], self.protocol) else None

    def base(self, device: Device | None) -> LatencyTable | None:
        """The recorded table of this device that holds most of what is needed, if any does and it is reliable.

        Where nobody can ask what the device is now (None), it is taken for what it was when last measured.
        """
        if self.anew:
            return None
        if device is None:
            newest = self.store.tables.newest_device(self.settings.name)
            return None if newest is None else self.base(newest)
        needed = self.needed
        tables = [table for _, table in self.store.tables.of(device) if is_reliable(table, self.protocol)]
        tables = [table for table in tables if len(table.missing(needed)) < len(needed)]
        return min(tables, key=lambda table: len(table.missing(needed)), default=None)

    def to_measure(self) -> Campaign:
        """What a collection would measure.

        A kit measures the scaled references, too: a search has no way to ask for the blocks of its baseline later.

        Raises:
            DeviceError: the device cannot be reached.
        """
        meter = self.meter
        base = self.base(meter.device if meter else None)
        enqueued = (*self.enqueued, *scaled_references(self.space, _SCALED_STEP).values()) if meter is None else ()
        known = base.entries if base else {}
        return campaign_for(self.space, self.protocol, known, enqueued=enqueued, for_kit=meter is None)

    def require(self, run: str) -> tuple[int, LatencyTable]:
        """A table for a search on a device that is not this machine; `run` names its configuration.

        Raises:
            MissingBlock: blocks are missing; the message says what measures them.
        """
        found = self.known()
        if found is not None:
            return found
        needed = len(self.needed)
        name = self.settings.name
        if self.settings.is_kit:
            remedy = (
                f"run: mobilenas latency bundle --device {name} {run} --out kit.zip, run its measure.py there, then: "
                f"mobilenas latency import results.json --device {name}"
            )
        else:
            remedy = f"run: mobilenas latency collect --device {name} {run}"
        raise MissingBlock(f"the {needed:,} blocks of this space are not measured on '{name}'; {remedy}")

    def collect(self, listener: Listener) -> tuple[int, Collected]:
        """Measure what is missing on a device that can be reached, record the table, and return it with its id.

        Raises:
            DeviceError: the device cannot be reached or cannot measure.
        """
        meter = self.meter
        assert meter is not None
        campaign = self.to_measure()
        listener.begin(f"measuring {len(campaign.blocks):,} blocks on '{self.settings.name}'", 1)
        with meter.keeping():
            found = collect(
                self.space,
                meter,
                self.protocol,
                self.base(meter.device),
                lambda done, expected, _what: listener.advance(done, expected),
            )
            listener.end()
            table_id = self._record(found, listener)
        return table_id, found

    def take(self, results: Results, listener: Listener) -> tuple[int, Collected]:
        """Record the table of a kit's results, and its validation on the networks that were held out.

        Raises:
            InvalidResults: they are not those of a kit for this space, or incomplete.
        """
        found = table_from(results, self.base(results.device))
        held_out: dict[str, tuple[Group, Architecture, Measurement]] = {
            name: ("random", network.architecture, network.measurement) for name, network in found.held_out.items()
        }
        # Whatever can go wrong does so before anything is recorded.
        validation = validation_from(found.table, held_out, found.beside) if held_out else None
        table_id = self._record(found, listener)
        if validation is not None:
            self.store.devices.add_validation(table_id, validation, found.conditions)
            agreed = validation.agreement("wall")
            listener.note(
                f"validated on {agreed.networks} networks that its fit has not seen: mean error {agreed.mape:.1%}, "
                f"{agreed.within_5:.0%} within 5%"
            )
        return table_id, found

    def _record(self, found: Collected, listener: Listener) -> int:
        table, reach = found.table, reach_of(found.table, self.space)
        reference = set(keys_of(self.space.reference))
        table_id = self.store.tables.add(
            table,
            conditions={**found.conditions, REACH: reach},
            protocol=str(self.protocol),
            reasons=dict.fromkeys(reference, "reference"),
        )
        for line in lines_about(table_id, found, self.protocol):
            listener.note(line)
        listener.note(reach_in_words(reach))
        return table_id


REACH = "reach"
"""The key of `reach_of` among a table's recorded conditions."""


def lines_about(table_id: int, found: Collected, protocol: Protocol) -> list[str]:
    """What a person should know of a new table."""
    table, fit = found.table, found.table.calibration
    inside = share_inside(found.conditions)
    lines = [
        f"latency table {table_id}: {len(table.entries):,} blocks ({found.measured:,} measured now, {inside:.0%} of "
        f"the time inside kernels), calibrated on {fit.networks} whole networks, mean error {fit.error:.1%} "
        "(cross-validated)"
    ]
    lines += [f"warning: {warning}" for warning in found.warnings]
    if found.unsettled:
        names = ", ".join(found.unsettled[:3])
        others = f" and others (all of them: mobilenas device show {table.device.name} --format json)"
        lines.append(
            f"{len(found.unsettled):,} blocks or networks did not settle within {protocol.precision:.1%}: "
            f"{names}{others if len(found.unsettled) > 3 else ''}"
        )
    if fit.error > POOR:
        lines.append(
            f"the device was busy while the table was measured: expect predictions to be off by {fit.error:.1%}"
            + ("" if is_reliable(table, protocol) else "; the next search on this machine measures again")
        )
    return lines


def reach_of(table: LatencyTable, space: SearchSpace) -> dict[str, Any]:
    """What the networks of a space take by a table that holds its blocks, ms: plain JSON."""
    return {
        "space": f"{space.preset.name}, width {space.width:g}, {space.resolution} px, {space.num_classes} classes",
        **asdict(latency_range(table, space)),
    }


def reach_in_words(reach: Mapping[str, Any]) -> str:
    """The targets that can be met."""
    low, high, reference = (reach[name] for name in ("fastest_ms", "slowest_ms", "reference_ms"))
    return (
        f"targets that networks of {reach['space']} can meet: {low:.3f} to {high:.3f} ms; the reference takes "
        f"{reference:.3f} ms, so that is from {low / reference:.0%} of it"
    )


def share_inside(conditions: Mapping[str, Any]) -> float:
    """The share of a measurement's wall time that was spent inside of kernels."""
    return float(conditions["seconds_inside"]) / max(float(conditions["seconds"]), 1e-9)
