"""Devices and their latency tables in SQL."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, distinct, func, insert, select

from latency.device import Device
from latency.measurement import Measurement
from latency.table import LatencyTable, calibrations_from_plain, calibrations_to_plain, read_measurement
from search.record.database import insert_new
from search.record.schema import devices, latency_entries, latency_tables
from search.record.transactions import Transactions
from space.errors import StoreError
from space.keys import BlockKey, parse_key

Reason = Literal["space", "reference", "netadapt", "enqueued"]

_DEVICE_FIELDS = [field.name for field in fields(Device)]


# The newest first; only finished tables count.
_NEWEST = (
    select(latency_tables.c.id)
    .join(devices)
    .where(latency_tables.c.finished_at.is_not(None))
    .order_by(latency_tables.c.finished_at.desc(), latency_tables.c.id.desc())
)


class Tables:
    """The latency tables of a record."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(
        self,
        table: LatencyTable,
        *,
        conditions: Mapping[str, Any],
        protocol: str,
        reasons: Mapping[BlockKey, Reason] | None = None,
    ) -> int:
        """Record a finished table with its device, and return its id; blocks without a reason belong to the space."""
        now = datetime.now(UTC)

        def add(connection: Connection) -> int:
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
            inserted = insert(latency_tables).values(row).returning(latency_tables.c.id)
            table_id: int = connection.execute(inserted).scalar_one()
            why = reasons or {}
            rows = [
                _entry_to_row(table_id, key, each, why.get(key, "space"), now) for key, each in table.entries.items()
            ]
            if rows:
                connection.execute(insert(latency_entries), rows)
            return table_id

        return self._transactions.write(add)

    def add_entries(self, table_id: int, entries: Mapping[BlockKey, Measurement], *, reason: Reason) -> None:
        """Add measured blocks to a table; what it holds already stays: what a search has relied on never changes.

        Raises:
            StoreError: there is no such table.
        """
        now = datetime.now(UTC)
        # In one order for all, so that two searches that add the same blocks do not wait for each other.
        rows = [_entry_to_row(table_id, key, entries[key], reason, now) for key in sorted(entries, key=str)]

        def add(connection: Connection) -> None:
            _require_table(connection, table_id)
            if rows:
                connection.execute(insert_new(connection, latency_entries, "table_id", "key"), rows)

        self._transactions.write(add)

    def find(self, device: Device, scope: str) -> tuple[int, LatencyTable] | None:
        """The newest finished table of exactly this device (name and fingerprint) and scope, with its id."""
        return self._first(_NEWEST.where(*_is(device), latency_tables.c.scope == scope))

    def newest(self, name: str, scope: str) -> tuple[int, LatencyTable] | None:
        """The newest finished table of a scope from any device of this name, with its id."""
        return self._first(_NEWEST.where(devices.c.name == name, latency_tables.c.scope == scope))

    def _first(self, ids: Select[int]) -> tuple[int, LatencyTable] | None:
        def read(connection: Connection) -> tuple[int, LatencyTable] | None:
            table_id = connection.scalar(ids.limit(1))
            return None if table_id is None else (table_id, load_table(connection, table_id))

        return self._transactions.read(read)

    def of(self, device: Device) -> list[tuple[int, LatencyTable]]:
        """All finished tables of exactly this device, newest first, with their ids."""

        def read(connection: Connection) -> list[tuple[int, LatencyTable]]:
            ids = list(connection.scalars(_NEWEST.where(*_is(device))))
            return [(table_id, load_table(connection, table_id)) for table_id in ids]

        return self._transactions.read(read)

    def load(self, table_id: int) -> LatencyTable:
        """A table with all its entries.

        Raises:
            StoreError: there is no such table, or it is damaged.
        """
        return self._transactions.read(lambda connection: load_table(connection, table_id))

    def newest_device(self, name: str) -> Device | None:
        """The device of this name whose table is the newest."""
        query = _NEWEST.with_only_columns(*(devices.c[field] for field in _DEVICE_FIELDS), maintain_column_froms=True)
        found = self._transactions.rows(query.where(devices.c.name == name).limit(1), lambda row: Device(**row))
        return found[0] if found else None

    def rows(self, name: str | None = None) -> list[dict[str, Any]]:
        """Per finished table, newest first: id, device, scope, conditions, protocol, blocks, finished_at."""
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
        return self._transactions.rows(query, dict)

    def device_rows(self) -> list[dict[str, Any]]:
        """Per device: what it is, its finished tables, the different blocks measured, the newest table's date."""
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
        return self._transactions.rows(query, dict)


def _is(device: Device) -> tuple[ColumnElement[bool], ...]:
    return devices.c.name == device.name, devices.c.fingerprint == device.fingerprint


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
            "backup, or use another database (--database), for which blocks are measured again"
        ) from error


def device_of(connection: Connection, table_id: int) -> int:
    """The id of the device that a table was measured on."""
    device_id: int = _require_table(connection, table_id)["device_id"]
    return device_id


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
        raise StoreError(f"there is no latency table with id {table_id}; see: mobilenas devices")
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
