"""What races of several shapes choose, replayed on learning curves: python -m benchmarks.curves.races --help.

Of the networks near the target so many are drawn as a race begins with, each with the curve of one of its trainings.
Each rung's best go on, by the log-likelihood or by the top-1 of the reward split; of those that are trained to the end
the best one is chosen likewise. Told is the top-1 on the test split of what was chosen: how far above the mean of those
that entered, both by their other trainings where there are some, whose luck chose nothing; how far below the best of
them, by the mean of all trainings; and the images that the race trains.

With `--finalists` so many are trained to the end instead, and of those whose log-likelihood is within a margin of the
best one's the best, the slowest or the fastest is taken.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.raw import Raw
from search.bench.curves import Curve, CurvesProblem, Point

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Race:
    """So many networks up to each number of images, ascending; the last is the end."""

    rungs: tuple[tuple[int, int], ...]

    @property
    def images(self) -> int:
        """All that is trained."""
        seen = (0, *(images for images, _ in self.rungs))
        return sum((images - before) * count for before, (images, count) in zip(seen, self.rungs, strict=False))

    def __str__(self) -> str:
        return ", ".join(f"{count} × {images:,}" for images, count in self.rungs)


def shapes(networks: int, end: int) -> list[Race]:
    """Races of this table's rungs, and complete trainings of as many networks as cost about as much."""
    tried = [
        ((3000, 1.0), (12000, 0.25), (24000, 0.125), (end, 0.0625)),
        ((3000, 1.0), (6000, 0.5), (12000, 0.25), (24000, 0.125), (end, 0.0625)),
        ((6000, 1.0), (24000, 0.3), (end, 0.1)),
        ((6000, 1.0), (12000, 0.5), (24000, 0.25), (end, 0.1)),
        ((12000, 1.0), (24000, 0.3), (end, 0.1)),
        ((6000, 1.0), (end, 0.1)),
        ((12000, 1.0), (end, 0.1)),
        ((24000, 1.0), (end, 0.1)),
    ]
    races = [Race(tuple((images, max(1, round(share * networks))) for images, share in rungs)) for rungs in tried]
    return [*races, *(Race(((end, count),)) for count in (1, 2, 4, 8, networks))]


def run(race: Race, figure: np.ndarray, rungs: list[int], drawn: np.ndarray) -> int:
    """Which of the drawn networks is chosen; `figure` is of shape (networks, rungs)."""
    left, before = drawn[: race.rungs[0][1]], race.rungs[0][0]
    for images, count in race.rungs[1:]:  # who goes on to a rung is told by what the one before showed
        seen = figure[left, rungs.index(before)]
        left, before = left[np.argsort(-seen, kind="stable")[:count]], images
    last = figure[left, rungs.index(before)]
    return int(left[last.argmax()])


def _others(curve: Curve, seed: int, end: int) -> float:
    """Top-1 on the test split in the end, by the trainings with other seeds; by this one where it is the only one."""
    others = [points[end].test_top1 for each, points in curve.points.items() if each != seed]
    return float(np.mean(others)) if others else curve.worth


def _drawn(
    near: list[Curve], rungs: list[int], count: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[dict[int, Point]], np.ndarray]:
    """Which networks enter, one training of each that is near, and what their other trainings end at."""
    seeds = [list(curve.points)[rng.integers(len(curve.points))] for curve in near]
    trainings = [curve.points[seed] for curve, seed in zip(near, seeds, strict=True)]
    other = np.array([_others(curve, seed, rungs[-1]) for curve, seed in zip(near, seeds, strict=True)])
    return rng.choice(len(near), count, replace=False), trainings, other


MARGINS = (0.0, 0.002, 0.004, 0.008)


def finalists(near: list[Curve], rungs: list[int], count: int, repeats: int, raw: Raw) -> None:
    """Which of those that are alike in the end is to be taken: top-1 by its other trainings, above the mean."""
    latency = np.array([curve.ms for curve in near])
    gained: dict[tuple[float, str], list[float]] = {}
    rng = np.random.default_rng(0)
    for _ in range(repeats):
        drawn, trainings, other = _drawn(near, rungs, count, rng)
        seen = np.array([trainings[at][rungs[-1]].reward_ll for at in drawn])
        for margin in MARGINS:
            alike = drawn[seen >= seen.max() - margin]
            for name, taken in (("slowest", latency[alike].argmax()), ("fastest", latency[alike].argmin())):
                gained.setdefault((margin, name), []).append(other[alike[taken]] - other[drawn].mean())
    for (margin, name), found in gained.items():
        raw.add(race=f"{count} finalists", figure=f"{name} within {margin}", gained=np.mean(found))
        print(f"{name} of those within {margin} of the best of {count}: {100 * np.mean(found):+.2f} over their mean")


def main() -> None:
    """Print a line per shape and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=Path, default=HERE / "fashion-mnist.csv")
    parser.add_argument("--networks", type=int, default=24, help="how many a race begins with")
    parser.add_argument("--finalists", type=int, help="no races: so many networks, all trained to the end")
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    problem = CurvesProblem.read(arguments.curves)
    near = [curve for curve in problem.curves if 0.9 * problem.limit_ms <= curve.ms <= problem.limit_ms]
    worth = np.array([curve.worth for curve in near])
    networks, rungs = min(arguments.networks, len(near)), list(problem.rungs)
    print(f"{len(near)} networks near the target, {100 * worth.min():.2f} to {100 * worth.max():.2f} %")
    raw = Raw("races")
    if arguments.finalists:
        finalists(near, rungs, min(arguments.finalists, len(near)), arguments.repeats, raw)
        raw.write(arguments.csv)
        return
    for race in shapes(networks, rungs[-1]):
        for name in ("reward_ll", "reward_top1"):
            rng = np.random.default_rng(0)
            gained, lost = [], []
            for _ in range(arguments.repeats):
                drawn, trainings, other = _drawn(near, rungs, networks, rng)
                figure = np.array([[getattr(points[images], name) for images in rungs] for points in trainings])
                chosen = run(race, figure, rungs, drawn)
                gained.append(other[chosen] - other[drawn].mean())
                lost.append(worth[drawn].max() - worth[chosen])
            raw.add(race=str(race), figure=name, images=race.images, gained=np.mean(gained), lost=np.mean(lost))
            print(
                f"{race.images:9,} images  {name:11}  +{100 * np.mean(gained):.2f} over the mean, "
                f"{100 * np.mean(lost):.2f} below the best  ({race})"
            )
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
