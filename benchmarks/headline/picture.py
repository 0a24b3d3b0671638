"""One picture: accuracy over latency, as an SVG file that a page of text can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from statistics import mean

WIDTH, HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 16, 48
_CURVE, _FOUND, _OTHER, _INK = "#7a828e", "#0b6bcb", "#b35900", "#57606a"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A network: its latency, its top-1 of each training, and what stands beside it."""

    x: float
    y: tuple[float, ...]
    label: str


@dataclass(frozen=True)
class _Axis:
    """From values to pixels, with a step between marks."""

    low: float
    high: float
    step: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        rough = (max(values) - min(values) or 1.0) / 5
        power = 10.0 ** floor(log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        return cls(floor(min(values) / step) * step, ceil(max(values) / step) * step, step, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def marks(self) -> list[float]:
        return [self.low + index * self.step for index in range(round((self.high - self.low) / self.step) + 1)]


def drawn(
    *,
    curve: Sequence[Point],
    found: Sequence[Point],
    others: Sequence[Point],
    titles: tuple[str, str],
    names: tuple[str, str, str],
) -> str:
    """The SVG: a line through the curve's points, the others beside it; each point a mean with all that it is of."""
    every = [*curve, *found, *others]
    x = _Axis.over([point.x for point in every], _LEFT, WIDTH - _RIGHT)
    y = _Axis.over([value for point in every for value in point.y], HEIGHT - _BOTTOM, _TOP)
    line = " ".join(f"{x(point.x):.1f},{y(mean(point.y)):.1f}" for point in curve)
    rows = [(names[0], _CURVE), (names[1], _FOUND), *([(names[2], _OTHER)] if others else [])]
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        *_axes(x, y, titles),
        f'<polyline points="{line}" fill="none" stroke="{_CURVE}" stroke-width="2"/>',
        *(part for point in curve for part in _marked(point, x, y, _CURVE)),
        *(part for point in others for part in _marked(point, x, y, _OTHER)),
        *(part for point in found for part in _marked(point, x, y, _FOUND)),
        *(part for index, row in enumerate(rows) for part in _explained(index, *row)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _explained(index: int, name: str, colour: str) -> list[str]:
    at, height = WIDTH - 240, HEIGHT - _BOTTOM - 60 + 18 * index
    return [f'<circle cx="{at}" cy="{height}" r="5" fill="{colour}"/>', _text(at + 12, height + 5, name)]


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{_INK}" {more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#e6e8eb"/>'


def _axes(x: _Axis, y: _Axis, titles: tuple[str, str]) -> list[str]:
    x_digits, y_digits = (max(0, -floor(log10(axis.step))) for axis in (x, y))
    middle, below = (_TOP + HEIGHT - _BOTTOM) / 2, HEIGHT - _BOTTOM
    centred, right = 'text-anchor="middle"', 'text-anchor="end"'
    return [
        *(_line(x(mark), _TOP, x(mark), below) for mark in x.marks),
        *(_line(_LEFT, y(mark), WIDTH - _RIGHT, y(mark)) for mark in y.marks),
        *(_text(x(mark), below + 18, f"{mark:.{x_digits}f}", centred) for mark in x.marks),
        *(_text(_LEFT - 8, y(mark) + 4, f"{mark:.{y_digits}f}", right) for mark in y.marks),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 8, titles[0], centred),
        _text(16, middle, titles[1], f'{centred} transform="rotate(-90 16 {middle})"'),
    ]


def _marked(point: Point, x: _Axis, y: _Axis, colour: str) -> list[str]:
    at, centre = x(point.x), y(mean(point.y))
    return [
        f'<line x1="{at:.1f}" y1="{y(min(point.y)):.1f}" x2="{at:.1f}" y2="{y(max(point.y)):.1f}" stroke="{colour}"/>',
        f'<circle cx="{at:.1f}" cy="{centre:.1f}" r="4.5" fill="{colour}"/>',
        f'<text x="{at + 7:.1f}" y="{centre + 15:.1f}" font-size="11" fill="{colour}">{escape(point.label)}</text>',
    ]
