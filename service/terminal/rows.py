"""Rows for people and programs: a table, CSV, JSON or Parquet, on stdout or in a file."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from rich.markup import escape
from rich.table import Table

from service.terminal.console import console
from space.errors import RunError

Format = Literal["table", "csv", "json", "parquet"]
Row = Mapping[str, Any]


def show(
    title: str,
    rows: Sequence[Row],
    form: Format,
    *,
    shown: Iterable[str],
    types: Mapping[str, type],
    out: Path | None = None,
) -> None:
    """Print rows, or write them into `out`: of a table the `shown` columns, else all that `types` names.

    Raises:
        RunError: the file cannot be written, or Parquet would go to a terminal or cannot be written here.
    """
    if form == "table" and out is None:
        console.print(_table(title, rows, shown) if rows else f"no {title}")
        return
    if form == "table":
        raise RunError(f"--format table cannot be written to {out}; choose csv, json or parquet")
    content = _CONTENT[form](rows, types)
    if out is not None:
        try:
            out.write_bytes(content)
        except OSError as error:
            raise RunError(f"{out} cannot be written: {error.strerror}; choose another --out") from error
        return
    if form == "parquet" and sys.stdout.isatty():
        raise RunError("Parquet cannot be shown on a terminal; name a file with --out, or pipe it")
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def scientific(count: int) -> str:
    """A positive integer of any size in a few digits: sizes of search spaces exceed what a float holds."""
    digits = str(count)
    return digits if len(digits) < 7 else f"{digits[0]}.{digits[1:3]}e+{len(digits) - 1}"


def _table(title: str, rows: Sequence[Row], columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    names = list(columns)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in names))
    return table


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))


def _csv(rows: Sequence[Row], types: Mapping[str, type]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(types), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _json(rows: Sequence[Row], _types: Mapping[str, type]) -> bytes:
    return f"{json.dumps(rows, default=str, indent=2, ensure_ascii=False)}\n".encode()


def _parquet(rows: Sequence[Row], types: Mapping[str, type]) -> bytes:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise RunError("Parquet needs a package; run: pip install 'mobilenas[parquet]'") from error
    # Declared, not guessed from the rows: a column without values has its type too, so that files fit together.
    kinds = {
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
        str: pyarrow.string(),
        datetime: pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in types.items()])
    content = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema), content)
    return content.getvalue()


_CONTENT = {"csv": _csv, "json": _json, "parquet": _parquet}
