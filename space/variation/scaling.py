"""The width multiplier (Howard et al. 2017, MobileNets, section 3.3): what everybody does to make a network faster."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from space.arch import Architecture
from space.choices import SearchSpace

STEP = 0.01
# There are no spaces below the first of these widths, nor above the other.
_LEAST, _MOST = 0.05, 4.0


def scaled_references(space: SearchSpace, step: float = STEP) -> dict[float, Architecture]:
    """A space's reference at all smaller width multipliers in steps, by width, the widest first, each once.

    Widths that round to the same channels are one network, which has the largest of them.
    """
    below = range(math.ceil(round(space.width / step, 6)) - 1, round(_LEAST / step) - 1, -1)
    scaled = _each_once(space, (round(steps * step, 2) for steps in below), {space.reference: space.width})
    return {width: arch for width, arch in scaled.items() if width < space.width}


def widened_references(space: SearchSpace, widest: float, step: float = STEP) -> dict[float, Architecture]:
    """The same at all larger widths up to one, the widest first."""
    above = range(round(min(widest, _MOST) / step), math.floor(round(space.width / step, 6)), -1)
    scaled = _each_once(space, (round(steps * step, 2) for steps in above), {})
    return {width: arch for width, arch in scaled.items() if arch != space.reference}


def _each_once(
    space: SearchSpace, widths: Iterable[float], known: Mapping[Architecture, float]
) -> dict[float, Architecture]:
    found = dict(known)
    for width in widths:
        found.setdefault(replace(space, width=width).reference, width)
    return {width: arch for arch, width in found.items()}
