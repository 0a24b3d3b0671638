"""The command `bench samplers`."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from search.bench.course import ASHA, SamplerRun, Summary, run_sampler, summarise
from search.bench.named import problem_named
from search.bench.problem import Problem
from search.problems import nas_bench_macro
from service.terminal.console import console, say
from service.terminal.rows import show
from space.errors import InvalidConfig, RunError

COMPARED = ("feasible-first", "random", "tpe", "tpe/soft", "nsga2", "evolution")
# Where trainings can be stopped early, each is compared with that and without.
COMPARED_ON_RUNGS = tuple(name + way for name in ("feasible-first", "random", "tpe", "evolution") for way in ("", ASHA))
SHOWN = (1, 2, 5, 10, 20, 50, 100, 150, 200)


def samplers(
    problem: str,
    names: Sequence[str],
    *,
    seeds: int,
    first_seed: int,
    evaluations: int | None,
    limits: Sequence[float],
    data_dir: Path | None,
    workers: int,
    out: Path | None,
) -> None:
    """The command: every sampler with every seed under every limit, side by side."""
    if data_dir is not None:
        os.environ[nas_bench_macro.WHERE] = str(_folder_of(data_dir))
    found = []
    wanted: Sequence[float | None] = limits or [None]
    for limit in wanted:
        posed = problem_named(problem, limit)
        best, wanted_names = posed.best, list(names) or list(COMPARED if len(posed.costs) == 1 else COMPARED_ON_RUNGS)
        count = evaluations or posed.evaluations
        at = [*[shown for shown in SHOWN if shown < count][-3:], count]
        runs = _runs(posed, problem, wanted_names, range(first_seed, first_seed + seeds), count, workers)
        summaries = summarise(runs, best, at)
        _print(posed, summaries, best, at)
        found.append(
            {
                "problem": problem,
                "limit_ms": posed.limit_ms,
                "best_top1": best,
                "evaluations": count,
                "samplers": [asdict(summary) for summary in summaries],
                "courses": [asdict(run) for run in runs],
            }
        )
    if out is not None:
        try:
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{out} cannot be written: {error.strerror}; choose another --out") from error


def _folder_of(data_dir: Path) -> Path:
    """The folder that holds the table, or a folder beside others that does."""
    beside = data_dir / "nas_bench_macro"
    return beside if beside.is_dir() else data_dir


def _runs(
    posed: Problem, problem: str, names: list[str], seeds: range, evaluations: int, workers: int
) -> list[SamplerRun]:
    jobs = [(problem, posed.limit_ms, name, seed, evaluations) for name in names for seed in seeds]
    title = f"{posed.name} within {posed.limit_ms:g}"
    try:
        for name in names:
            run_sampler(posed, name, seeds[0], 1)  # what is misspelt is told before hundreds of processes find out
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(track(pool.map(_run_sampler, jobs), title, total=len(jobs), console=console))
    except KeyboardInterrupt as error:
        raise RunError("stopped; nothing was written") from error


def _run_sampler(job: tuple[str, float, str, int, int]) -> SamplerRun:
    problem, limit_ms, name, seed, evaluations = job
    return run_sampler(problem_named(problem, limit_ms), name, seed, evaluations)


def _print(posed: Problem, summaries: Sequence[Summary], best: float | None, at: Sequence[int]) -> None:
    rows = [
        {
            "sampler": summary.sampler,
            **{f"at {count}": f"{summary.regrets[count]:.3f}" for count in at},
            f"worst at {at[-1]}": f"{summary.worst[at[-1]]:.3f}",
            "found the best": f"{summary.found:.0%}",
            "networks": f"{summary.networks:.0f}",
            "ms": f"{summary.propose_ms:.1f}",
        }
        for summary in summaries
    ]
    known = f"the best possible top-1 is {best:.4%}" if best is not None else "relative to the best that any run found"
    show(
        f"mean regret in percentage points over {summaries[0].seeds} seeds, within {posed.limit_ms:g} ms; {known}",
        rows,
        "table",
        shown=list(rows[0]),
        types={},
    )
    say(
        "at N: after N evaluations, or what costs as much; networks: trained, if only a little; "
        "ms: median time to propose one"
    )


def check_workers(workers: int | None) -> int:
    """The asked-for number of processes, by default one per core."""
    from search.plan import available_cores

    if workers is not None and workers < 1:
        raise InvalidConfig(f"--workers is {workers}; it must be at least 1")
    return workers or len(available_cores())
