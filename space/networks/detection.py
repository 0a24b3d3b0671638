"""What an object detector on top of an architecture costs: SSD (Liu et al. 2016) and SSDLite (Sandler et al. 2018).

SSDLite replaces the full 3x3 convolutions of SSD by depthwise-separable ones. The first of six maps is the last one
at half the final resolution's stride, taken behind the expansion of the block that halves it; the second is the last
map of the network; four more follow, each by a 1x1 convolution to half the width and a 3x3 one of stride 2. Three
boxes per place on the first map and six on the others reproduce the paper's parameters (tables 5 and 6).

Until detectors are trained, only tests use this: it is what our specs of the published ones are held against.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from space.arch import Architecture
from space.cost import layer_cost, unit_cost
from space.errors import InvalidArchitecture
from space.keys import HeadKey, StageBlockKey, halved, keys_of
from space.layers import Conv, layers_of

EXTRA_CHANNELS = (512, 256, 256, 128)
BOXES = (3, 6, 6, 6, 6, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorCost:
    """Multiply-adds of one image, and trainable parameters."""

    madds: int
    params: int

    def __add__(self, other: "DetectorCost") -> "DetectorCost":
        return DetectorCost(madds=self.madds + other.madds, params=self.params + other.params)


@dataclass(frozen=True, slots=True)
class _Map:
    channels: int
    resolution: int


def _maps(arch: Architecture) -> tuple[_Map, ...]:
    """The six maps that boxes are predicted from."""
    *blocks, head = keys_of(arch)
    halving = next((key for key in reversed(blocks) if isinstance(key, StageBlockKey) and key.stride == 2), None)
    if halving is None:
        raise InvalidArchitecture(f"{arch.arch_id} has no stage of stride 2, behind whose expansion SSD takes a map")
    assert isinstance(head, HeadKey)
    last = _Map(head.conv_channels or head.in_channels, head.resolution)
    maps = [_Map(halving.depthwise_channels, halving.resolution), last]
    for channels in EXTRA_CHANNELS:
        maps.append(_Map(channels, halved(maps[-1].resolution, 2)))
    return tuple(maps)


def _conv(source: _Map, channels: int, resolution: int, kernel: int, *, groups: int = 1, extra: int) -> DetectorCost:
    """One convolution; `extra` parameters per output channel: 2 for BatchNorm, 1 for a bias, or none."""
    weights = kernel**2 * source.channels // groups * channels
    return DetectorCost(madds=weights * resolution**2, params=weights + extra * channels)


def _conv3x3(source: _Map, channels: int, resolution: int, *, lite: bool, norm: bool) -> DetectorCost:
    """A full 3x3 convolution, or depthwise 3x3 and 1x1; with BatchNorm, or with a bias as predictors have it."""
    extra = 2 if norm else 1
    if not lite:
        return _conv(source, channels, resolution, 3, extra=extra)
    width = source.channels
    depthwise = _conv(source, width, resolution, 3, groups=width, extra=2 if norm else 0)
    return depthwise + _conv(source, channels, resolution, 1, extra=extra)


def _parts(arch: Architecture, *, lite: bool, classes: int) -> Iterator[DetectorCost]:
    maps = _maps(arch)
    for before, after in pairwise(maps[1:]):
        narrow = _Map(after.channels // 2, before.resolution)
        yield _conv(before, narrow.channels, before.resolution, 1, extra=2)
        yield _conv3x3(narrow, after.channels, after.resolution, lite=lite, norm=True)
    for each, boxes in zip(maps, BOXES, strict=True):
        for values in (4, classes + 1):  # coordinates; classes and background
            yield _conv3x3(each, boxes * values, each.resolution, lite=lite, norm=False)


def detection_head_cost(arch: Architecture, *, lite: bool, classes: int = 80) -> DetectorCost:
    """The cost of the SSD or SSDLite layers alone.

    Raises:
        InvalidArchitecture: no stage of the architecture halves the resolution.
    """
    return sum(_parts(arch, lite=lite, classes=classes), start=DetectorCost(madds=0, params=0))


def detector_cost(arch: Architecture, *, lite: bool, classes: int = 80) -> DetectorCost:
    """The cost of the whole detector: the architecture up to its last map, and the SSD or SSDLite layers."""
    *backbone, head = keys_of(arch)
    costs = [unit_cost(key) for key in backbone]
    costs += [layer_cost(layer) for layer in layers_of(head) if isinstance(layer, Conv)]
    parts = (DetectorCost(madds=cost.madds, params=cost.params) for cost in costs)
    return sum(parts, start=detection_head_cost(arch, lite=lite, classes=classes))
