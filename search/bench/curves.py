"""Learning curves of listed networks as a problem: what a search would see of each after so many images.

Two files: `NAME-networks.csv`, whose rows are networks (`network`, `space`, `width`, `predicted_ms`, `spec`), and
`NAME.csv`, whose rows are networks with one training seed after so many images (`network`, `seed`, `images`,
`reward_top1`, `reward_ll`, `test_top1`, and where known `reward_p` and `seconds` of training so far).
`benchmarks/curves/make.py` makes them.
"""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from search.bench.problem import Problem, Seen
from search.objective.latency import Latency, OfCodes
from search.objective.limits import Limits
from search.problems.noise import drawn
from space.arch import Architecture
from space.choices import SearchSpace
from space.encoding import Codes, Encoding
from space.errors import DataError, MobilenasError
from space.keys import BlockKey
from space.preset import load_preset
from space.variation.moves import canonical

# Of the reference's predicted latency: half of the curves that we publish are within 3 % of 0.8.
TARGET = 0.8 * 1.03
# A training to the end leaves the schedule without one, from which rungs are read, after this share of its images.
BRANCH = 0.7
_MAX_BYTES = 16 * 2**20

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Point:
    """A row of learning curves; None is not known."""

    reward_top1: float
    reward_ll: float
    test_top1: float
    reward_p: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A listed network with its latency, ms, and its points by training seed and images."""

    arch: Architecture
    ms: float
    points: dict[int, dict[int, Point]]

    @property
    def worth(self) -> float:
        """Top-1 on the test split at the end, the mean of all seeds."""
        return float(np.mean([points[max(points)].test_top1 for points in self.points.values()]))


class _Nearest(Latency):
    """Every member has the latency of the listed network that it stands for."""

    def __init__(self, encoding: Encoding, curves: Sequence[Curve]) -> None:
        self._encoding = encoding
        self._codes = canonical(encoding, np.vstack([encoding.encode(curve.arch) for curve in curves]))
        self._ms = np.array([curve.ms for curve in curves])

    @property
    def is_dear(self) -> bool:
        """See `Latency`."""
        return False

    def at(self, codes: Codes) -> np.ndarray:
        """Which listed network differs in the fewest choices, the first of several; shape (networks,)."""
        differing = (canonical(self._encoding, codes)[:, None] != self._codes).sum(axis=2)
        found: np.ndarray = differing.argmin(axis=1)
        return found

    def estimate(self, arch: Architecture) -> float:
        """See `Latency`."""
        return float(self._ms[self.at(self._encoding.encode(arch)[None])[0]])

    def missing(self, keys: Iterable[BlockKey]) -> tuple[BlockKey, ...]:  # noqa: ARG002 - no block is asked for
        """See `Latency`."""
        return ()

    def of_codes(self, encoding: Encoding) -> OfCodes:  # noqa: ARG002 - it is of the one space
        """See `Latency`."""
        return lambda codes: self._ms[self.at(codes)]


@dataclass(frozen=True)
class CurvesProblem(Problem):
    """Networks that were trained: any other member of the space stands for the one from which it differs least."""

    name: str
    space: SearchSpace
    curves: tuple[Curve, ...]
    limit_ms: float
    noisy: bool = False
    unit: str = "ms"

    @cached_property
    def encoding(self) -> Encoding:
        """See `Problem`."""
        return Encoding(self.space)

    @cached_property
    def latency(self) -> _Nearest:
        """See `Problem`."""
        return _Nearest(self.encoding, self.curves)

    @property
    def limits(self) -> Limits:
        """See `Problem`."""
        return Limits(latency_ms=self.limit_ms)

    @cached_property
    def rungs(self) -> tuple[int, ...]:
        """Images at which a training is looked at: those before it begins to end, and its end."""
        every = sorted({images for curve in self.curves for points in curve.points.values() for images in points})
        return (*(images for images in every[:-1] if images <= BRANCH * every[-1]), every[-1])

    @property
    def costs(self) -> tuple[float, ...]:
        """See `Problem`."""
        return tuple(images / self.rungs[-1] for images in self.rungs)

    @property
    def listed(self) -> tuple[Architecture, ...]:
        """See `Problem`."""
        return tuple(curve.arch for curve in self.curves)

    @property
    def evaluations(self) -> int:
        """See `Problem`: far fewer than there are networks."""
        return max(1, len(self.curves) // 4)

    def stands_for(self, arch: Architecture) -> Architecture:
        """See `Problem`."""
        return self._of(arch).arch

    def _of(self, arch: Architecture) -> Curve:
        return self.curves[int(self.latency.at(self.encoding.encode(arch)[None])[0])]

    def look(self, arch: Architecture, rung: int, seed: int) -> Seen:
        """The reward split's top-1 and log-likelihood: the mean of the network's trainings, with noise one of them."""
        curve = self._of(arch)
        points = [curve.points[trained][self.rungs[rung]] for trained in sorted(curve.points)]
        if self.noisy:
            points = [points[drawn(seed, arch.arch_id, len(points))]]
        top1, ll = np.mean([(point.reward_top1, point.reward_ll) for point in points], axis=0).tolist()
        return Seen(top1, ll)

    def worth(self, arch: Architecture) -> float:
        """See `Problem`: on the test split, the mean of all of the network's trainings."""
        return self._of(arch).worth

    @cached_property
    def within(self) -> tuple[Architecture, ...]:
        """See `Problem`."""
        return tuple(curve.arch for curve in self.curves if curve.ms <= self.limit_ms)

    @classmethod
    def read(cls, path: Path, limit_ms: float | None = None, *, noisy: bool = False) -> Self:
        """From `NAME.csv` and `NAME-networks.csv` beside it; networks that are no members are left out.

        Raises:
            DataError: a file cannot be read, is none, or no network within the limit was trained to the end.
        """
        networks = read_rows(path.with_name(f"{path.stem}-networks.csv"), _network)
        points: dict[str, dict[int, dict[int, Point]]] = defaultdict(lambda: defaultdict(dict))
        for name, seed, images, point in read_rows(path, _point):
            points[name][seed][images] = point
        looked_at = {images for seeds in points.values() for curve in seeds.values() for images in curve}
        space = _space_of(path, networks)
        curves = []
        for row in networks:
            whole = {seed: curve for seed, curve in points[row.name].items() if looked_at <= set(curve)}
            if whole and row.arch in space:
                curves.append(Curve(arch=row.arch, ms=row.ms, points=whole))
        if not curves:
            raise DataError(f"{path} has no curve from beginning to end of a member of '{space.preset.name}'")
        reference_ms = next((row.ms for row in networks if row.arch == space.reference), None)
        if limit_ms is None:
            if reference_ms is None:
                raise DataError(
                    f"{path} lacks the space's reference, of whose latency the limit is a share; give --limit"
                )
            limit_ms = TARGET * reference_ms
        if all(curve.ms > limit_ms for curve in curves):
            raise DataError(f"no network of {path} is within {limit_ms:g} ms; raise the limit")
        return cls(name=path.stem, space=space, curves=tuple(curves), limit_ms=limit_ms, noisy=noisy)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A row of the networks."""

    name: str
    preset: str
    width: float
    ms: float
    arch: Architecture


def _space_of(path: Path, networks: Sequence[_Listed]) -> SearchSpace:
    spaces = {(row.preset, row.width) for row in networks}
    sizes = {(row.arch.resolution, row.arch.in_channels, row.arch.num_classes) for row in networks}
    if len(spaces) != 1 or len(sizes) != 1:
        raise DataError(f"the networks of {path} are of {len(spaces)} spaces and {len(sizes)} sizes of input; need one")
    (preset, width), (resolution, in_channels, num_classes) = spaces.pop(), sizes.pop()
    return SearchSpace(
        preset=load_preset(preset), width=width, resolution=resolution, in_channels=in_channels, num_classes=num_classes
    )


def _network(row: dict[str, str]) -> _Listed:
    ms, width = float(row["predicted_ms"]), float(row["width"])
    if not (0 < ms < math.inf and 0 < width < math.inf):
        raise ValueError("a latency or width is no positive number")
    arch = Architecture.from_json(row["spec"])
    return _Listed(name=row["network"], preset=row["space"], width=width, ms=ms, arch=arch)


def _point(row: dict[str, str]) -> tuple[str, int, int, Point]:
    p, seconds = (float(row[name]) if row.get(name) else None for name in ("reward_p", "seconds"))
    point = Point(float(row["reward_top1"]), float(row["reward_ll"]), float(row["test_top1"]), p, seconds)
    if not (0 <= point.reward_top1 <= 1 and 0 <= point.test_top1 <= 1 and math.isfinite(point.reward_ll)):
        raise ValueError("a top-1 is not between 0 and 1, or a log-likelihood is not finite")
    if not (0 <= (p or 0.0) <= 1 and 0 <= (seconds or 0.0) < math.inf):
        raise ValueError("a probability is not between 0 and 1, or seconds are negative or not finite")
    return row["network"], int(row["seed"]), int(row["images"]), point


def read_rows(path: Path, read: Callable[[dict[str, str]], Row]) -> list[Row]:
    """Each row of a CSV file as what `read` makes of it.

    Raises:
        DataError: the file cannot be read, is too large, or `read` cannot make anything of a row.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} has more than {_MAX_BYTES >> 20} MiB, which no table of learning curves has")
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; name a file that benchmarks/curves/make.py made"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file: {error}") from error
    found = []
    for number, row in enumerate(rows, start=2):
        try:
            found.append(read(row))
        except (KeyError, TypeError, ValueError, MobilenasError) as error:
            reason = f"there is no column {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}, row {number}: {reason}; see benchmarks/curves/README.md") from error
    return found
