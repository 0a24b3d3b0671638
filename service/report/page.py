"""Pages of HTML that open offline: what is put in is escaped, unless it was made here."""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = str | Html | int | None


def text(value: Cell) -> Html:
    """A value as HTML; nothing for None."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else html.escape(str(value)))


def joined(parts: Iterable[str]) -> Html:
    """HTML after HTML; what is not HTML is escaped."""
    return Html("".join(text(part) for part in parts))


def tag(name: str, content: Cell | Iterable[str], **attributes: str | None) -> Html:
    """An element; `css` is its class, and an attribute of None is left out."""
    inner = text(content) if isinstance(content, str | int | None) else joined(content)
    given = {"class" if key == "css" else key: value for key, value in attributes.items() if value is not None}
    shown = "".join(f' {key}="{html.escape(value)}"' for key, value in given.items())
    return Html(f"<{name}{shown}>{inner}</{name}>")


def sentence(words: str, css: str | None = None) -> Html:
    """A paragraph."""
    return tag("p", words, css=css)


_NUMBER = re.compile(r"none|[+−-]?[0-9][0-9.,]*( ?%)?( .*)?")


def is_number(value: Cell) -> bool:
    """Whether a cell is set to the right: a number, whatever follows it behind a space, or none."""
    return not value or isinstance(value, int) or (not isinstance(value, Html) and bool(_NUMBER.fullmatch(value)))


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str | None = None,
    best: int | None = None,
    breaks: bool = False,
) -> Html:
    """A table; columns of numbers are set to the right, the row `best` stands out, and text may break anywhere."""
    numeric = [all(is_number(row[column]) for row in rows) for column in range(len(header))]

    def line(name: str, row: Sequence[Cell]) -> list[Html]:
        return [tag(name, cell, css="n" if right else None) for cell, right in zip(row, numeric, strict=True)]

    body = [tag("tr", line("td", row), css="best" if number == best else None) for number, row in enumerate(rows)]
    parts = [
        *([tag("caption", caption)] if caption else []),
        tag("thead", tag("tr", line("th", header))),
        tag("tbody", body),
    ]
    return tag("div", tag("table", parts, css="breaks" if breaks else None), css="scroll")


def facts(pairs: Iterable[tuple[str, Cell]]) -> Html:
    """Names with their values, one a line; those without a value are left out."""
    rows = [tag("tr", [tag("th", name), tag("td", value)]) for name, value in pairs if value not in (None, "")]
    return tag("div", tag("table", tag("tbody", rows), css="facts"), css="scroll")


def figure(drawn: str, caption: str) -> Html:
    """A figure from plotly's JSON, and a sentence that says what it shows."""
    # A script ends at the first "</", wherever it stands; JSON may say "<" in another way.
    data = drawn.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    holder = Html(f'<script type="application/json" class="figure">{data}</script>')
    return tag("figure", [tag("div", "", css="plot"), holder, tag("figcaption", caption)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page; `key` is unique there, and level 3 belongs to the level 2 before it."""

    key: str
    title: str
    body: Html
    level: int = 2


def section(key: str, title: str, *parts: str, level: int = 2) -> Section:
    """A section of these parts."""
    return Section(key=key, title=title, body=joined(parts), level=level)


def page(title: str, lead: Html, sections: Sequence[Section], plotly_js: str) -> str:
    """A whole page with a table of contents; the browser is told to load nothing from anywhere."""
    drawing = _asset("report.js")
    scripts = [plotly_js, drawing]
    # Parallel coordinates compile their shaders' glue at run time, hence unsafe-eval; no other script may run.
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in scripts
    )
    policy = (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            tag("title", title),
            f"<style>{_asset('report.css')}</style>",
            "</head>",
            "<body>",
            tag("header", [tag("h1", title), lead]),
            _contents(sections),
            '<noscript><p class="warn">The figures need JavaScript, which is off; the tables do not.</p></noscript>',
            tag("main", [_rendered(each) for each in sections]),
            *(f"<script>{code}</script>" for code in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def _asset(name: str) -> str:
    return files("service.report").joinpath(name).read_text(encoding="utf-8")


def _rendered(each: Section) -> Html:
    return tag("section", [tag(f"h{each.level}", each.title, id=each.key), each.body])


def _contents(sections: Sequence[Section]) -> Html:
    items: list[Html] = []
    for number, each in enumerate(sections):
        if each.level > 2:
            continue
        below = []
        for following in sections[number + 1 :]:
            if following.level == 2:
                break
            below.append(tag("li", tag("a", following.title, href=f"#{following.key}")))
        items.append(tag("li", [tag("a", each.title, href=f"#{each.key}"), tag("ul", below) if below else Html("")]))
    return tag("nav", tag("ul", items))
