"""Problems by name: ours, a run configuration of the user's, or a table of learning curves."""

import math
from pathlib import Path

from search.bench.curves import CurvesProblem
from search.bench.problem import OwnProblem, Problem
from search.config.load import load_config
from space.errors import InvalidConfig

PROBLEMS = {"nas-bench-macro": "nas_bench_macro.yaml"}
# What stands in for ms.
UNITS = {"nas-bench-macro": "M multiply-adds"}


def problem_named(name: str, limit_ms: float | None = None, *, noisy: bool = False) -> Problem:
    """A problem of ours, or one of the user's: a run configuration (YAML), or learning curves (CSV).

    With noise samplers see one training of each network, and are still judged by what networks are worth in truth.

    Raises:
        InvalidConfig: it is none of them, or lacks an evaluator or a latency of its own.
        DataError: the file of learning curves is none.
    """
    if limit_ms is not None and not 0 < limit_ms < math.inf:
        raise InvalidConfig(f"limit {limit_ms:g} must be a positive number")
    if name.endswith(".csv"):
        return CurvesProblem.read(Path(name), limit_ms, noisy=noisy)
    if name in PROBLEMS:
        folder = Path(__file__).parents[1] / "problems"
        # A sampler of the user's lies beside the user's problem; for a problem of ours, where the command is given.
        config = load_config(folder / PROBLEMS[name]).model_copy(update={"plugins": str(Path.cwd())})
        preset = folder / Path(config.space.chosen[0]).name
        if preset.exists():
            config = config.model_copy(update={"space": config.space.model_copy(update={"preset": str(preset)})})
    elif name.endswith((".yaml", ".yml")):
        config = load_config(Path(name)).from_anywhere()
    else:
        raise InvalidConfig(
            f"problem {name!r} is neither {', '.join(PROBLEMS)} nor a YAML file of a run nor a CSV file of curves"
        )
    if config.evaluator is None or config.latency is None or config.data.source != "none":
        raise InvalidConfig(f"problem {name!r} needs `evaluator`, `latency` and data.source none")
    if config.blocks.objectives or config.blocks.reward.kind != "hard":
        raise InvalidConfig(
            f"problem {name!r} sets blocks.objectives or blocks.reward, but samplers are compared by top-1 within the "
            "limits: leave them out"
        )
    return OwnProblem.of(name, config, limit_ms, unit=UNITS.get(name, "ms"), noisy=noisy)
