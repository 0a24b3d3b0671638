"""How far two measurements of one network differ: python -m benchmarks.measuring_anew --help.

Networks near the target and the reference are measured together, again and again by processes of their own, with models
that stay open and with models that are opened anew after some rounds. Told is how far the ratio of a network to the
reference, which decides whether it meets a relative target, spreads over the processes, beside the half width of the
95 % intervals that each process gives on its own.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.curves.prior import read_networks
from benchmarks.raw import Raw
from latency.kit import Campaign
from latency.meter import LocalMeter
from latency.probe import processor_name
from search.protocols import FINALISTS

NETWORKS = Path(__file__).parent / "curves" / "fashion-mnist-networks.csv"
REFERENCE = "width-50"


def measure(seed: int, reopen: int | None, networks: int) -> dict[str, tuple[float, float]]:
    """By name the latency, ms, and the half width of its interval relative to that."""
    known = read_networks(NETWORKS)
    chosen = {name: known[name] for name in [REFERENCE, *(f"near-{number}" for number in range(networks))]}
    protocol = replace(FINALISTS, seed=seed, reopen=reopen)
    found = LocalMeter("local").run(Campaign(networks=chosen, protocol=protocol)).networks
    ways = {name: each.measurement for name, each in found.items()}
    said = {name: (each.estimate("warm", "wall"), each.interval("warm", "wall")) for name, each in ways.items()}
    return {name: (ms, (high - low) / 2 / ms) for name, (ms, (low, high)) in said.items()}


def spread(found: list[dict[str, tuple[float, float]]]) -> tuple[float, float, float]:
    """In %: of the ratios over processes; what is left of it without the reference's own part; half an interval."""
    names = [name for name in found[0] if name != REFERENCE]
    logs = np.log([[each[name][0] / each[REFERENCE][0] for name in names] for each in found])
    apart = logs - logs.mean(axis=0)
    own = apart - apart.mean(axis=1, keepdims=True)
    others = len(found) - 1
    half = np.mean([[each[name][1] for name in names] for each in found])
    deviation = np.sqrt((apart**2).sum() / (others * len(names)))
    of_own = np.sqrt((own**2).sum() / (others * (len(names) - 1)))
    return 100 * float(deviation), 100 * float(of_own), 100 * float(half)


def main() -> None:
    """Measure in turn, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--networks", type=int, default=12)
    parser.add_argument("--reopen", type=int, nargs="+", default=[0, 8, 4], help="after so many rounds; 0: never")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--one", type=int, nargs=2, metavar=("SEED", "REOPEN"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], arguments.one[1] or None, arguments.networks)))
        return
    if min(arguments.processes, arguments.networks) < 2:
        parser.error("a spread takes at least two --processes and two --networks")
    raw = Raw("measuring_anew")
    found: dict[int, list[dict[str, tuple[float, float]]]] = {reopen: [] for reopen in arguments.reopen}
    seconds = dict.fromkeys(arguments.reopen, 0.0)
    for process in range(arguments.processes):
        for reopen in arguments.reopen:
            begun = time.monotonic()
            one = ["--networks", str(arguments.networks), "--one", str(process), str(reopen)]
            command = [sys.executable, "-m", "benchmarks.measuring_anew", *one]
            found[reopen].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
            seconds[reopen] += (time.monotonic() - begun) / arguments.processes
    print(f"{arguments.networks} networks beside the reference, {arguments.processes} processes; {processor_name()}")
    for reopen in arguments.reopen:
        ratios, own, half = spread(found[reopen])
        how = f"opened anew every {reopen} rounds" if reopen else "opened once"
        print(
            f"{how}: ratios to the reference spread by {ratios:.2f} %, {own:.2f} % without the reference's own part; "
            f"half an interval {half:.2f} %; {seconds[reopen]:.1f} s"
        )
        raw.add(reopen=reopen, spread=ratios, own=own, half_interval=half, seconds=seconds[reopen])
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
