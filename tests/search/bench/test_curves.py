"""Learning curves of listed networks as a problem for samplers."""

import csv
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.bench.course import run_sampler
from search.bench.curves import CurvesProblem
from search.bench.named import problem_named
from space.choices import SearchSpace
from space.cost import cost_of
from space.errors import DataError, InvalidConfig
from space.preset import load_preset
from space.variation.moves import canonical
from tests.tiny import Result

PRESET, WIDTH = "mobilenet-v3-small-32px", 0.5
IMAGES = (3000, 6000, 12000, 24000, 48000, 60000)
Row = dict[str, object]


def write(path: Path, rows: list[Row]) -> None:
    """A CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def made_up(count: int = 14, noise: float = 0.01) -> tuple[list[Row], list[Row]]:
    """Rows of networks, the reference first, which is no member, and of curves: larger ones end higher."""
    space = SearchSpace(preset=load_preset(PRESET), width=WIDTH, resolution=28, in_channels=1, num_classes=10)
    rng = random.Random(5)
    members = [space.reference, *(space.sample(rng) for _ in range(count - 1))]
    networks: list[Row] = []
    points: list[Row] = []
    for number, arch in enumerate(members):
        name, madds = f"net-{number}", cost_of(arch).madds
        ms = madds / 1e8
        networks.append({"network": name, "space": PRESET, "width": WIDTH, "predicted_ms": ms, "spec": arch.to_json()})
        for seed in (0, 1):
            for images in IMAGES:
                top1 = 0.9 - 3e4 / madds - 100 / images + rng.uniform(-noise, noise)
                row = {"network": name, "seed": seed, "images": images}
                points.append({**row, "reward_top1": top1, "reward_ll": top1 - 1, "test_top1": top1 - 0.01})
    return networks, points


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table whose networks are all within the limit of 9 ms."""
    networks, points = made_up()
    write(tmp_path / "made-up-networks.csv", networks)
    write(tmp_path / "made-up.csv", points)
    return tmp_path / "made-up.csv"


def test_members_stand_for_the_nearest_listed_network(table: Path) -> None:
    """Listed ones for themselves, others for one that no listed network beats in the number of equal choices."""
    problem = CurvesProblem.read(table, 9.0)
    encoding = problem.encoding
    listed = [curve.arch for curve in problem.curves]
    assert [problem.stands_for(arch) for arch in listed] == listed
    rows = {arch.arch_id: canonical(encoding, encoding.encode(arch)[None])[0] for arch in listed}
    for arch in encoding.decode_all(encoding.sample(40, np.random.default_rng(0))):
        row = canonical(encoding, encoding.encode(arch)[None])[0]
        differing = {arch_id: int((row != other).sum()) for arch_id, other in rows.items()}
        found = problem.stands_for(arch)
        assert differing[found.arch_id] == min(differing.values())
        assert problem.latency.estimate(arch) == problem.latency.estimate(found)


def test_a_look_is_of_one_training_and_the_worth_of_all(table: Path) -> None:
    """With noise a run sees one training, by its seed, else the mean of all; the worth is their mean at the end."""
    problem = CurvesProblem.read(table, 9.0, noisy=True)
    assert problem.rungs == (3000, 6000, 12000, 24000, 60000)  # 48,000 lies behind the fork to the end
    assert problem.costs == (0.05, 0.1, 0.2, 0.4, 1.0)
    for curve in problem.curves:
        seen = {problem.look(curve.arch, 4, seed).top1 for seed in range(30)}
        assert seen == {points[60000].reward_top1 for points in curve.points.values()}
        mean = replace(problem, noisy=False).look(curve.arch, 4, 0)
        assert mean.top1 == pytest.approx(np.mean([p[60000].reward_top1 for p in curve.points.values()]))
        assert problem.worth(curve.arch) == pytest.approx(np.mean([p[60000].test_top1 for p in curve.points.values()]))
    assert problem.best == max(problem.worth(curve.arch) for curve in problem.curves)


@pytest.mark.parametrize("sampler", ["random", "random/asha", "evolution/soft/asha"])
def test_with_all_trained_the_best_that_was_seen_is_chosen(table: Path, sampler: str) -> None:
    """However it got there: a sampler that may train every network to the end chooses the highest log-likelihood."""
    problem = CurvesProblem.read(table, 9.0, noisy=True)
    run = run_sampler(problem, sampler, 3, len(problem.curves))
    last = len(problem.rungs) - 1
    best = max((curve.arch for curve in problem.curves), key=lambda arch: problem.look(arch, last, 3).score)
    assert run.networks == len(problem.curves)
    assert run.chosen[-1] == problem.worth(best)
    assert run_sampler(problem, sampler, 3, len(problem.curves)).chosen == run.chosen


