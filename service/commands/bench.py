"""The commands `bench samplers` and `proxy-quality`."""

import csv
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from rich.progress import track

from search.bench.course import ASHA, SamplerRun, run_sampler
from search.bench.curves import CurvesProblem
from search.bench.named import problem_named
from search.bench.problem import Problem
from search.bench.proxies import NEAR, TOPS, qualities, read_signals
from search.bench.recorded import recorded_curves
from search.bench.summary import Mean, Summary, floor_regret, summarise
from search.config.load import RunConfig
from search.problems import nas_bench_macro
from search.record.rows import SignalQuality
from search.record.store import Store
from service.commands import search
from service.terminal.console import console, say
from service.terminal.rows import Format, show
from service.terminal.wording import counted
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
    noisy: bool,
    data_dir: Path | None,
    workers: int,
    out: Path | None,
) -> None:
    """The command: every sampler with every seed under every limit, side by side."""
    if data_dir is not None:
        os.environ[nas_bench_macro.WHERE] = str(_folder_of(data_dir))
    if out is not None and out.suffix not in (".json", ".csv"):
        raise InvalidConfig(f"--out {out} is neither a .json nor a .csv file")
    wanted: Sequence[float | None] = limits or [None]
    compared = [
        _compared(
            problem_named(problem, limit, noisy=noisy),
            problem,
            names,
            range(first_seed, first_seed + seeds),
            evaluations,
            workers,
        )
        for limit in wanted
    ]
    if out is not None:
        _write(out, compared)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Samplers within one limit."""

    problem: str
    limit_ms: float
    unit: str
    best: float | None
    floor: float | None
    """The regret in percentage points that is left when all is trained."""
    evaluations: int
    summaries: list[Summary]
    runs: list[SamplerRun]


def _compared(
    posed: Problem, problem: str, names: Sequence[str], seeds: range, evaluations: int | None, workers: int
) -> _Compared:
    count = evaluations or posed.evaluations
    at = [*[shown for shown in SHOWN if shown < count][-3:], count]
    wanted = list(names) or list(COMPARED if len(posed.costs) == 1 else COMPARED_ON_RUNGS)
    best = posed.best
    runs = _runs(posed, problem, wanted, seeds, count, workers)
    floor = None
    if best is not None and posed.noisy:
        floor = floor_regret([worth for seed in seeds if (worth := posed.floor(seed)) is not None], best)
    compared = _Compared(
        problem=problem,
        limit_ms=posed.limit_ms,
        unit=posed.unit,
        best=best,
        floor=floor,
        evaluations=count,
        summaries=summarise(runs, best, at),
        runs=runs,
    )
    _print(posed, compared, at)
    return compared


def _write(out: Path, compared: Sequence[_Compared]) -> None:
    """All there is as JSON, or every run's course as CSV."""
    try:
        if out.suffix == ".json":
            out.write_text(json.dumps([asdict(each) for each in compared], indent=1) + "\n", encoding="utf-8")
            return
        with out.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("problem", "limit", "unit", "sampler", "seed", "evaluations", "top1", "best_top1"))
            for each in compared:
                common = (each.problem, each.limit_ms, each.unit)
                writer.writerows(
                    (*common, run.sampler, run.seed, number, top1, each.best)
                    for run in each.runs
                    for number, top1 in enumerate(run.chosen, start=1)
                )
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}; choose another --out") from error


def _folder_of(data_dir: Path) -> Path:
    """The folder that holds the table, or a folder beside others that does."""
    beside = data_dir / "nas_bench_macro"
    return beside if beside.is_dir() else data_dir


def _runs(
    posed: Problem, problem: str, names: list[str], seeds: range, evaluations: int, workers: int
) -> list[SamplerRun]:
    jobs = [(problem, posed.limit_ms, posed.noisy, name, seed, evaluations) for name in names for seed in seeds]
    title = f"{posed.name} within {posed.limit_ms:g}"
    try:
        for name in names:
            run_sampler(posed, name, seeds[0], 1)  # what is misspelt is told before hundreds of processes find out
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(track(pool.map(_run_sampler, jobs), title, total=len(jobs), console=console))
    except KeyboardInterrupt as error:
        raise RunError("stopped; nothing was written") from error


def _run_sampler(job: tuple[str, float, bool, str, int, int]) -> SamplerRun:
    problem, limit_ms, noisy, name, seed, evaluations = job
    return run_sampler(problem_named(problem, limit_ms, noisy=noisy), name, seed, evaluations)


