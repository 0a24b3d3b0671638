"""The command `bench samplers`."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from search.bench import Problem, SamplerRun, Summary, problem_named, run_sampler, summarise
from search.problems import nas_bench_macro
from service.terminal.console import console, say
from service.terminal.rows import show
from space.errors import InvalidConfig, RunError

COMPARED = ("feasible-first", "random", "tpe", "tpe/soft", "nsga2", "evolution")


def samplers(
    problem: str,
    names: Sequence[str],
    *,
    seeds: int,
    first_seed: int,
    evaluations: int,
    limits: Sequence[float],
    data_dir: Path | None,
    workers: int,
    out: Path | None,
) -> None:
    """The command: every sampler with every seed under every limit, side by side."""
    if data_dir is not None:
        os.environ[nas_bench_macro.WHERE] = str(_folder_of(data_dir))
    at = [count for count in (50, 100, 150, 200) if count < evaluations] + [evaluations]
    found = []
    wanted: Sequence[float | None] = limits or [None]
    for limit in wanted:
        posed = problem_named(problem, limit)
        best = posed.best
        runs = _runs(
            posed, problem, list(names or COMPARED), range(first_seed, first_seed + seeds), evaluations, workers
        )
        summaries = summarise(runs, best, at)
        _print(posed, summaries, best, at)
        found.append(
            {
                "problem": problem,
                "limit_ms": posed.limit_ms,
                "best_top1": best,
                "evaluations": evaluations,
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
    title = f"{posed.config.space.preset if posed.best is None else problem} within {posed.limit_ms:g}"
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
    say("at N: after N evaluations; ms: median time to propose a network")


def check_workers(workers: int | None) -> int:
    """The asked-for number of processes, by default one per core."""
    from search.plan import available_cores

    if workers is not None and workers < 1:
        raise InvalidConfig(f"--workers is {workers}; it must be at least 1")
    return workers or len(available_cores())
