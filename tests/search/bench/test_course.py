"""Samplers compared on problems whose answers are known."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from search.bench.course import run_sampler
from search.bench.named import problem_named
from search.bench.summary import floor_regret, summarise
from search.problems import nas_bench_macro
from space.errors import DataError, InvalidConfig, MobilenasError
from tests.tiny import Result

NAMES = ["".join(digits) for digits in itertools.product("012", repeat=8)]


def made_up(name: str) -> dict[str, Any]:
    """A row of the table's form: later layers say more, and larger blocks cost more."""
    digits = [int(digit) for digit in name]
    accuracy = 60 + sum(weight * digit**0.5 for weight, digit in zip(range(1, 9), digits, strict=True)) / 2
    mean = accuracy + (digits[0] == digits[7])
    return {"test_acc": [mean - 1, mean, mean + 1], "mean_acc": mean, "flops": 1e6 * (5 + 4 * sum(digits))}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """A made-up table of all networks in the published form, where the problem looks for it."""
    rows = {name: made_up(name) for name in NAMES}
    (tmp_path / nas_bench_macro.FILE).write_text(json.dumps(rows))
    monkeypatch.setenv(nas_bench_macro.WHERE, str(tmp_path))
    nas_bench_macro.table.cache_clear()
    return rows


def test_the_space_is_the_table(table: dict[str, dict[str, Any]]) -> None:
    """Its members are the table's 3^8 networks (Su et al. 2021), each once, and its best is the table's."""
    problem = problem_named("nas-bench-macro", 40.0)
    codes = problem.encoding.sample(300, np.random.default_rng(0))
    assert problem.encoding.space.size == len(table) == 6561
    for arch in problem.encoding.decode_all(codes):
        row = table[nas_bench_macro.name_of(arch)]
        assert problem.worth(arch) == pytest.approx(row["mean_acc"] / 100)
        assert problem.latency.estimate(arch) == pytest.approx(row["flops"] / 1e6)
    assert problem.best == pytest.approx(max(row["mean_acc"] for row in table.values() if row["flops"] <= 40e6) / 100)
    assert problem_named("nas-bench-macro").limit_ms == 40


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("sampler", ["feasible-first", "random", "tpe/soft", "nsga2", "evolution"])
def test_a_course_repeats_and_never_falls(sampler: str) -> None:
    """The same seed gives the same course: the best feasible top-1 after each evaluation, never above the best."""
    problem = problem_named("nas-bench-macro", 40.0)
    one, again = (run_sampler(problem, sampler, 3, 14) for _ in range(2))
    assert one.chosen == again.chosen
    assert len(one.chosen) == 14
    assert list(one.chosen) == sorted(one.chosen)
    assert problem.best is not None
    assert one.chosen[-1] <= problem.best


@pytest.mark.usefixtures("table")
def test_regrets_are_points_below_the_best() -> None:
    """Mean and worst over seeds, at the asked-for evaluations."""
    problem = problem_named("nas-bench-macro", 40.0)
    runs = [run_sampler(problem, "random", seed, 14) for seed in (3, 4)]
    assert problem.best is not None
    (summary,) = summarise(runs, problem.best, [7, 14])
    gaps = [100 * (problem.best - run.chosen[6]) for run in runs]
    assert summary.regrets[7].mean == pytest.approx(sum(gaps) / 2)
    assert min(gaps) <= summary.regrets[7].low <= summary.regrets[7].high <= max(gaps)
    assert summary.worst == pytest.approx(max(100 * (problem.best - run.chosen[-1]) for run in runs))
    assert summary.own == summary.regrets[14]  # without noise a random sampler's own choice is the best one


def test_with_noise_one_training_is_seen(table: dict[str, dict[str, Any]]) -> None:
    """The same by every sampler of equal seed, any of the three over seeds; networks are still worth the mean."""
    problem = problem_named("nas-bench-macro", 40.0, noisy=True)
    for arch in problem.encoding.decode_all(problem.encoding.sample(10, np.random.default_rng(0))):
        row = table[nas_bench_macro.name_of(arch)]
        seen = {seed: problem.look(arch, 0, seed).score for seed in range(30)}
        assert seen == {seed: problem.look(arch, 0, seed).score for seed in range(30)}
        assert sorted(set(seen.values())) == pytest.approx([each / 100 for each in row["test_acc"]])
        assert problem.worth(arch) == pytest.approx(row["mean_acc"] / 100)
    run = run_sampler(problem, "feasible-first", 3, 24)
    assert problem.best is not None
    assert 0 < run.own_choice <= problem.best


@pytest.mark.usefixtures("table")
def test_the_floor_is_what_noise_leaves() -> None:
    """Whoever trains every network within the limit once chooses the highest draw, not the best network."""
    problem = problem_named("nas-bench-macro", 15.0, noisy=True)
    assert problem.within is not None
    draws = {arch: problem.look(arch, 0, 7).score for arch in problem.within}
    assert problem.floor(7) == problem.worth(max(problem.within, key=lambda arch: draws[arch]))
    assert problem.best is not None
    assert floor_regret([problem.best, problem.best - 0.01], problem.best) == pytest.approx(0.5)


