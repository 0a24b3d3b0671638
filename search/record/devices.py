"""How devices are reached, and how well their tables predicted; each function works inside the given transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, insert, select

from latency.meter import DeviceSettings
from latency.validate import Validated, Validation
from search.record.schema import device_settings, validated_networks, validations
from space.arch import Architecture
from space.errors import StoreError

_SETTINGS = [field.name for field in fields(DeviceSettings)]


def add_settings(connection: Connection, settings: DeviceSettings, now: datetime, *, replace: bool) -> None:
    """Record how a device is reached; the same of the same moment changes nothing.

    Raises:
        StoreError: the name is taken.
    """
    mine = device_settings.c.name == settings.name
    known = connection.scalar(select(device_settings.c.created_at).where(mine))
    if known == now:
        return
    if known is not None and not replace:
        raise StoreError(f"a device named '{settings.name}' was added before; change it with --replace")
    connection.execute(delete(device_settings).where(mine))
    connection.execute(insert(device_settings).values(**asdict(settings), created_at=now))


def _settings(row: RowMapping) -> DeviceSettings:
    return DeviceSettings(**{name: row[name] for name in _SETTINGS})


def find_settings(connection: Connection, name: str) -> DeviceSettings | None:
    """How a device is reached, if it was added."""
    row = connection.execute(select(device_settings).where(device_settings.c.name == name)).mappings().one_or_none()
    return None if row is None else _settings(row)


def list_settings(connection: Connection) -> list[DeviceSettings]:
    """All devices that were added, by name."""
    rows = connection.execute(select(device_settings).order_by(device_settings.c.name)).mappings()
    return [_settings(row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedValidation:
    """A validation as the record has it."""

    id: int
    table_id: int
    measured_at: datetime
    validation: Validation


def add_validation(
    connection: Connection, table_id: int, validation: Validation, conditions: Mapping[str, Any], now: datetime
) -> int:
    """Insert a validation with its networks, and return its id; the same one of the same moment changes nothing."""
    this = (validations.c.table_id == table_id) & (validations.c.measured_at == now)
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
    found: int = connection.execute(insert(validations).values(row).returning(validations.c.id)).scalar_one()
    rows = [_to_row(found, network) for network in validation.networks]
    if rows:
        connection.execute(insert(validated_networks), rows)
    return found


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


def list_validations(connection: Connection, table_ids: Sequence[int]) -> list[RecordedValidation]:
    """The validations of some tables, oldest first."""
    heads = connection.execute(
        select(validations).where(validations.c.table_id.in_(table_ids)).order_by(validations.c.id)
    ).mappings()
    found = []
    for head in list(heads):
        rows = connection.execute(
            select(validated_networks)
            .where(validated_networks.c.validation_id == head["id"])
            .order_by(validated_networks.c.id)
        ).mappings()
        networks = tuple(
            Validated(
                group=row["network_group"],
                architecture=Architecture.from_json(row["architecture"]),
                predicted_wall_ms=row["predicted_ms"],
                measured_wall_ms=row["measured_ms"],
                predicted_cpu_ms=row["predicted_cpu_ms"],
                measured_cpu_ms=row["measured_cpu_ms"],
            )
            for row in rows
        )
        validation = Validation(
            networks=networks,
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
