"""The width multiplier (Howard et al. 2017, MobileNets, section 3.3): what everybody does to make a network faster."""

import math
from dataclasses import replace

from space.arch import Architecture
from space.choices import SearchSpace

STEP = 0.01
# There are no spaces below this width.
_LEAST = 0.05


def scaled_references(space: SearchSpace, step: float = STEP) -> dict[float, Architecture]:
    """A space's reference at all smaller width multipliers in steps, by width, the widest first, each once.

    Widths that round to the same channels are one network, which has the largest of them.
    """
    found: dict[Architecture, float] = {space.reference: space.width}
    for steps in range(math.ceil(round(space.width / step, 6)) - 1, round(_LEAST / step) - 1, -1):
        width = round(steps * step, 2)
        found.setdefault(replace(space, width=width).reference, width)
    return {width: arch for arch, width in found.items() if width < space.width}
