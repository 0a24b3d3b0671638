"""The prior that is shipped for a space, from the learning curves: python -m benchmarks.curves.prior --help.

Prints how well it orders networks that it has not seen, near the target and of one latency, beside what their own short
trainings say, and writes the prior that is fitted on all tables.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.samplers.prior import Prior, fitted
from space.arch import Architecture

HERE = Path(__file__).parent
SHIPPED = Path(__file__).parents[2] / "search" / "samplers" / "priors"
FINAL, SPLITS, SEEN = 60_000, 200, 2 / 3

Curves = Mapping[str, Mapping[int, Mapping[str, float]]]
"""By network and images seen, the means over the seeds of what a row of the table has."""


def read_curves(path: Path) -> Curves:
    """A table of learning curves; networks that were not trained to the end are left out."""
    rows: dict[tuple[str, int], list[dict[str, float]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name, images = row.pop("network"), int(row.pop("images"))
            rows.setdefault((name, images), []).append({key: float(value) for key, value in row.items()})
    found: dict[str, dict[int, dict[str, float]]] = {}
    for (name, images), seeds in rows.items():
        found.setdefault(name, {})[images] = {key: float(np.mean([row[key] for row in seeds])) for key in seeds[0]}
    return {name: curve for name, curve in found.items() if FINAL in curve}


def read_networks(path: Path) -> dict[str, Architecture]:
    """The networks of a table, by name."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["network"]: Architecture.from_json(row["spec"]) for row in csv.DictReader(file)}


@dataclass(frozen=True)
class Table:
    """The members of a space that a table of curves has up to their end; the reference at its widths is no member."""

    networks: Mapping[str, Architecture]
    curves: Curves

    @classmethod
    def read(cls, data: str) -> "Table":
        """That of a data set."""
        curves = read_curves(HERE / f"{data}.csv")
        networks = read_networks(HERE / f"{data}-networks.csv")
        return cls({name: networks[name] for name in networks if name in curves and "width-" not in name}, curves)

    def only(self, names: Sequence[str]) -> "Table":
        """The same with these networks alone."""
        return Table({name: self.networks[name] for name in names}, self.curves)

    @property
    def near(self) -> "Table":
        """Random networks near the target, of about one latency."""
        return self.only([name for name in self.networks if name.startswith("near-")])

    @property
    def ends(self) -> np.ndarray:
        """What networks are to be judged by: their log-likelihood on the reward split after the final training."""
        return np.array([self.curves[name][FINAL]["reward_ll"] for name in self.networks])

    @property
    def top1(self) -> np.ndarray:
        """In % on the test split, at the end."""
        return np.array([100 * self.curves[name][FINAL]["test_top1"] for name in self.networks])


def fitted_on(tables: Sequence[Table]) -> Prior:
    """Each table's ends in deviations of random networks near its target, so that data sets speak in one unit."""
    networks = [arch for table in tables for arch in table.networks.values()]
    return fitted(networks, np.concatenate([standardised(table) for table in tables]))


def standardised(table: Table) -> np.ndarray:
    """A table's ends; random networks near the target have mean 0 and deviation 1."""
    usual = table.near.ends
    assert len(usual) > 1, "random networks near the target say what is usual"
    found: np.ndarray = (table.ends - usual.mean()) / usual.std()
    return found


def said(prior: Prior, table: Table) -> tuple[float, float]:
    """Of a table's networks, the correlation of a prior's scores with their ends, and what its best quarter gains.

    That is how many points of top-1 on the test split they are above all of them.
    """
    scores = prior.scores(list(table.networks.values()))
    best = np.argsort(-scores)[: max(1, len(scores) // 4)]
    return float(np.corrcoef(scores, table.ends)[0, 1]), float(table.top1[best].mean() - table.top1.mean())


def unseen(table: Table, others: Sequence[Table]) -> np.ndarray:
    """Over random splits, what a prior says of networks near the target that it has not seen; see `said`."""
    names, rng, found = list(table.networks), np.random.default_rng(0), []
    for _ in range(SPLITS):
        order = rng.permutation(names).tolist()
        seen = round(SEEN * len(order))
        prior = fitted_on([table.only(order[:seen]), *others])
        found.append(said(prior, table.only(order[seen:]).near))
    mean: np.ndarray = np.mean(found, axis=0)
    return mean


def _tell_proposed(which: str, names: Sequence[str], ends: np.ndarray, usual: np.ndarray) -> None:
    """What became of networks that a prior proposed, which was fitted before they were trained."""
    proposed = ends[[name.startswith("prior-") for name in names]]
    if len(proposed):
        print(
            f"  {len(proposed)} that a prior proposed: {which} {proposed.mean():.4g} ± {proposed.std():.2g}, "
            f"random ones {usual.mean():.4g} ± {usual.std():.2g}, the best of {len(usual)} {usual.max():.4g}"
        )


def main() -> None:
    """Tell, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--data", nargs="+", default=["fashion-mnist", "cifar10"], help="the tables that it is fitted on"
    )
    parser.add_argument("--space", default="mobilenet-v3-small-32px")
    parser.add_argument("--write", action="store_true", help="replace the shipped one")
    arguments = parser.parse_args()
    tables = {data: Table.read(data) for data in arguments.data}
    for data, table in tables.items():
        others = [other for other in tables.values() if other is not table]
        near = table.near
        print(f"{data}: {len(table.networks)} networks, {len(near.networks)} of them near the target. Of these,")
        ways = [("fitted on two thirds of the table", unseen(table, []))]
        if others:
            ways += [("fitted on the other table", np.array(said(fitted_on(others), near)))]
            ways += [("fitted on both", unseen(table, others))]
        for way, (agrees, gain) in ways:
            print(f"  a prior {way}, unseen: correlation {agrees:.2f}, its best quarter {gain:+.2f} points above all")
        for images in (3000, 6000, 12_000, 24_000, 48_000):
            early = np.array([table.curves[name][images]["reward_ll"] for name in near.networks])
            print(f"  their own training of {images:,} images: correlation {np.corrcoef(early, near.ends)[0, 1]:.2f}")
        for which, ends in (("log-likelihood", [table.ends, near.ends]), ("top-1", [table.top1, near.top1])):
            _tell_proposed(which, [*table.networks], *ends)
    if arguments.write:
        (SHIPPED / f"{arguments.space}.json").write_text(fitted_on([*tables.values()]).to_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