def test_stopping_early_sees_more_networks_at_equal_cost(table: Path) -> None:
    """By ASHA (Li et al. 2020): without noise between seeds and rungs it knows the best after a few whole trainings."""
    _, points = made_up(noise=0.0)
    write(table, points)
    problem = CurvesProblem.read(table, 9.0)
    runs = {name: [run_sampler(problem, name, seed, 3) for seed in range(6)] for name in ("random", "random/asha")}
    assert all(run.networks == 3 for run in runs["random"])
    assert all(run.networks > 6 for run in runs["random/asha"])
    means = {name: np.mean([run.chosen[-1] for run in each]) for name, each in runs.items()}
    assert means["random/asha"] > means["random"]


def test_limits_hold(table: Path) -> None:
    """What is too slow is neither chosen nor the best, and the usual limit is a share of the reference's latency."""
    problem = CurvesProblem.read(table)
    assert problem.limit_ms == pytest.approx(0.8 * 1.03 * cost_of(problem.space.reference).madds / 1e8)
    within = {curve.worth for curve in problem.curves if curve.ms <= problem.limit_ms}
    assert 0 < len(within) < len(problem.curves)
    assert set(run_sampler(problem, "random/asha", 0, 6).chosen) <= {*within, 0.0}
    with pytest.raises(DataError, match=r"within 0.001 ms; raise the limit"):
        CurvesProblem.read(table, 0.001)


def test_only_curves_have_rungs(tmp_path: Path) -> None:
    """Stopping early is refused where there is nothing to be seen on the way."""
    (tmp_path / "mine.py").write_text("def top1(arch):\n    return 0.5\n\n\ndef ms(arch):\n    return 1.0\n")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "evaluator: mine:top1\nlatency: mine:ms\ndata: {source: none, resolution: 32, channels: 1, classes: 10}\n"
    )
    with pytest.raises(InvalidConfig, match="knows their ends alone; leave /asha out"):
        run_sampler(problem_named(str(path)), "random/asha", 0, 3)


def test_bad_tables_are_refused_with_the_row(table: Path) -> None:
    """Missing files, columns and rows, numbers that are none, and networks of several spaces."""
    networks, points = made_up(count=4)
    listed = table.with_name("made-up-networks.csv")

    def refused(match: str, path: Path, rows: list[Row] | bytes) -> None:
        kept = path.read_bytes()
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            write(path, rows)
        with pytest.raises(DataError, match=match):
            CurvesProblem.read(table, 9.0)
        path.write_bytes(kept)

    refused("row 2: there is no column 'reward_ll'", table, [{"network": "net-0", "reward_top1": 0.5}])
    refused("row 2: .*not between 0 and 1", table, [{**points[0], "reward_top1": "nan"}])
    refused("row 3: .*not finite", table, [points[0], {**points[1], "reward_ll": "-inf"}])
    refused("no curve from beginning to end", table, [points[0], {**points[12], "images": 6000}])
    refused("is no CSV file", table, b"\xff\xfe\x00")
    refused("row 3: .*no positive number", listed, [networks[0], {**networks[1], "predicted_ms": -1}])
    refused("row 2: the spec has version None", listed, [{**networks[0], "spec": "{}"}])
    refused("2 spaces", listed, [networks[0], {**networks[1], "width": 1.0}])
    listed.unlink()
    with pytest.raises(DataError, match=r"networks\.csv cannot be read: No such file"):
        problem_named(str(table), 9.0)


def test_the_published_table_is_a_problem() -> None:
    """Whatever it holds so far: members that were trained from beginning to end, some of them within the limit."""
    problem = CurvesProblem.read(Path(__file__).parents[3] / "benchmarks" / "curves" / "fashion-mnist.csv")
    assert problem.rungs == (3000, 6000, 12000, 24000, 60000)
    assert problem.best is not None
    assert 0.85 < problem.best < 0.95
    assert len(problem.within) > 10


@pytest.mark.slow
def test_the_command_compares_with_and_without_stopping(table: Path, mobilenas: Callable[..., Result]) -> None:
    """`bench samplers` on learning curves compares each of ours in both ways, at the cost of whole trainings."""
    done = mobilenas("bench", "samplers", "--problem", table, "--seeds", "2", "--evaluations", "3", "--workers", "2")
    assert done.code == 0, done.err
    assert "random/asha" in done.out
    assert "tpe" in done.out