def _print(posed: Problem, compared: _Compared, at: Sequence[int]) -> None:
    last, summaries = at[-1], compared.summaries
    best = compared.best
    known = f"the best possible top-1 is {best:.4%}" if best is not None else "relative to the best that any run found"
    if compared.floor is not None:
        known += f"; with every network trained {compared.floor:.3f} would be left"
    regrets = [
        {
            "sampler": summary.sampler,
            **{f"at {count}": f"{summary.regrets[count].mean:.3f}" for count in at},
            "anytime": f"{summary.anytime.mean:.3f}",
            "worst": f"{summary.worst:.3f}",
            "found best": f"{summary.found:.0%}",
        }
        for summary in summaries
    ]
    title = f"mean regret in percentage points over {summaries[0].seeds} seeds, within {posed.limit_ms:g} {posed.unit}"
    show(f"{title}; {known}", regrets, "table", shown=list(regrets[0]), types={})
    say(
        "at N: after N evaluations, or what costs as much, by the best score; anytime: the mean of all; "
        f"worst, found best: at {last}"
    )
    ends = [
        {
            "sampler": summary.sampler,
            "95% interval": _interval(summary.regrets[last]),
            "own choice": f"{summary.own.mean:.3f}",
            f"more than {summaries[0].sampler}": "" if summary.to_first is None else _interval(summary.to_first),
            "networks": f"{summary.networks:.0f}",
            "ms": f"{summary.propose_ms:.1f}",
        }
        for summary in summaries
    ]
    show(f"the same at {last}", ends, "table", shown=list(ends[0]), types={})
    say("own choice: by the sampler itself; networks: trained, if only a little; ms: median to propose one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose networks are looked at: those of a table, of searches, or of one that is still to be made."""

    table: Path | None
    names: Sequence[str]
    config: RunConfig | None
    networks: int

    def check(self) -> None:
        """See that exactly one of them is named.

        Raises:
            InvalidConfig: none or several are.
        """
        if sum((self.table is not None, bool(self.names), self.config is not None)) != 1:
            raise InvalidConfig("say whose networks: names of searches, --table CURVES.csv, or --config RUN.yaml")


def proxy_quality(
    asked: Asked,
    *,
    limit: float | None,
    signals: Path | None,
    form: Format,
    out: Path | None,
    database: str,
    runs: Path,
) -> None:
    """The command: every signal over all networks, and over those that are near a limit of latency."""
    asked.check()
    own = read_signals(signals) if signals else []
    if asked.table is not None:
        problem = CurvesProblem.read(asked.table, limit)
        title, curves, near, truth = asked.table.stem, problem.curves, problem.limit_ms, "the test split"
        found = []
    else:
        names = asked.names
        if asked.config is not None:
            names = [search.run_alone(as_study(asked.config, asked.networks), database, runs)]
        with closing(Store.open(database)) as store:
            known = recorded_curves(store, names)
            title, curves, truth = ", ".join(names), known.curves, "the reward split"
            near = known.target_ms if limit is None else limit
            found = qualities(curves, near)
            store.signals.put(known.looked_at, title, found)
    if own or not found:
        found = qualities(curves, near, own)
    if not found:
        spoken_of = f" and that every signal of {signals} speaks of" if signals else ""
        raise RunError(
            f"{title} has {len(curves)} networks that were all trained to the end with one seed{spoken_of}: too few; "
            "train more of them, say by --config RUN.yaml"
        )
    if form != "table" or out is not None:
        plain = [_plain(each) for each in found]
        types = {name: type(value) for name, value in plain[0].items()}
        show("signals", plain, form, shown=list(types), types=types, out=out)
        return
    for where in dict.fromkeys(each.compared for each in found):
        here = [each for each in found if each.compared == where]
        told = [_told(each) for each in here]
        trainings = counted(here[0].trainings, "training")
        show(
            f"{title}, {where}: {here[0].networks} networks, {trainings} of each",
            told,
            "table",
            shown=list(told[0]),
            types={},
        )
        if here[0].trainings == 1:
            say("with one training each a signal and what it is held against share their luck: tau is too high")
    say(
        f"tau: Kendall's, with the top-1 on {truth} at the end; best N: points of top-1 lost where so many of a "
        "signal's best are trained to the end; s: seconds of one core for each network"
    )


def as_study(config: RunConfig, networks: int) -> RunConfig:
    """A race that nobody leaves: so many networks at random, on each rung and to the end.

    Raises:
        InvalidConfig: the configuration does not race.
    """
    if not config.races:
        raise InvalidConfig(
            "only races look at networks before their end; leave counts, `evaluator` and `netadapt` out"
        )
    rungs = tuple(rung.model_copy(update={"networks": networks}) for rung in config.race.rungs)
    return config.model_copy(
        update={
            "race": config.race.model_copy(
                update={"rungs": rungs, "fills_budget": False, "prior": False, "latency_from": 1 - NEAR}
            ),
            "final": config.final.model_copy(update={"top_k": networks}),
            "blocks": config.blocks.model_copy(
                update={"sampler": "random", "warm_start": False, "enqueue": (), "start_from": (), "objectives": ()}
            ),
        }
    )


def _told(quality: SignalQuality) -> dict[str, str]:
    is_known = not math.isnan(quality.tau)
    return {
        "signal": quality.signal,
        "tau": f"{quality.tau:.2f}" if is_known else "",
        "95% interval": f"{quality.low:.2f} to {quality.high:.2f}" if is_known else "",
        **{f"best {top}": f"{lost:.2f}" for top, lost in quality.regrets.items()},
        "s": "" if quality.seconds is None else f"{quality.seconds:.0f}",
    }


def _plain(quality: SignalQuality) -> dict[str, object]:
    """With a column for each number of best ones."""
    regrets = {f"regret_best_{top}": quality.regrets.get(top) for top in TOPS}
    return {name: value for name, value in quality.to_plain().items() if name != "regrets"} | regrets


def _interval(mean: Mean) -> str:
    return f"{mean.low:.3f} to {mean.high:.3f}"


def check_workers(workers: int | None) -> int:
    """The asked-for number of processes, by default one per core."""
    from search.plan import available_cores

    if workers is not None and workers < 1:
        raise InvalidConfig(f"--workers is {workers}; it must be at least 1")
    return workers or len(available_cores())
