"""Writes the reference part of docs/database.md from the comments of the schema: python tools/database_reference.py."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, Text
from sqlalchemy.types import TypeEngine

from search.record.schema import UtcDateTime, metadata
from search.record.views import VIEWS

PAGE = Path(__file__).parents[1] / "docs" / "database.md"
BEGIN, END = "<!-- reference: written by tools/database_reference.py -->", "<!-- end of reference -->"

GRAINS = {
    "devices": "one row per device and its facts: another ONNX Runtime on the same machine is another row",
    "device_settings": "one row per device that was added by name: how it is reached and used",
    "latency_tables": "one row per measurement of a search space on a device",
    "latency_entries": "one row per measured block of a latency table",
    "validations": "one row per validation of a latency table on networks that it was not fitted on",
    "validated_networks": "one row per network of a validation, predicted and measured",
    "signal_qualities": "one row per signal and group of networks whose ends it was held against",
    "searches": "one row per search",
    "search_targets": "one row per device of a search for one network that serves several; other searches have none",
    "search_labels": "one row per label of a search",
    "log_lines": "one row per line of a search's log",
    "trials": "one row per trial, whatever became of it",
    "trial_latencies": "one row per trial and device of a search for one network that serves several devices",
    "netadapt_steps": "one row per accepted step of a NetAdapt walk",
    "network_measurements": "one row per network that was measured whole on the device",
    "present_models": "one row per search whose user named the model that they have at present",
    "present_measurements": "one row per such model and latency table, for each certificate",
    "exports": "one row per export of a trial's files",
}


def kind(of: TypeEngine[object] | type[TypeEngine[object]]) -> str:
    """A column's type in the words of the page."""
    names: list[tuple[type, str]] = [
        (UtcDateTime, "timestamp"),
        (JSON, "JSON"),
        (Boolean, "boolean"),
        (BigInteger, "bigint"),
        (Integer, "integer"),
        (Double, "double"),
        (Text, "text"),
    ]
    a_class = of if isinstance(of, type) else type(of)
    return next(name for base, name in names if issubclass(a_class, base))


def reference() -> str:
    """Every view, then every table, each with its columns."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "### Views"
    for name, view in VIEWS.items():
        yield from _head(name, view.grain)
        for column, column_type, meaning in view.columns:
            yield f"| `{column}` | {kind(column_type)} | {_cell(meaning)} |"
    yield "\n### Tables"
    for table in metadata.tables.values():
        yield from _head(table.name, GRAINS[table.name])
        for each in table.columns:
            refers = "".join(
                f"`{key.target_fullname}`" for key in each.foreign_keys if len(key.constraint.columns) == 1
            )
            meaning = each.comment or (f"id of {refers}" if refers else "number that other tables refer to")
            yield f"| `{each.name}` | {kind(each.type)}{', may be NULL' if each.nullable else ''} | {_cell(meaning)} |"


def _head(name: str, grain: str) -> Iterator[str]:
    yield f"\n#### `{name}`\n\n{grain[0].upper()}{grain[1:]}.\n"
    yield "| column | type | meaning |\n|---|---|---|"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def written(page: str) -> str:
    """The page with its reference part written anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
