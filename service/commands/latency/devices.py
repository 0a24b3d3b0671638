"""The commands of `mobilenas device`."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from latency.device import GraphOptimization
from latency.meter import DeviceSettings
from search.record.store import Store
from search.tables import REACH, reach_in_words
from service.terminal.console import say
from service.terminal.rows import Format, show
from space.errors import InvalidConfig, StoreError


def add(
    database: str,
    name: str,
    address: str,
    threads: int,
    provider: str,
    optimization: GraphOptimization,
    cpus: str | None,
    python: str,
    *,
    replace: bool,
) -> None:
    """The command `add`."""
    assert optimization in get_args(GraphOptimization)
    if python.startswith("-") or not python.isprintable():
        raise InvalidConfig(f"--python {python!r} is not a program; give a name or path such as python3")
    settings = DeviceSettings(
        name=name,
        address=address,
        python=python,
        cpus=cpus,
        provider=provider,
        threads=threads,
        graph_optimization=optimization,
    )
    with closing(Store.open(database)) as store:
        store.devices.add(settings, replace=replace)
    say(f"device '{name}' is added: {_how(settings)}")
    if settings.is_kit:
        say(f"measure it with: mobilenas latency bundle --device {name} --space …")
    else:
        say(f"measure it with: mobilenas latency collect --device {name} --space …")


def _how(settings: DeviceSettings) -> str:
    cores = f", cores {settings.cpus}" if settings.cpus else ""
    return (
        f"{settings.address}, {settings.provider}, {settings.threads} thread(s), optimisation "
        f"{settings.graph_optimization}{cores}"
    )


_TYPES: dict[str, type] = {
    "name": str,
    "address": str,
    "processor": str,
    "provider": str,
    "threads": int,
    "graph_optimization": str,
    "runtime_version": str,
    "tables": int,
    "blocks": int,
    "newest_table": str,
}


def list_devices(database: str, form: Format, out: Path | None) -> None:
    """The command `list`: a row per device and fingerprint, and per device that was added and not measured yet."""
    with closing(Store.open(database)) as store:
        added = {settings.name: settings for settings in store.devices.all_settings()}
        measured = store.tables.device_rows()
    rows: list[dict[str, Any]] = []
    for row in measured:
        known = added.get(row["name"])
        newest = row["newest_table"]
        rows.append(
            {
                **{name: row.get(name) for name in _TYPES},
                "address": known.address if known else None,
                "newest_table": f"{newest:%Y-%m-%d %H:%M}" if newest else None,
            }
        )
    names = {row["name"] for row in rows}
    for settings in added.values():
        if settings.name not in names:
            facts = {name: value for name, value in asdict(settings).items() if name in _TYPES}
            rows.append({**dict.fromkeys(_TYPES), **facts, "tables": 0, "blocks": 0})
    shown = (
        "name",
        "address",
        "processor",
        "threads",
        "graph_optimization",
        "runtime_version",
        "tables",
        "newest_table",
    )
    show("devices", rows, form, shown=shown, types=_TYPES, out=out)


def show_device(database: str, name: str, form: Literal["table", "json"]) -> None:
    """The command `show`."""
    with closing(Store.open(database)) as store:
        settings = store.devices.settings(name)
        tables = store.tables.rows(name)
        validations = {row["id"]: store.devices.validations(row["id"]) for row in tables}
    if settings is None and not tables:
        raise StoreError(f"there is no device named '{name}'; see: mobilenas device list")
    settings = settings or DeviceSettings(name=name)
    for row in tables:
        row["validations"] = [
            {"id": each.id, "measured_at": each.measured_at.isoformat(), **each.validation.to_plain()}
            for each in validations[row["id"]]
        ]
    if form == "json":
        print(json.dumps({**asdict(settings), "tables": tables}, indent=2, default=str))  # noqa: T201 - for a program
        return
    say(f"{name}: {_how(settings)}")
    for row in tables:
        fit = row["calibration"] or {}
        error = f", mean error {fit['error']:.1%} (cross-validated)" if fit.get("error") is not None else ""
        date = f"{row['finished_at']:%Y-%m-%d %H:%M}"
        say(f"table {row['id']} of {date}: {row['blocks']:,} blocks{error}; {row['protocol']}")
        conditions = dict(row["conditions"])
        reach = conditions.pop(REACH, None)
        told = ", ".join(f"{key} {_short(value)}" for key, value in conditions.items() if key != "unsettled")
        say(f"  {told}")
        if reach is not None:
            say(f"  {reach_in_words(reach)}")
        for each in row["validations"]:
            wall = each["wall"]
            say(
                f"  validation {each['id']}{' under load' if each['under_load'] else ''}: {wall['networks']} networks, "
                f"mean error {wall['mape']:.1%}, {wall['within_5']:.0%} within 5%, tau {_short(wall['kendall_tau'])}"
            )


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
