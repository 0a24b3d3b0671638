"""What one proposal of the default sampler costs as trials add up, in small and large spaces.

    PYTHONPATH=. OMP_NUM_THREADS=1 .venv/bin/python benchmarks/proposals.py

Trials are made up: random members within the limit, with a top-1 that depends on kernels and squeeze-and-excite. Times
are medians over proposals, the fit of the surrogate included; "alone" is `search.samplers.feasible_first.propose`,
"in a search" is the whole way through Optuna's study as a coordinator takes it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.prediction_rate import made_up_table
from benchmarks.raw import Raw
from search.objective.latency import DeviceLatency, Goal
from search.objective.limits import Limits
from search.objective.objective import Objective
from search.objective.reward import HARD
from search.samplers.feasible_first import propose
from search.samplers.proposer import Proposer
from search.trial import Scores, SearchStage, State, Trial
from space.choices import SearchSpace
from space.encoding import Codes, Encoding
from space.preset import load_preset
from space.variation.moves import canonical

SPACES = (("mobilenet-v3-small-32px", 32), ("mobilenet-v3-large", 224), ("ofa-mbv3", 224))
COUNTS = (100, 300, 1000)


def times_ms(calls: Sequence[Callable[[], object]]) -> list[float]:
    """The time of each of some calls."""
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    """Print a line per space and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, default=None, help="file to add the raw figures to")
    arguments, raw = parser.parse_args(), Raw("proposals")
    print(f"{'space':<26}{'members':>10}{'trials':>8}{'alone, ms':>12}{'in a search, ms':>18}")
    for name, resolution in SPACES:
        space = SearchSpace(preset=load_preset(name), width=1.0, resolution=resolution, in_channels=3, num_classes=1000)
        encoding, rng = Encoding(space), np.random.default_rng(0)
        drawn = canonical(encoding, encoding.sample(4000, rng))
        latency = DeviceLatency((Goal(table_id=1, table=made_up_table(space), meter=None, target_ms=1.0),))
        latencies_ms = latency.of_codes(encoding)(drawn)
        limit_ms = float(np.quantile(latencies_ms, 0.4))
        objective = Objective(
            encoding=encoding,
            latency=latency,
            limits=Limits(latency_ms=limit_ms),
            reward_of=HARD,
            target_ms=limit_ms,
        )
        feasible = np.unique(drawn[latencies_ms <= limit_ms], axis=0)
        weights = rng.normal(size=feasible.shape[1])
        top1 = 0.5 + 0.3 * np.tanh((feasible @ weights - (feasible @ weights).mean()) / 10)
        nothing: Codes = feasible[:0]
        for count in COUNTS:
            known, found = feasible[:count], top1[:count]

            given = {"known": known, "top1": found, "pending": nothing, "excluded": nothing}
            proposer = Proposer(objective, "feasible-first", seed=0)
            for number, (code, value) in enumerate(zip(known, found, strict=True)):
                arch = encoding.decode(code)
                trial = Trial(
                    number=number,
                    stage=SearchStage.BLOCKS,
                    state=State.COMPLETE,
                    origin="made up",
                    architecture=arch,
                    scores=Scores.from_costs(float(value), objective.costs(code[None])[0]),
                    seed=0,
                    params=encoding.decode_params(code),
                )
                proposer.tell(trial, float(value))

            alone = times_ms([partial(propose, objective, rng=np.random.default_rng(n), **given) for n in range(9)])
            in_search = times_ms([partial(proposer.ask, count + n) for n in range(9)])
            for repeat, (one, other) in enumerate(zip(alone, in_search, strict=True)):
                raw.add(space=name, trials=count, repeat=repeat, alone_ms=one, in_search_ms=other)
            medians = f"{statistics.median(alone):>12.1f}{statistics.median(in_search):>18.1f}"
            print(f"{name:<26}{float(space.size):>10.0e}{count:>8,}{medians}")
    raw.write(arguments.csv)


if __name__ == "__main__":
    main()
