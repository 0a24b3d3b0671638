"""The commands that compare."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.options import DATABASE, RUNS, SEARCH, Config, Data, Database, DataDir, Runs

bench_app = typer.Typer(help="Compare samplers on problems whose answers are known.", no_args_is_help=True)


@bench_app.callback()
def bench() -> None:
    """Keep `samplers` a command of its own, whatever others there will be."""


@bench_app.command()
def samplers(
    problem: Annotated[
        str,
        typer.Option(
            help="nas-bench-macro, a YAML file of a run with your own callables, or a CSV file of learning curves."
        ),
    ] = "nas-bench-macro",
    sampler: Annotated[
        list[str] | None,
        typer.Option(
            help="Sampler as in a run; with /soft it ignores the limits, with /asha it stops trainings early, where "
            "there are learning curves; repeatable; default: all of ours.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of runs per sampler, each with its own seed.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first run.")] = 0,
    evaluations: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Networks that each run may train to the end, or other trainings at the same cost; default: that of "
            "the problem.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        list[float] | None,
        typer.Option(help="Latency limit; repeatable; default: that of the problem.", show_default=False),
    ] = None,
    noise: Annotated[
        Literal["none", "seed"],
        typer.Option(help="seed: samplers see one training of each network, chosen by the run's seed, not their mean."),
    ] = "none",
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds the NAS-Bench-Macro table.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; default: one per core.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write, with the course of every run: .json or .csv.")
    ] = None,
) -> None:
    """Print the mean regret of samplers (ours, Optuna's and yours) over many seeds."""
    from service.commands import bench

    bench.samplers(
        problem,
        sampler or [],
        seeds=seeds,
        first_seed=first_seed,
        evaluations=evaluations,
        limits=limit or [],
        noisy=noise == "seed",
        data_dir=data_dir,
        workers=bench.check_workers(workers),
        out=out,
    )


def proxy_quality(
    names: Annotated[
        list[str] | None, typer.Argument(help="Searches that raced, on the same data.", show_default=False)
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Instead: CSV file of learning curves, as benchmarks/curves has them.", show_default=False),
    ] = None,
    config: Config = None,
    data: Data = None,
    data_dir: DataDir = None,
    networks: Annotated[
        int,
        typer.Option(min=6, max=64, help="With --config or --data: so many are trained to the end, to compare with."),
    ] = 16,
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="For people or programs.")
    ] = "table",
    limit: Annotated[
        float | None,
        typer.Option(
            help="Latency in ms around which networks are near; default: the target; 0.82 of a table's reference.",
            show_default=False,
        ),
    ] = None,
    signals: Annotated[
        Path | None,
        typer.Option(help="CSV file of signals of your own: signal, arch_id, value, seconds.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, of --format csv or json.")] = None,
    runs: Runs = RUNS,
    database: Database = DATABASE,
) -> None:
    """Say how well cheap signals (short trainings, multiply-adds, …) order networks, and what trusting them costs."""
    from service.commands import bench, search

    own = None
    if config is not None or data is not None:
        own = search.configuration(
            config,
            name=None,
            device=None,
            data=data,
            data_dir=data_dir,
            resolution=None,
            target=None,
            seed=None,
            workers=None,
        )
    asked = bench.Asked(table=table, names=names or [], config=own, networks=networks)
    bench.proxy_quality(asked, limit=limit, signals=signals, form=form, out=out, database=database, runs=runs)


def register(app: typer.Typer) -> None:
    """Add the command that stands alone to the command line."""
    app.command("proxy-quality", rich_help_panel=SEARCH)(proxy_quality)
