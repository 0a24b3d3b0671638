"""Commands that ask the record: trials, searches, devices, status."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.record import SearchRecord
from search.store import Store
from search.trial import Stage, State

Format = Literal["table", "csv", "json"]

console = Console()


def print_rows(title: str, rows: Sequence[dict[str, Any]], form: Format, columns: Sequence[str]) -> None:
    """Rows as a table of the given columns for people, or whole as CSV or JSON for programs."""
    if form == "json":
        sys.stdout.write(json.dumps(rows, default=str, indent=2) + "\n")
        return
    if form == "csv":
        text = io.StringIO()
        if rows:
            writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        sys.stdout.write(text.getvalue())
        return
    if not rows:
        console.print(f"no {title}")
        return
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))


# What a person reads in a table of 80 columns; csv and json have everything.
_TRIAL_COLUMNS = ("number", "stage", "state", "origin", "top1", "latency_ms", "reward")
_SEARCH_COLUMNS = ("name", "stage", "data", "device", "target_ms", "created")
_DEVICE_COLUMNS = ("name", "processor", "threads", "runtime_version", "tables", "blocks")


def trials(database: str, search: str | None, sort: str, form: Format) -> None:
    """The command `trials`."""
    store = Store.open(database)
    try:
        if search is not None:
            store.search(search)
        rows = store.summary_rows(search, sort)
    finally:
        store.close()
    columns = _TRIAL_COLUMNS if search is not None else ("search", *_TRIAL_COLUMNS)
    print_rows("trials", rows, form, columns)


def searches(database: str, form: Format) -> None:
    """The command `searches`."""
    store = Store.open(database)
    try:
        rows = [_search_row(record) for record in store.searches()]
    finally:
        store.close()
    print_rows("searches", rows, form, _SEARCH_COLUMNS)


def _search_row(record: SearchRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "stage": record.stage.value,
        "data": record.config["data"]["source"],
        "device": record.config["device"]["name"],
        "target_ms": record.target_ms,
        "reference_ms": record.reference_ms,
        "created": f"{record.created_at:%Y-%m-%d %H:%M}",
        "run_folder": str(record.run_folder),
        "error": record.error,
    }


def devices(database: str, form: Format) -> None:
    """The command `devices`."""
    store = Store.open(database)
    try:
        rows = store.devices()
    finally:
        store.close()
    print_rows("devices", rows, form, _DEVICE_COLUMNS)


def _is_running(record: SearchRecord) -> bool:
    if not record.run_folder.is_dir():
        return False
    try:
        with FileLock(record.run_folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def status(database: str, name: str) -> None:
    """The command `status`: where a search stands, and what to do next."""
    store = Store.open(database)
    try:
        record = store.search(name)
        all_trials, rewards, steps = store.trials(record.id), store.rewards(record.id), store.steps(record.id)
    finally:
        store.close()
    running = _is_running(record)
    lines = [
        f"search    {record.name}",
        f"started   {record.created_at:%Y-%m-%d %H:%M:%S} UTC, last change {record.updated_at:%Y-%m-%d %H:%M:%S}",
        f"stage     {record.stage.value}{', a process is running it' if running else ''}",
        f"target    {record.target_ms:.3f} ms; the reference takes {record.reference_ms:.3f} ms, the space reaches "
        f"{record.fastest_ms:.3f} to {record.slowest_ms:.3f} ms",
    ]
    for stage in (Stage.BLOCKS, Stage.NETADAPT, Stage.FINAL):
        of_stage = [trial for trial in all_trials if trial.stage is stage]
        counts = {state: sum(trial.state is state for trial in of_stage) for state in State}
        told = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
        lines.append(f"{stage.value:<9} {told or 'not begun'}")
    if rewards:
        best = max(rewards, key=lambda number: rewards[number])
        trial = next(trial for trial in all_trials if trial.number == best)
        lines.append(
            f"best      trial {best}: top-1 {trial.scores.top1:.2%}, {trial.scores.latency_ms:.3f} ms, "
            f"reward {rewards[best]:.4f}"
        )
    if steps:
        lines.append(f"walk      {len(steps)} steps, now {steps[-1].latency_after_ms:.3f} ms")
    if record.error:
        lines.append(f"error     {record.error}")
    if record.stage is Stage.DONE:
        lines.append(f"report    {record.run_folder / 'report.md'}")
    elif not running:
        lines.append(f"next      mobilenas resume {name}, or mobilenas finish {name}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
