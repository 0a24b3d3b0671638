"""How fast architectures are drawn, checked and priced, one by one and as rows: python benchmarks/architectures.py."""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from space.choices import SearchSpace
from space.cost import cost_of
from space.encoding import Encoding
from space.preset import load_preset, preset_names

REPEATS = 5


def median_rate(count: int, run: Callable[[int], None]) -> float:
    """Things per second: the median of some repeats."""
    rates = []
    for seed in range(REPEATS):
        start = time.process_time()
        run(seed)
        rates.append(count / (time.process_time() - start))
    return statistics.median(rates)


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


def import_ms(statement: str) -> float:
    """Milliseconds of an import in a fresh interpreter, the median of some."""
    code = f"import time; start = time.perf_counter(); {statement}; print(1e3 * (time.perf_counter() - start))"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(11)]
    return statistics.median(float(run.stdout) for run in runs)


def main() -> None:
    """Print the figures of the report."""
    print("| space | one by one, per s | rows, per s |\n| --- | --- | --- |")
    for name in preset_names():
        space = SearchSpace(preset=load_preset(name), width=1.0, resolution=224, in_channels=3, num_classes=1000)
        objects = median_rate(3000, as_objects(space, 3000))
        rows = median_rate(100_000, as_rows(Encoding(space), 100_000))
        print(f"| {name} | {objects:,.0f} | {rows:,.0f} |")
    for statement in ("import space", "import space.arch", "import space.choices, space.cost", "import space.formats"):
        print(f"{statement}: {import_ms(statement):.1f} ms")


if __name__ == "__main__":
    main()
