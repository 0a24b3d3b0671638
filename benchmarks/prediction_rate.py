"""How many networks a second a latency table predicts, from rows: python benchmarks/prediction_rate.py (one core)."""

import argparse
import random
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.raw import Raw
from latency.calibration import Calibration
from latency.measurement import Measurement
from latency.meter import LocalMeter
from latency.predict import Predictor
from latency.table import LatencyTable
from space.choices import SearchSpace
from space.encoding import Encoding
from space.preset import load_preset, preset_names

NETWORKS, REPEATS = 100_000, 5
FIT = Calibration(warm=0.9, cold=0.1, per_block_ms=-0.01, constant_ms=0.1, networks=40, error=0.01)


def made_up_table(space: SearchSpace) -> LatencyTable:
    """Speed does not depend on what a table says."""
    rng = random.Random(0)
    samples = [(rng.uniform(0.1, 1),) for _ in space.reachable_keys()]
    entries = {
        key: Measurement(cold_wall=ms, cold_cpu=ms, warm_wall=ms, warm_cpu=ms)
        for key, ms in zip(space.reachable_keys(), samples, strict=True)
    }
    return LatencyTable(device=LocalMeter("any").device, scope=space.scope, entries=entries, calibration=FIT)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments, raw = parser.parse_args(), Raw("prediction rate")
    print("| space | rows, per s | one by one, per s |\n| --- | --- | --- |")
    for name in preset_names():
        preset = load_preset(name)
        space = SearchSpace(preset=preset, width=1.0, resolution=224, in_channels=3, num_classes=1000)
        table, encoding = made_up_table(space), Encoding(space)
        predictor = Predictor(table, encoding)
        rates, single = [], []
        for seed in range(REPEATS):
            codes = encoding.sample(NETWORKS, np.random.default_rng(seed))
            start = time.process_time()
            predictor.estimate(codes)
            rates.append(NETWORKS / (time.process_time() - start))
            networks = [space.sample(random.Random(number)) for number in range(1000)]
            start = time.process_time()
            for arch in networks:
                table.estimate(arch)
            single.append(len(networks) / (time.process_time() - start))
        for repeat, (many, one) in enumerate(zip(rates, single, strict=True)):
            raw.add(space=name, repeat=repeat, rows_per_s=many, one_by_one_per_s=one)
        print(f"| {name} | {statistics.median(rates):,.0f} | {statistics.median(single):,.0f} |")
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
