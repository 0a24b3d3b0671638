"""Exports for whoever sees the artefacts of a cluster, but not the machine of its coordinator."""

from collections.abc import Callable
from pathlib import Path

from search.depot import VARIABLE, depot
from search.record import ExportRecord
from space.errors import RunError


def deliver(search: str, export: ExportRecord, report: Path, note: Callable[[str], None]) -> None:
    """Copy what a search found to where the nodes of a cluster keep artefacts, if there is such a place.

    That it cannot be reached is told, and no more: everything is in the run folder.
    """
    if (place := depot()) is None:
        return
    try:
        for path in (*(export.folder / name for name in export.files), report):
            place.put(f"exports/{search}/{path.name}", path.read_bytes())
    except (RunError, OSError) as error:
        note(f"warning: {error}; everything is in {export.folder}")
    else:
        note(f"exports are copied to exports/{search} of {VARIABLE}")