def test_other_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file and one of another content are told with the remedy."""
    monkeypatch.setenv(nas_bench_macro.WHERE, str(tmp_path))
    for content, message in ((None, "cannot be read"), ("{}", "is not the table"), ("[1", "is not the table")):
        if content is not None:
            (tmp_path / nas_bench_macro.FILE).write_text(content)
        nas_bench_macro.table.cache_clear()
        with pytest.raises(DataError, match=message):
            nas_bench_macro.table()


@pytest.mark.usefixtures("table")
def test_a_sampler_of_ones_own_competes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a problem of ours it is imported from the working directory."""
    (tmp_path / "drawing.py").write_text("from optuna.samplers import RandomSampler as Drawn\n")
    monkeypatch.chdir(tmp_path)
    problem = problem_named("nas-bench-macro", 40.0)
    assert run_sampler(problem, "drawing:Drawn", 5, 8).chosen == run_sampler(problem, "random", 5, 8).chosen


@pytest.mark.usefixtures("table")
def test_a_sampler_of_ones_own_may_know_the_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes `problem=` can keep the limits, which it sees for any member before anything is trained."""
    (tmp_path / "knowing.py").write_text(
        "import optuna\n\n\nclass Cheapest(optuna.samplers.RandomSampler):\n"
        "    def __init__(self, seed, problem):\n        super().__init__(seed=seed)\n"
        "        costs = problem.costs(problem.encoding.sample(20, __import__('numpy').random.default_rng(0)))\n"
        "        assert costs.shape == (20, 4) and (problem.violation(costs) == 0).any()\n"
        "        assert (problem.violation(costs) > 0).tolist() == (costs[:, 0] > 40).tolist()\n"
        "        assert problem.rungs == (1.0,)\n"
    )
    monkeypatch.chdir(tmp_path)
    problem = problem_named("nas-bench-macro", 40.0)
    assert run_sampler(problem, "knowing:Cheapest", 5, 3).chosen == run_sampler(problem, "random", 5, 3).chosen


def own_problem(folder: Path, **changes: object) -> Path:
    """A user's problem: a file of a run, and functions beside it."""
    (folder / "my_problem.py").write_text(
        "from space.cost import cost_of\n\n\ndef top1(arch):\n    return 1 - 1 / cost_of(arch).params ** 0.2\n\n\n"
        "def ms(arch):\n    return cost_of(arch).madds / 1e6\n\n\ndef broken(arch):\n    return 1 / 0\n"
    )
    content = {
        "evaluator": "my_problem:top1",
        "latency": "my_problem:ms",
        "data": {"source": "none", "resolution": 32, "channels": 1, "classes": 10},
        **changes,
    }
    path = folder / "problem.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_problem_of_ones_own(tmp_path: Path) -> None:
    """A relative target is a share of the reference's latency; a file without functions is no problem."""
    posed = problem_named(str(own_problem(tmp_path, target={"relative": 0.5})))
    assert posed.limit_ms == pytest.approx(0.5 * posed.latency.estimate(posed.encoding.space.reference))
    assert posed.best is None  # too large to be listed
    with pytest.raises(InvalidConfig, match="needs `evaluator`, `latency`"):
        problem_named(str(own_problem(tmp_path, evaluator=None, data={"source": "fashion-mnist"})))
    with pytest.raises(MobilenasError, match="neither nas-bench-macro nor a YAML file"):
        problem_named("nas-bench-marco")


def test_all_limits_of_a_problem_hold(tmp_path: Path) -> None:
    """Limits beside the latency count, and what cannot be compared, met or evaluated is refused with the value."""
    path = str(own_problem(tmp_path, limits={"params": 250_000}))
    posed = problem_named(path)
    for sampler in ("random", "feasible-first"):
        run = run_sampler(posed, sampler, 0, 12)
        assert 0 < run.chosen[-1] <= 1 - 1 / 250_000**0.2
    with pytest.raises(InvalidConfig, match="'tpes' is neither one of feasible-first, tpe"):
        run_sampler(posed, "tpes/soft", 0, 1)
    with pytest.raises(MobilenasError, match="found no network within 1e-06"):
        run_sampler(problem_named(path, 1e-6), "feasible-first", 0, 3)
    for limit in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(InvalidConfig, match="must be a positive number"):
            problem_named(path, limit)
    with pytest.raises(InvalidConfig, match=r"blocks\.reward, but samplers are compared by top-1"):
        problem_named(str(own_problem(tmp_path, blocks={"reward": {"kind": "soft"}})))
    with pytest.raises(InvalidConfig, match=r"my_problem:top1 takes no seed=.*leave --noise out"):
        problem_named(str(own_problem(tmp_path)), noisy=True)
    failing = problem_named(str(own_problem(tmp_path, evaluator="my_problem:broken")))
    with pytest.raises(MobilenasError, match="evaluator my_problem:broken failed: ZeroDivisionError"):
        run_sampler(failing, "random", 0, 1)


@pytest.mark.slow
def test_the_command_compares(tmp_path: Path, mobilenas: Callable[..., Result]) -> None:
    """`bench samplers` prints a line per sampler and writes every course; a failing sampler of one's own is named."""
    path, out = own_problem(tmp_path), tmp_path / "courses.json"
    done = mobilenas(
        *("bench", "samplers", "--problem", path, "--sampler", "random", "--sampler", "evolution"),
        *("--seeds", "2", "--evaluations", "6", "--workers", "2", "--out", out),
    )
    assert done.code == 0, done.err
    (found,) = json.loads(out.read_text())
    assert [summary["sampler"] for summary in found["summaries"]] == ["random", "evolution"]
    assert [len(run["chosen"]) for run in found["runs"]] == [6] * 4
    failed = mobilenas("bench", "samplers", "--problem", path, "--sampler", "my_problem:top1", "--seeds", "1")
    assert failed.code == 2
    assert failed.err.startswith("error: sampler my_problem:top1 failed: TypeError")
    assert failed.err.count("\n") == 1
