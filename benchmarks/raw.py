"""Raw figures of a benchmark, one row per seed or repeat, beside its report: with version, commit, machine and date."""

import csv
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import mobilenas
from latency.probe import processor_name


class Raw:
    """Rows of one run of a benchmark; columns are those of all rows, in the order of their first use."""

    def __init__(self, benchmark: str) -> None:
        self._common = {
            "benchmark": benchmark,
            "version": mobilenas.__version__,
            "commit": commit(),
            "machine": processor_name(),
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
        }
        self._rows: list[dict[str, object]] = []

    def add(self, **values: object) -> None:
        """One more row."""
        self._rows.append({**self._common, **values})

    def write(self, path: Path | None) -> None:
        """Move the rows to the end of a CSV file, which is made where it is not there; without a path do nothing."""
        if path is None:
            return
        before = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
        rows = [*before, *self._rows]
        columns = dict.fromkeys(name for row in rows for name in row)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        self._rows.clear()


def commit() -> str:
    """The checkout's commit, with a plus behind it where its programs were changed."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{'+' if changed else ''}"
