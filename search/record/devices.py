"""How devices are reached, and how well their tables predicted, in SQL."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select

from latency.analysis.validate import Validated, Validation
from latency.meter import DeviceSettings
from search.record.schema import device_settings, validated_networks, validations
from search.record.transactions import Transactions
from space.arch import Architecture
from space.errors import StoreError

_SETTINGS = [field.name for field in fields(DeviceSettings)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedValidation:
    """A validation as the record has it."""

    id: int
    table_id: int
    measured_at: datetime
    validation: Validation


class Devices:
    """The devices of a record that were added by hand, and the validations of all tables."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(self, settings: DeviceSettings, *, replace: bool = False) -> None:
        """Record how a device is reached and used.

        Raises:
            StoreError: the name is taken, unless `replace`.
        """
        now = datetime.now(UTC)
        mine = device_settings.c.name == settings.name

        def add(connection: Connection) -> None:
            known = connection.scalar(select(device_settings.c.created_at).where(mine))
            if known == now:
                return  # recorded already, but the answer was lost
            if known is not None and not replace:
                raise StoreError(f"a device named '{settings.name}' was added before; change it with --replace")
            connection.execute(delete(device_settings).where(mine))
            connection.execute(insert(device_settings).values(**asdict(settings), created_at=now))

        self._transactions.write(add)

    def settings(self, name: str) -> DeviceSettings | None:
        """How the device of this name is reached and used, if it was added."""
        found = self._transactions.rows(select(device_settings).where(device_settings.c.name == name), _settings)
        return found[0] if found else None

    def all_settings(self) -> list[DeviceSettings]:
        """All devices that were added, by name."""
        return self._transactions.rows(select(device_settings).order_by(device_settings.c.name), _settings)

    def add_validation(self, table_id: int, validation: Validation, conditions: Mapping[str, Any]) -> int:
        """Record a validation of a table with its networks, and return its id."""
        now = datetime.now(UTC)
        this = (validations.c.table_id == table_id) & (validations.c.measured_at == now)

        def add(connection: Connection) -> int:
            known: int | None = connection.scalar(select(validations.c.id).where(this))
            if known is not None:
                return known
            row = {
                "table_id": table_id,
                "under_load": validation.under_load,
                "drift_wall": validation.drift_wall,
                "drift_cpu": validation.drift_cpu,
                "conditions": dict(conditions),
                "measured_at": now,
            }
            inserted = insert(validations).values(row).returning(validations.c.id)
            found: int = connection.execute(inserted).scalar_one()
            if rows := [_to_row(found, network) for network in validation.networks]:
                connection.execute(insert(validated_networks), rows)
            return found

        return self._transactions.write(add)

    def validations(self, table_id: int) -> list[RecordedValidation]:
        """The validations of a table, oldest first."""
        of_table = select(validations).where(validations.c.table_id == table_id).order_by(validations.c.id)
        networks = select(validated_networks).order_by(validated_networks.c.id)

        def read(connection: Connection) -> list[RecordedValidation]:
            found = []
            for head in connection.execute(of_table).mappings().all():
                rows = connection.execute(networks.where(validated_networks.c.validation_id == head["id"])).mappings()
                validation = Validation(
                    networks=tuple(map(_validated, rows)),
                    under_load=head["under_load"],
                    drift_wall=head["drift_wall"],
                    drift_cpu=head["drift_cpu"],
                )
                found.append(
                    RecordedValidation(
                        id=head["id"], table_id=head["table_id"], measured_at=head["measured_at"], validation=validation
                    )
                )
            return found

        return self._transactions.read(read)


def _settings(row: RowMapping) -> DeviceSettings:
    return DeviceSettings(**{name: row[name] for name in _SETTINGS})


def _to_row(validation_id: int, network: Validated) -> dict[str, Any]:
    return {
        "validation_id": validation_id,
        "network_group": network.group,
        "arch_id": network.architecture.arch_id,
        "architecture": network.architecture.to_json(),
        "madds": network.madds,
        "predicted_ms": network.predicted_wall_ms,
        "measured_ms": network.measured_wall_ms,
        "predicted_cpu_ms": network.predicted_cpu_ms,
        "measured_cpu_ms": network.measured_cpu_ms,
    }


def _validated(row: RowMapping) -> Validated:
    return Validated(
        group=row["network_group"],
        architecture=Architecture.from_json(row["architecture"]),
        predicted_wall_ms=row["predicted_ms"],
        measured_wall_ms=row["measured_ms"],
        predicted_cpu_ms=row["predicted_cpu_ms"],
        measured_cpu_ms=row["measured_cpu_ms"],
    )
