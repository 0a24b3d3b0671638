"""How fast architectures are drawn, checked and priced, one by one and as rows: python benchmarks/architectures.py."""

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.raw import Raw
from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.preset import load_preset, preset_names

REPEATS = 5


def rates_of(count: int, run: Callable[[int], None]) -> list[float]:
    """Things per second, of each of some repeats."""
    rates = []
    for seed in range(REPEATS):
        start = time.process_time()
        run(seed)
        rates.append(count / (time.process_time() - start))
    return rates


def as_objects(space: SearchSpace, count: int) -> Callable[[int], None]:
    """Sample, check membership, price: one architecture after the other."""

    def run(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(count):
            arch = space.sample(rng)
            assert arch in space
            cost_of(arch)

    return run


def as_rows(encoding: Encoding, count: int) -> Callable[[int], None]:
    """The same of rows."""

    def run(seed: int) -> None:
        codes = encoding.sample(count, np.random.default_rng(seed))
        assert encoding.valid(codes).all()
        encoding.cost(codes)

    return run


def import_ms(statement: str) -> list[float]:
    """Milliseconds of an import in fresh interpreters."""
    code = f"import time; start = time.perf_counter(); {statement}; print(1e3 * (time.perf_counter() - start))"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(11)]
    return [float(run.stdout) for run in runs]


def main() -> None:
    """Print the figures of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments, raw = parser.parse_args(), Raw("architectures")
    print("| space | one by one, per s | rows, per s |\n| --- | --- | --- |")
    for name in preset_names():
        space = SearchSpace(preset=load_preset(name), width=1.0, resolution=224, in_channels=3, num_classes=1000)
        objects = rates_of(3000, as_objects(space, 3000))
        rows = rates_of(100_000, as_rows(Encoding(space), 100_000))
        for repeat, (one, many) in enumerate(zip(objects, rows, strict=True)):
            raw.add(what=name, repeat=repeat, one_by_one_per_s=one, rows_per_s=many)
        print(f"| {name} | {statistics.median(objects):,.0f} | {statistics.median(rows):,.0f} |")
    specs = ("import space.arch", "import space.choices, space.cost", "import space.formats")
    for statement in ("import mobilenas", "import space", *specs):
        took = import_ms(statement)
        for repeat, each in enumerate(took):
            raw.add(what=statement, repeat=repeat, ms=each)
        print(f"{statement}: {statistics.median(took):.1f} ms")
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
