"""Whole pages: about one search, or about several compared; and the one that a search leaves in its run folder."""

from collections.abc import Callable, Sequence

from search.record.store import Store
from service.report import search
from service.report.comparing import page as comparison
from service.report.figures import plotly_js
from service.report.latency import published_section
from service.report.page import Section, page, section
from service.report.subject import Subject
from trainer.training.weight_files import write_whole


def render(subjects: Sequence[Subject], target_ms: float | None = None) -> str:
    """The page about one search, or about several of them compared; equal records make equal pages."""
    histories = [each.history for each in subjects]
    parts: list[Section] = []
    if len(subjects) > 1:
        parts += comparison.sections(histories, target_ms)
        for each in subjects:
            parts.append(section(f"{each.prefix}about", each.history.name, search.lead(each)))
            parts += search.sections(each)
    else:
        parts += search.sections(subjects[0])
    parts.append(published_section())
    title = " · ".join(history.name for history in histories)
    lead = search.lead(subjects[0]) if len(subjects) == 1 else comparison.lead(histories)
    return page(title, lead, parts, plotly_js())


def write_page(store: Store, name: str, note: Callable[[str], None]) -> None:
    """report.html beside the other reports of a search, unless its configuration leaves it out.

    That it cannot be made or written is told, and no more: the search is done, and the record has all that it is from.
    """
    record = store.searches.get(name)
    if record.config.get("html") is False:
        return
    try:
        write_whole(record.require_start().files.page, render([Subject.read(store, name)]).encode())
    except Exception as error:  # noqa: BLE001 - no fault of a page may fail what it is about
        reason = error.strerror if isinstance(error, OSError) else repr(error)
        note(f"warning: report.html was not written: {reason}; later: mobilenas report {name}")
