"""Devices and latency tables in SQL; each function works inside the transaction that it is given."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, distinct, func, insert, select

from latency.device import Device
from latency.measurement import Measurement
from latency.table import LatencyTable, calibrations_from_plain, calibrations_to_plain, read_measurement
from search.record.database import insert_new
from search.record.schema import devices, latency_entries, latency_tables
from space.errors import StoreError
from space.keys import BlockKey, parse_key

Reason = Literal["space", "reference", "netadapt", "enqueued"]

_DEVICE_FIELDS = [field.name for field in fields(Device)]


def record_table(
    connection: Connection,
    table: LatencyTable,
    *,
    conditions: Mapping[str, Any],
    protocol: str,
    reasons: Mapping[BlockKey, Reason],
    now: datetime,
) -> int:
    """Insert a finished table with its device and entries; blocks without a reason belong to the space.

    The same one again, of the same moment, changes nothing.
    """
    owner = device_id(connection, table.device)
    this = (latency_tables.c.device_id == owner) & (latency_tables.c.created_at == now)
    known: int | None = connection.scalar(
        select(latency_tables.c.id).where(this, latency_tables.c.scope == table.scope)
    )
    if known is not None:
        return known
    row = {
        "device_id": owner,
        "scope": table.scope,
        "calibration": calibrations_to_plain(table.calibration, table.cpu_calibration),
        "conditions": dict(conditions),
        "protocol": protocol,
        "created_at": now,
        "finished_at": now,
    }
    table_id: int = connection.execute(insert(latency_tables).values(row).returning(latency_tables.c.id)).scalar_one()
    rows = [_entry_to_row(table_id, key, entry, reasons.get(key, "space"), now) for key, entry in table.entries.items()]
    if rows:
        connection.execute(insert(latency_entries), rows)
    return table_id


def add_entries(
    connection: Connection, table_id: int, entries: Mapping[BlockKey, Measurement], *, reason: Reason
) -> None:
    """Insert those entries that the table does not hold yet: what a search has relied on never changes."""
    _require_table(connection, table_id)
    now = datetime.now(UTC)
    # In one order for all, so that two searches that add the same blocks do not wait for each other.
    rows = [_entry_to_row(table_id, key, entries[key], reason, now) for key in sorted(entries, key=str)]
    if rows:
        connection.execute(insert_new(connection, latency_entries, "table_id", "key"), rows)


def find_table(connection: Connection, device: Device, scope: str) -> tuple[int, LatencyTable] | None:
    """The newest finished table of a device with this name and fingerprint."""
    table_id = connection.scalar(
        select(latency_tables.c.id)
        .join(devices)
        .where(devices.c.name == device.name, devices.c.fingerprint == device.fingerprint)
        .where(latency_tables.c.scope == scope, latency_tables.c.finished_at.is_not(None))
        .order_by(latency_tables.c.finished_at.desc(), latency_tables.c.id.desc())
        .limit(1)
    )
    return None if table_id is None else (table_id, load_table(connection, table_id))


def newest_table(connection: Connection, name: str, scope: str) -> tuple[int, LatencyTable] | None:
    """The newest finished table of a scope from any device of this name."""
    table_id = connection.scalar(
        select(latency_tables.c.id)
        .join(devices)
        .where(devices.c.name == name, latency_tables.c.scope == scope, latency_tables.c.finished_at.is_not(None))
        .order_by(latency_tables.c.finished_at.desc(), latency_tables.c.id.desc())
        .limit(1)
    )
    return None if table_id is None else (table_id, load_table(connection, table_id))


def newest_device(connection: Connection, name: str) -> Device | None:
    """The device of this name whose table is the newest."""
    row = (
        connection.execute(
            select(*(devices.c[field] for field in _DEVICE_FIELDS))
            .join(latency_tables, latency_tables.c.device_id == devices.c.id)
            .where(devices.c.name == name, latency_tables.c.finished_at.is_not(None))
            .order_by(latency_tables.c.finished_at.desc(), latency_tables.c.id.desc())
            .limit(1)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else Device(**row)


def tables_of(connection: Connection, device: Device) -> list[tuple[int, LatencyTable]]:
    """All finished tables of a device with this name and fingerprint, newest first."""
    ids = connection.scalars(
        select(latency_tables.c.id)
        .join(devices)
        .where(devices.c.name == device.name, devices.c.fingerprint == device.fingerprint)
        .where(latency_tables.c.finished_at.is_not(None))
        .order_by(latency_tables.c.finished_at.desc(), latency_tables.c.id.desc())
    )
    return [(table_id, load_table(connection, table_id)) for table_id in list(ids)]


def table_rows(connection: Connection, name: str | None) -> list[dict[str, Any]]:
    """One row per finished table, newest first."""
    shown = (
        *(latency_tables.c.id, devices.c.name.label("device"), devices.c.fingerprint, latency_tables.c.scope),
        *(latency_tables.c.conditions, latency_tables.c.calibration, latency_tables.c.protocol),
        latency_tables.c.finished_at,
    )
    counts = select(latency_entries.c.table_id, func.count().label("blocks")).group_by(latency_entries.c.table_id)
    blocks = counts.subquery()
    query = (
        select(*shown, func.coalesce(blocks.c.blocks, 0).label("blocks"))
        .join(devices, devices.c.id == latency_tables.c.device_id)
        .outerjoin(blocks, blocks.c.table_id == latency_tables.c.id)
        .where(latency_tables.c.finished_at.is_not(None))
        .order_by(latency_tables.c.finished_at.desc(), latency_tables.c.id.desc())
    )
    if name is not None:
        query = query.where(devices.c.name == name)
    return [dict(row) for row in connection.execute(query).mappings()]


def load_table(connection: Connection, table_id: int) -> LatencyTable:
    """A table with all its entries in the order of their recording."""
    row = _require_table(connection, table_id)
    device = connection.execute(select(devices).where(devices.c.id == row["device_id"])).mappings().one()
    entries = connection.execute(
        select(latency_entries.c.key, latency_entries.c.samples)
        .where(latency_entries.c.table_id == table_id)
        .order_by(latency_entries.c.id)
    )
    try:
        calibration, cpu_calibration = calibrations_from_plain(row["calibration"])
        return LatencyTable(
            device=Device(**{name: device[name] for name in _DEVICE_FIELDS}),
            scope=row["scope"],
            entries={parse_key(key): read_measurement(samples) for key, samples in entries},
            calibration=calibration,
            cpu_calibration=cpu_calibration,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"latency table {table_id} in the database is damaged ({type(error).__name__}: {error}); restore a "
            "backup, or search with another database (--database), which measures anew"
        ) from error


def device_of(connection: Connection, table_id: int) -> int:
    """The id of the device that a table was measured on."""
    device_id: int = _require_table(connection, table_id)["device_id"]
    return device_id


def list_devices(connection: Connection) -> list[dict[str, Any]]:
    """One row per device: what it is, its finished tables, the different blocks measured, the newest table's date."""
    facts = ("name", "processor", "threads", "provider", "graph_optimization", "runtime_version")
    shown = tuple(devices.c[name] for name in facts)
    query = (
        select(
            *shown,
            func.count(distinct(latency_tables.c.id)).label("tables"),
            func.count(distinct(latency_entries.c.key)).label("blocks"),
            func.max(latency_tables.c.finished_at).label("newest_table"),
        )
        .select_from(devices)
        .outerjoin(
            latency_tables,
            (latency_tables.c.device_id == devices.c.id) & latency_tables.c.finished_at.is_not(None),
        )
        .outerjoin(latency_entries, latency_entries.c.table_id == latency_tables.c.id)
        .group_by(devices.c.id, *shown)
        .order_by(devices.c.name, devices.c.id)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def device_id(connection: Connection, device: Device) -> int:
    """The id of a device, which is recorded where it is new."""
    row = {**asdict(device), "fingerprint": device.fingerprint}
    connection.execute(insert_new(connection, devices, "name", "fingerprint").values(row))
    this = (devices.c.name == device.name) & (devices.c.fingerprint == device.fingerprint)
    found: int = connection.execute(select(devices.c.id).where(this)).scalar_one()
    return found


def _require_table(connection: Connection, table_id: int) -> RowMapping:
    row = connection.execute(select(latency_tables).where(latency_tables.c.id == table_id)).mappings().one_or_none()
    if row is None:
        raise StoreError(f"there is no latency table with id {table_id}; see `mobilenas devices`")
    return row


def _entry_to_row(
    table_id: int, key: BlockKey, entry: Measurement, reason: Reason, measured_at: datetime
) -> dict[str, Any]:
    # Where one thread does not do all the work, CPU samples are those of the wall clock.
    low_ms, high_ms = entry.interval("warm", "cpu")
    return {
        "table_id": table_id,
        "key": str(key),
        "samples": asdict(entry),
        "cold_wall_ms": entry.estimate("cold", "wall"),
        "cold_cpu_ms": entry.estimate("cold", "cpu"),
        "warm_wall_ms": entry.estimate("warm", "wall"),
        "warm_cpu_ms": entry.estimate("warm", "cpu"),
        "reason": reason,
        "measured_at": measured_at,
        "low_ms": low_ms,
        "high_ms": high_ms,
        "spread": max(0.0, entry.spread("warm", "cpu")),
    }
