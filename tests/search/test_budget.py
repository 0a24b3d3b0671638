"""What a search is cut to, so that it fills its budget."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency.extremes import Range
from search.budget import (
    ENOUGH_EPOCHS,
    budget_that_suffices,
    by_counts,
    lower_resolution,
    needs_speed,
    within_budget,
)
from search.config.budget import BUDGETS, MINUTES
from search.config.load import load_config, parse_config
from search.evaluation.data import Images
from search.groups import members
from search.plan import Inputs, Speed, look_up, make_plan
from space.errors import InvalidConfig
from tests.tiny import dark_and_bright


def speed(rate: float, table_minutes: float = 1.0, reference_ms: float | None = None) -> Speed:
    """A machine that trains so many images per second in each process, and a device, if its table is known."""
    known = None if reference_ms is None else Range(fastest_ms=0.0, slowest_ms=1000.0, reference_ms=reference_ms)
    return Speed(
        images_per_second=rate, table_minutes=table_minutes, blocks_in_space=1, blocks_to_measure=1, range=known
    )


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The default search, of made-up pictures, with two workers."""
    folder = tmp_path_factory.mktemp("photos")
    dark_and_bright(folder, each=150, pixels=32)
    return look_up(parse_config({"workers": 2, "data": {"source": f"imagefolder:{folder}", "resolution": 32}}))


def of_size(inputs: Inputs, images: int) -> Inputs:
    """The same with a training split of so many images, whichever they are."""
    assert isinstance(inputs.data, Images)
    splits = replace(inputs.data.splits, train=np.zeros(images, dtype=np.int64))
    return replace(inputs, data=replace(inputs.data, splits=splits))


@settings(max_examples=15, deadline=None)
@given(minutes=st.floats(4, 3000), rate=st.floats(100, 20_000))
def test_a_race_fills_the_time(default: Inputs, minutes: float, rate: float) -> None:
    """It is planned to take the budget, but for networks being whole, or is the shortest of all; and it can be run."""
    fast = speed(rate)
    planned = within_budget(default, fast, f"{minutes:.1f}m")
    rungs = planned.config.race.rungs
    assert parse_config(planned.config.model_dump(mode="json")) == planned.config
    if (rungs[0].images, rungs[0].networks) != (1500, 4):
        assert make_plan(planned, fast).minutes == pytest.approx(minutes, rel=0.02 + 0.5 / rungs[-1].networks)


@settings(max_examples=15, deadline=None)
@given(minutes=st.floats(2, 3000), rate=st.floats(20, 20_000))
def test_budgets_share_their_trainings(default: Inputs, minutes: float, rate: float) -> None:
    """Images are powers of two times those of the default, so that about equal budgets have equal rungs."""
    planned = within_budget(default, speed(rate), f"{minutes:.1f}m")
    before, after = default.config.race.rungs[0].images, planned.config.race.rungs[0].images
    assert np.log2(after / before) == pytest.approx(round(np.log2(after / before)), abs=0.01)


def test_a_name_stands_for_minutes(default: Inputs) -> None:
    """Where a race fills the time; a device that takes long to measure does not use up more than half of them."""
    for name, minutes in MINUTES.items():
        for table in (1.0, 100.0):
            machine = speed(500.0, table)
            plan = make_plan(within_budget(default, machine, name), machine)
            wanted = max(minutes - table, minutes / 2)
            assert plan.training_minutes == pytest.approx(wanted, rel=0.25), (name, table)
    with pytest.raises(InvalidConfig, match="measuring takes 100 of them"):
        within_budget(default, speed(500.0, 100.0), "30m")


def test_whole_networks_are_measured_in_the_budgets_time(default: Inputs) -> None:
    """On a device of milliseconds it is a minute; where it takes longer, trainings keep half of a name's time."""
    fast, slow = speed(500.0, 0.0, reference_ms=0.3), speed(500.0, 0.0, reference_ms=100.0)
    planned = make_plan(within_budget(default, fast, "20m"), fast)
    assert 0.5 < planned.measuring_minutes < 2
    assert planned.minutes == pytest.approx(20, rel=0.2)
    assert planned.inputs.config.race.minutes == pytest.approx(planned.training_minutes, rel=0.2)
    lengthy = make_plan(within_budget(default, slow, "default"), slow)
    assert lengthy.measuring_minutes > MINUTES["default"] / 2
    assert lengthy.training_minutes == pytest.approx(MINUTES["default"] / 2, rel=0.25)
    with pytest.raises(InvalidConfig, match="too short: measuring takes"):
        within_budget(default, slow, "5m")


@pytest.mark.parametrize("rate", [1.0, 20.0, 100.0])
def test_on_a_slow_machine_trainings_do_not_become_meaningless(default: Inputs, rate: float) -> None:
    """After 750 images networks know hardly more than the largest class: such a race takes longer than its budget."""
    race = within_budget(default, speed(rate), "4m").config.race
    assert race.rungs[0].images == 1500
    assert race.rungs[0].networks >= 4


