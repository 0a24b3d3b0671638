"""Whole pages: about one search, or about several compared; and the one that a search leaves in its run folder."""

from collections.abc import Callable, Sequence

from search.record.store import Store
from service.report import search
from service.report.comparing import page as comparison
from service.report.figures import plotly_js
from service.report.latency import published_section
from service.report.page import Section, page, section
from service.report.subject import Subject


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

    That it cannot be written is told, and no more: the record has all that it is made from.
    """
    subject = Subject.read(store, name)
    if subject.history.setting("html") is False:
        return
    path = subject.history.record.require_start().files.page
    try:
        path.write_text(render([subject]), encoding="utf-8")
    except OSError as error:
        note(f"warning: {path} cannot be written: {error.strerror}; later: mobilenas report {name}")
