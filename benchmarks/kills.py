"""Never lose a trial: kill coordinator or workers of a search at many moments, and compare with one left alone.

    PYTHONPATH=. .venv/bin/python benchmarks/kills.py --kills 40

The evaluator takes some tenths of a second and answers by a formula, so that both searches must agree in every figure:
every trial once, with its number, network and result; the same walk; the same spec. Batches are strict, so that the
search does not depend on which of two workers is first.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.raw import Raw
from tests.search.killing import command, outcome, run_with_kills, write_run


def main() -> None:
    """Run both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.5, help="what one evaluation takes")
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments, raw = parser.parse_args(), Raw("kills")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_run(
            folder, seconds=arguments.seconds, blocks={"trials": arguments.trials}, netadapt={"delta": 0.02}
        )
        urls = {kind: f"sqlite:///{folder}/{kind}.db" for kind in ("alone", "killed")}
        start = time.monotonic()
        subprocess.run(
            command(
                "search", "--config", config, "--name", "x", "--runs", folder / "alone", "--database", urls["alone"]
            ),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        alone_s = time.monotonic() - start
        start = time.monotonic()
        killed = run_with_kills(
            config, urls["killed"], folder / "killed", "x", kills=arguments.kills, seed=arguments.seed
        )
        killed_s = time.monotonic() - start
        expected, found = (outcome(urls[kind], "x") for kind in ("alone", "killed"))
        specs = [(folder / kind / "x" / "architecture.json").read_text() for kind in ("alone", "killed")]
    for (target, stage), count in sorted(killed.counts.items()):
        print(f"{count} {target}s killed in stage {stage}")
        raw.add(seed=arguments.seed, target=target, stage=stage, kills=count, alone_s=alone_s, killed_s=killed_s)
    raw.write(arguments.csv)
    print(f"{len(expected[0])} trials, {len(expected[1])} steps; {alone_s:.0f} s alone, {killed_s:.0f} s with kills")
    same = expected == found and specs[0] == specs[1]
    print("every trial once, counts, walk and spec equal" if same else "THEY DIFFER")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
