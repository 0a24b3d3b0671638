"""What cheap signals say of networks, on learning curves whose truth is known."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from search.bench.curves import CurvesProblem
from search.bench.proxies import TOPS, qualities, read_signals
from search.record.rows import SignalQuality
from tests.search.bench.test_curves import IMAGES, Row, made_up, write
from tests.tiny import Result

Mobilenas = Callable[..., Result]


def table_of(folder: Path, networks: list[Row], points: list[Row]) -> Path:
    """Both files."""
    write(folder / "made-up-networks.csv", networks)
    write(folder / "made-up.csv", points)
    return folder / "made-up.csv"


def by_signal(path: Path) -> dict[str, SignalQuality]:
    """Over the whole table."""
    found = qualities(CurvesProblem.read(path, 9.0).curves, 9.0)
    return {each.signal: each for each in found if each.compared == "space"}


def test_what_orders_networks_like_their_ends_loses_nothing(tmp_path: Path) -> None:
    """Curves without noise that end higher the more multiply-adds a network has: both say all, and depth does not."""
    found = by_signal(table_of(tmp_path, *made_up(20, noise=0.0)))
    early = [f"{images:,} images, top-1" for images in IMAGES[:-1]]
    for name in ("multiply-adds", *early, "the whole training, top-1"):
        quality = found[name]
        assert [quality.tau, quality.low, quality.high] == pytest.approx([1.0, 1.0, 1.0])
        assert list(found[name].regrets.values()) == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
    assert found["depth"].tau < 0.8
    assert np.isnan(found["random order"].tau)


def test_regrets_of_a_random_order_are_those_of_drawing(tmp_path: Path) -> None:
    """One network drawn is as good as the mean; the best of four is told by the chance of each rank to be it."""
    path = table_of(tmp_path, *made_up(20, noise=0.0))
    worths = 100 * np.sort([curve.worth for curve in CurvesProblem.read(path, 9.0).curves])[::-1]
    regrets = by_signal(path)["random order"].regrets
    assert regrets[1] == pytest.approx(worths[0] - worths.mean(), rel=0.2)
    count, ranks = len(worths), np.arange(len(worths))
    others_lower = np.prod([(count - 1 - ranks - taken) / (count - 1 - taken) for taken in range(3)], axis=0)
    best = float((4 / count * others_lower * worths).sum())
    assert regrets[4] == pytest.approx(worths[0] - best, rel=0.2)


def test_a_signal_is_not_held_against_its_own_luck(tmp_path: Path) -> None:
    """Networks that differ by luck alone: with two trainings each, the end of one says little of the other's."""
    networks, points = made_up(40, noise=0.0)
    rng = np.random.default_rng(2)
    luck = {(row["network"], row["seed"]): rng.uniform(0, 0.1) for row in points}
    for row in points:
        shared = luck[row["network"], row["seed"]]
        row |= {"reward_top1": 0.8 + shared, "reward_ll": shared, "test_top1": 0.8 + shared}
    alone = [row for row in points if row["seed"] == 0]
    assert by_signal(table_of(tmp_path, networks, alone))["the whole training, top-1"].tau == pytest.approx(1.0)
    assert abs(by_signal(table_of(tmp_path, networks, points))["the whole training, top-1"].tau) < 0.35


def test_what_a_table_lacks_is_left_out(tmp_path: Path) -> None:
    """Without probabilities there is no such signal, and without seconds none are told."""
    networks, points = made_up(12)
    found = by_signal(table_of(tmp_path, networks, points))
    assert not any("probability" in name for name in found)
    assert found["3,000 images, top-1"].seconds is None
    more: list[Row] = [{**row, "reward_p": row["reward_top1"], "seconds": 2.0} for row in points]
    found = by_signal(table_of(tmp_path, networks, more))
    assert found["3,000 images, probability"].tau == pytest.approx(found["3,000 images, top-1"].tau)
    assert found["3,000 images, top-1"].seconds == 2.0


def test_signals_of_ones_own(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """One that names the ends and one that names their opposites, of all networks but one; which is then left out."""
    path = table_of(tmp_path, *made_up(20, noise=0.0))
    curves = CurvesProblem.read(path, 9.0).curves
    for name, sign, known in (("oracle", 1, curves), ("fool", -1, curves[1:])):
        rows: list[Row] = [
            {"signal": name, "arch_id": each.arch.arch_id, "value": sign * each.worth, "seconds": 3.0} for each in known
        ]
        write(tmp_path / f"{name}.csv", rows)
    both = tmp_path / "both.csv"
    both.write_text((tmp_path / "oracle.csv").read_text() + (tmp_path / "fool.csv").read_text().partition("\n")[2])
    found = {each.signal: each for each in qualities(curves, 9.0, read_signals(both))}
    assert [found[name].tau for name in ("oracle", "fool")] == pytest.approx([1.0, -1.0])
    assert [found[name].seconds for name in ("oracle", "random order")] == [3.0, 0.0]
    assert found["random order"].networks == len(curves) - 1
    shown = mobilenas("proxy-quality", "--table", path, "--signals", both)
    assert "oracle" in shown.out
    write(tmp_path / "none.csv", [{"signal": "a", "arch_id": "b", "value": "nan"}])
    refused = mobilenas("proxy-quality", "--table", path, "--signals", tmp_path / "none.csv")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "row 2: a value is not finite" in refused.err
    write(tmp_path / "others.csv", [{"signal": "a", "arch_id": "b", "value": 1.0}])
    assert "speaks of: too few" in mobilenas("proxy-quality", "--table", path, "--signals", tmp_path / "others.csv").err


def test_the_command_tells_people_and_programs(tmp_path: Path, mobilenas: Mobilenas) -> None:
    """A table for each where there are networks enough; JSON with all figures; a file that is none is one line."""
    path = table_of(tmp_path, *made_up(12))
    shown = mobilenas("proxy-quality", "--table", path)
    assert shown.code == 0, shown.err
    assert "made-up, space: 11 networks, 2 trainings of each" in shown.out
    assert "tau: Kendall" in shown.out
    rows = json.loads(mobilenas("proxy-quality", "--table", path, "--format", "json").out)
    assert {"signal", "compared", "networks", "tau", *(f"regret_best_{top}" for top in TOPS), "seconds"} <= set(rows[0])
    assert next(row for row in rows if row["signal"] == "random order")["tau"] is None
    refused = mobilenas("proxy-quality", "--table", tmp_path / "none.csv")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    few = mobilenas("proxy-quality", "--table", table_of(tmp_path, *made_up(4)))
    assert "too few; train more" in few.err
    for arguments in ((), ("some-search", "--table", path)):
        assert "say whose networks" in mobilenas("proxy-quality", *arguments).err