def test_photos_are_seen_often_enough(default: Inputs) -> None:
    """The default budget of one's own photos is one by which final networks see them three times."""
    machine, many = speed(100.0), of_size(default, 70_000)
    planned = make_plan(within_budget(many, machine, "default"), machine)
    assert planned.epochs is not None
    assert planned.epochs >= ENOUGH_EPOCHS
    assert planned.training_minutes > 2 * MINUTES["default"]
    short = make_plan(within_budget(many, machine, "15m"), machine)
    assert short.epochs is not None
    assert short.epochs < 1
    enough = budget_that_suffices(many, machine)
    assert enough is not None
    there = make_plan(within_budget(many, machine, enough), machine)
    assert there.epochs is not None
    assert there.epochs >= ENOUGH_EPOCHS


@pytest.mark.parametrize("begun", [False, True])
def test_few_photos_are_not_trained_for_hours(default: Inputs, *, begun: bool) -> None:
    """What is enough epochs of many is hundreds of few: then the shortest trainings do, and smaller pictures are named.

    On a slow machine it still takes longer than the name says.
    """
    few, machine = of_size(default, 250), speed(12.0)
    if begun:
        config = parse_config({**few.config.model_dump(mode="json", include={"data", "workers"}), "init": "imagenet"})
        few = replace(few, config=config.judged_in(5))
        assert isinstance(few.data, Images)
        few = replace(few, data=replace(few.data, folds=5))
    plan = make_plan(within_budget(few, machine, "default"), machine)
    assert plan.epochs is not None
    assert plan.epochs > ENOUGH_EPOCHS
    assert plan.inputs.config.final.images == pytest.approx(3750 if begun else 15_000, rel=0.01)
    assert plan.training_minutes < 0.5 * make_plan(few, machine).training_minutes
    assert lower_resolution(plan, "default") is None, "32 px are few"
    large = replace(plan, inputs=replace(plan.inputs, space=replace(plan.inputs.space, resolution=224)))
    assert lower_resolution(large, "default") == 96
    assert lower_resolution(large, "4h") is None, "who says a time has it"


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": {"trials": 5}},
        {"blocks": {"train_images": 500}},
        {"final": {"images": 900}},
        {"final": {"weights": "inherited"}},
        {"netadapt": {"delta": 0.02}},
        {"evaluator": "mine:top1"},
        {"executor": "ray", "ray": {"scheduler": "asha"}},
        {"training": {"learning_rate": 0.1}},
        {"race": {"rungs": []}},
    ],
)
def test_who_says_how_much_is_trained_gets_that(changes: dict[str, Any]) -> None:
    """There is no race then, NetAdapt walks, and a name multiplies the counts as it did before there were races."""
    config = parse_config(changes)
    assert not config.races
    assert (config.netadapt.max_steps, config.final.top_k) == (200, 1)
    assert config.final.weights == changes.get("final", {}).get("weights", "scratch")
    assert [needs_speed(config, name) for name in BUDGETS] == [False] * 3
    assert by_counts(config, "quick") == config.scaled(BUDGETS["quick"])


def test_a_front_is_raced_for_by_default(default: Inputs) -> None:
    """Objectives alone say nothing of how much is trained: such a search fills its budget like others."""
    config = parse_config({"blocks": {"objectives": ["top1", "latency_ms"]}})
    planned = within_budget(replace(default, config=config), speed(500.0), "default")
    assert config.races
    assert planned.config.race.rungs == within_budget(default, speed(500.0), "default").config.race.rungs


def test_replicates_share_no_knowledge() -> None:
    """They differ in their seeds, and none learns from another; a single search may learn from earlier ones."""
    assert [one.blocks.warm_start for one in members(parse_config({}), "all", 2)] == [False, False]
    assert [one.blocks.warm_start for one in members(parse_config({}), "all", 1)] == [True]


def test_devices_divide_what_a_group_has(default: Inputs) -> None:
    """Each has its share of the time, of whatever budget, and of the networks of rungs that were given."""
    targets = {"pi5": "80%", "pixel": "80%", "desk": "70%"}
    machine = speed(500.0)
    for budget, minutes in (("default", 5.0), ("30m", 10.0), ("1h", 20.0)):
        for member in members(parse_config({"targets": targets}), "all", 1):
            planned = within_budget(replace(default, config=member), machine, budget)
            assert planned.config.race.minutes == pytest.approx(minutes, rel=0.1)
    rungs = [{"images": 6000, "networks": 12}, {"images": 12000, "networks": 4}]
    given = members(parse_config({"targets": targets, "race": {"rungs": rungs}}), "all", 1)
    assert [([rung.networks for rung in one.race.rungs], one.final.top_k) for one in given] == [([4, 1], 1)] * 3
    assert [one.race.time_share for one in given] == [pytest.approx(1 / 3)] * 3


def test_whoever_gives_rungs_has_them() -> None:
    """A race of one's own is multiplied by a name, fills a time that is asked for, and ends as the default one does."""
    own = load_config(Path(__file__).parents[2] / "configs" / "race.yaml")
    default = parse_config({})
    assert own.race.rungs == default.race.rungs
    assert (own.race.fills_budget, default.race.fills_budget) == (False, True)
    assert own.final == default.final
    assert [needs_speed(own, budget) for budget in ("default", "quick", "15m")] == [False, False, True]
    assert [needs_speed(default, budget) for budget in ("default", "quick", "15m")] == [True] * 3
    shared = parse_config({"targets": {"pi5": "80%", "pixel": "80%"}, "mode": "shared", "final": {"top_k": 2}})
    assert shared.races
    assert shared.final.top_k == 2
