"""How well a block's latency follows from others of its kind: python -m benchmarks.interpolated_blocks --help.

Of a table of a record: blocks of one kind (input size, stride, kernel, squeeze-and-excite, activation, expanded or not)
differ in widths alone. A regression on what their widths cost, weighted by relative error, predicts those that the
space does not reach (the reference at other widths) and, one left out at a time, those that it does.
"""

import argparse
from collections.abc import Hashable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from benchmarks.raw import Raw
from latency.table import LatencyTable
from search.record.store import Store
from space.choices import SearchSpace
from space.keys import StageBlockKey, StemKey
from space.preset import load_preset

RIDGE, LEAST = 0.02, 6
"""The penalty, and how many others of its kind a block is predicted from at least."""


def kind_of(key: StageBlockKey) -> Hashable:
    """What two blocks must have in common to be compared by their widths."""
    block, has_expansion = key.block, key.block.expanded_channels is not None
    return (key.resolution, key.stride, block.kernel_size, block.use_se, block.activation, has_expansion)


def costs_of(key: StageBlockKey) -> list[float]:
    """A constant, the maps that are read and written, and the products of widths that multiplications go with."""
    before, inside, after = key.in_channels, key.depthwise_channels, key.out_channels
    expanded = before * inside if key.block.expanded_channels else 0
    return [1.0, before, inside, after, expanded, inside * after, inside**2]


def predicted(known: Sequence[StageBlockKey], ms: Sequence[float], asked: StageBlockKey) -> float:
    """The latency of one block, ms, from others of its kind."""
    rows = np.array([costs_of(key) for key in known])
    scale = np.maximum(rows.max(axis=0), 1)
    weighted = rows / scale / np.array(ms)[:, None]
    fit = np.linalg.solve(weighted.T @ weighted + RIDGE * np.eye(rows.shape[1]), weighted.sum(axis=0))
    return float(np.array(costs_of(asked)) / scale @ fit)


def errors(table: LatencyTable, space: SearchSpace) -> dict[str, np.ndarray]:
    """Relative errors: of blocks that the space does not reach, and of those that it does, each left out once."""
    reached = set(space.reachable_keys())
    ms = {key: table.block_ms(key) for key in table.entries if isinstance(key, StageBlockKey)}
    kinds: dict[Hashable, list[StageBlockKey]] = {}
    for key in ms:
        if key in reached:
            kinds.setdefault(kind_of(key), []).append(key)
    found: dict[str, list[float]] = {"other widths": [], "left out": []}
    for key, measured in ms.items():
        group = "left out" if key in reached else "other widths"
        known = [other for other in kinds.get(kind_of(key), []) if other != key]
        if len(known) >= LEAST:
            found[group].append(predicted(known, [ms[other] for other in known], key) / measured - 1)
    return {name: np.array(values) for name, values in found.items()}


def main() -> None:
    """Tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("database", help="URL of a record")
    parser.add_argument("--table", type=int, default=1)
    parser.add_argument("--space", default="mobilenet-v3-small-32px")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    raw = Raw("interpolated_blocks")
    with closing(Store.open(arguments.database)) as store:
        table = store.tables.load(arguments.table)
    channels = next(key.in_channels for key in table.entries if isinstance(key, StemKey))
    space = SearchSpace(
        preset=load_preset(arguments.space),
        width=arguments.width,
        resolution=arguments.resolution,
        in_channels=channels,
        num_classes=10,
    )
    if not set(space.reachable_keys()) & set(table.entries):
        parser.error("the table has no block of this space; give its --space, --width and --resolution")
    for name, found in errors(table, space).items():
        if not len(found):
            continue
        median, ninetieth = np.quantile(abs(found), [0.5, 0.9])
        print(f"{name}: {len(found)} blocks, median error {median:.1%}, 90 % below {ninetieth:.1%}")
        raw.add(
            table=arguments.table,
            space=arguments.space,
            blocks=len(found),
            which=name,
            median=median,
            ninetieth=ninetieth,
        )
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
