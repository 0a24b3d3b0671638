"""The part of the record that is about devices: how they are reached, what was measured on them, how it was proven."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from latency.device import Device
from latency.measurement import Measurement
from latency.meter import DeviceSettings
from latency.table import LatencyTable
from latency.validate import Validation
from search.record import devices, tables
from search.record.database import Database
from search.record.devices import RecordedValidation
from search.record.retry import patiently
from search.record.tables import Reason
from space.keys import BlockKey


class TableStore:
    """Devices, their latency tables and validations; every method is one transaction and may raise StoreError.

    Threads may share a store; processes open one each. Where the database is away, a method tries again for
    `patience_s` seconds.
    """

    def __init__(self, url: str) -> None:
        self.patience_s = 0.0
        self._database = Database(url)

    @classmethod
    def open(cls, url: str, patience_s: float = 0.0) -> Self:
        """A store on a database of the current schema, which is waited for if it is away.

        Raises:
            StoreError: the database cannot be opened, is none, or was written by a newer mobilenas.
        """
        store = cls(url)
        store.patience_s = patience_s
        try:
            store.upgrade()
        except BaseException:
            store.close()
            raise
        return store

    @property
    def shown_url(self) -> str:
        """The database's URL with its password hidden."""
        return self._database.shown_url

    @patiently
    def upgrade(self) -> None:
        """Bring the database to the current schema.

        Raises:
            StoreError: the database cannot be opened, is none, or was written by a newer mobilenas.
        """
        self._database.upgrade()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def record_table(
        self,
        table: LatencyTable,
        *,
        conditions: Mapping[str, Any],
        protocol: str,
        reasons: Mapping[BlockKey, Reason] | None = None,
    ) -> int:
        """Record a finished table with its device, and return its id; blocks without a reason belong to the space."""
        return self._record_table(table, conditions, protocol, reasons or {}, datetime.now(UTC))

    @patiently
    def _record_table(
        self,
        table: LatencyTable,
        conditions: Mapping[str, Any],
        protocol: str,
        reasons: Mapping[BlockKey, Reason],
        now: datetime,
    ) -> int:
        with self._database.write() as connection:
            return tables.record_table(
                connection, table, conditions=conditions, protocol=protocol, reasons=reasons, now=now
            )

    @patiently
    def add_entries(self, table_id: int, entries: Mapping[BlockKey, Measurement], *, reason: Reason) -> None:
        """Add measured blocks to a table; blocks that it holds already keep their first measurement."""
        with self._database.write() as connection:
            tables.add_entries(connection, table_id, entries, reason=reason)

    @patiently
    def find_table(self, device: Device, scope: str) -> tuple[int, LatencyTable] | None:
        """The newest finished table of exactly this device (name and fingerprint) and scope, with its id."""
        with self._database.read() as connection:
            return tables.find_table(connection, device, scope)

    @patiently
    def load_table(self, table_id: int) -> LatencyTable:
        """A table with all its entries.

        Raises:
            StoreError: there is no such table.
        """
        with self._database.read() as connection:
            return tables.load_table(connection, table_id)

    @patiently
    def newest_table(self, name: str, scope: str) -> tuple[int, LatencyTable] | None:
        """The newest finished table of a scope from any device of this name, with its id."""
        with self._database.read() as connection:
            return tables.newest_table(connection, name, scope)

    @patiently
    def tables_of(self, device: Device) -> list[tuple[int, LatencyTable]]:
        """All finished tables of exactly this device, newest first."""
        with self._database.read() as connection:
            return tables.tables_of(connection, device)

    @patiently
    def newest_device(self, name: str) -> Device | None:
        """The device of this name whose table is the newest."""
        with self._database.read() as connection:
            return tables.newest_device(connection, name)

    @patiently
    def table_rows(self, name: str | None = None) -> list[dict[str, Any]]:
        """Per finished table, newest first: id, device, scope, conditions, protocol, blocks, finished_at."""
        with self._database.read() as connection:
            return tables.table_rows(connection, name)

    def add_device(self, settings: DeviceSettings, *, replace: bool = False) -> None:
        """Record how a device is reached and used.

        Raises:
            StoreError: the name is taken, unless `replace`.
        """
        self._add_device(settings, datetime.now(UTC), replace=replace)

    @patiently
    def _add_device(self, settings: DeviceSettings, now: datetime, *, replace: bool) -> None:
        with self._database.write() as connection:
            devices.add_settings(connection, settings, now, replace=replace)

    @patiently
    def device_settings(self, name: str) -> DeviceSettings | None:
        """How the device of this name is reached and used, if it was added."""
        with self._database.read() as connection:
            return devices.find_settings(connection, name)

    @patiently
    def all_device_settings(self) -> list[DeviceSettings]:
        """All devices that were added, by name."""
        with self._database.read() as connection:
            return devices.list_settings(connection)

    def add_validation(self, table_id: int, validation: Validation, conditions: Mapping[str, Any]) -> int:
        """Record a validation of a table with its networks, and return its id."""
        return self._add_validation(table_id, validation, conditions, datetime.now(UTC))

    @patiently
    def _add_validation(
        self, table_id: int, validation: Validation, conditions: Mapping[str, Any], now: datetime
    ) -> int:
        with self._database.write() as connection:
            return devices.add_validation(connection, table_id, validation, conditions, now)

    @patiently
    def validations(self, table_id: int) -> list[RecordedValidation]:
        """The validations of a table, oldest first."""
        with self._database.read() as connection:
            return devices.list_validations(connection, (table_id,))

    @patiently
    def devices(self) -> list[dict[str, Any]]:
        """Per device and fingerprint: its facts, tables, blocks, newest_table (a date)."""
        with self._database.read() as connection:
            return tables.list_devices(connection)
