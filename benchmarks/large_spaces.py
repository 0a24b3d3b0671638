"""Samplers on spaces of 10^13 and 10^19 networks, whose top-1 a learnt network imitates (`benchmarks.imitator`).

    PYTHONPATH=. OMP_NUM_THREADS=1 .venv/bin/python benchmarks/large_spaces.py --data-dir FOLDER --seeds 20

Trains the imitator on NAS-Bench-Macro, writes a problem for each space, and runs `mobilenas bench samplers` with it as
a user would. The limit is the multiply-adds that three of ten random members keep. The best network is not known, so
regrets are against the best that any sampler found.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from benchmarks import imitator
from benchmarks.raw import Raw
from search.problems.nas_bench_macro import WHERE
from service.commands.bench import COMPARED
from space.choices import SearchSpace
from space.encoding import Encoding
from space.preset import load_preset

SPACES = ("mobilenet-v3-large", "ofa-mbv3")


def limit_of(name: str) -> float:
    """Million multiply-adds that three of ten random members keep, rounded."""
    space = SearchSpace(preset=load_preset(name), width=1.0, resolution=224, in_channels=3, num_classes=1000)
    encoding = Encoding(space)
    madds = encoding.cost(encoding.sample(2000, np.random.default_rng(0))).madds / 1e6
    return float(np.quantile(madds, 0.3).round())


def problem_of(name: str, folder: Path) -> Path:
    """A file with the problem, as a user would write it."""
    path = folder / f"{name}.yaml"
    content = {
        "evaluator": "benchmarks.imitator:top1",
        "latency": "benchmarks.imitator:madds_in_millions",
        "data": {"source": "none", "resolution": 224, "channels": 3, "classes": 1000},
        "space": {"preset": name, "width": 1.0},
        "target": {"ms": limit_of(name)},
        "blocks": {"reference": False, "tolerance": 0.0},
        "netadapt": {"max_steps": 0},
    }
    path.write_text(yaml.safe_dump(content))
    return path


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the table of NAS-Bench-Macro")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--evaluations", type=int, default=150)
    parser.add_argument("--sampler", nargs="+", default=list(COMPARED))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/large-spaces"))
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments, raw = parser.parse_args(), Raw("large spaces")
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[WHERE] = str(arguments.data_dir.absolute())
    weights, quality = imitator.learn()
    print("the imitator, on networks that it has not seen: " + ", ".join(f"{k} {v:.3f}" for k, v in quality.items()))
    np.savez(folder / "imitator.npz", **weights)
    environment = {**os.environ, imitator.WHERE: str(folder / "imitator.npz")}
    for name in SPACES:
        command = [sys.executable, "-m", "service.cli", "bench", "samplers", "--problem", str(problem_of(name, folder))]
        command += ["--seeds", str(arguments.seeds), "--first-seed", str(arguments.first_seed)]
        command += ["--evaluations", str(arguments.evaluations), "--workers", str(arguments.workers)]
        command += ["--out", str(folder / f"{name}.json")]
        for sampler in arguments.sampler:
            command += ["--sampler", sampler]
        subprocess.run(command, check=True, env=environment)
        (found,) = json.loads((folder / f"{name}.json").read_text())
        for run in found["courses"]:
            raw.add(space=name, limit=found["limit_ms"], **{**run, "best": run["best"][-1]})
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
