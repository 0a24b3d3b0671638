"""What a report says of a race's first look at its networks."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from search.bench.curves import CurvesProblem
from search.bench.proxies import qualities
from search.config.load import parse_config
from search.record.rows import SignalQuality
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.reports.signals import first_look
from space.choices import SearchSpace
from space.preset import load_preset
from tests.search.makers import LOOK, latency_table, new_search, record_table

CURVES = Path(__file__).parents[3] / "benchmarks" / "curves"
DEPTH = replace(LOOK, signal="depth", images=None, tau=0.5)
LATER = replace(LOOK, signal="24,000 images, log-likelihood", images=24_000, tau=0.7)


def race(store: Store, config: dict[str, Any] | None = None, **start: Any) -> RecordedSearch:  # noqa: ANN401 - fields
    """A search of the default configuration, or another."""
    whole = parse_config(config or {}).model_dump(mode="json")
    return RecordedSearch(store, new_search(store, config=whole, **start))


def test_the_nearest_look_is_told(store: Store) -> None:
    """Of those near the target, by log-likelihood, after about as many images as the race's first rung."""
    search = race(store)
    others = [replace(LOOK, signal="6,000 images, top-1", tau=0.9), replace(LOOK, compared="space", tau=0.9)]
    store.signals.put(search.looked_at, "study", [*others, LATER, LOOK])
    found = first_look(search)
    assert found is not None
    assert (found.quality, found.better) == (LOOK, None)
    assert found.sentence == (
        "What networks reach after 6,000 images orders them near one latency with a Kendall's τ of 0.40 (95%: 0.10 to "
        "0.60; 24 networks, study); the best of its first 4 is 0.25 points below the best."
    )


def test_what_orders_better_for_nothing_is_a_warning(store: Store) -> None:
    """Depth or multiply-adds above the look; a linear model, which needs others' ends, is none."""
    search = race(store)
    model = replace(LOOK, signal="linear model of the others' ends", images=None, tau=0.9)
    store.signals.put(search.looked_at, "study", [model, DEPTH, LOOK])
    found = first_look(search)
    assert found is not None
    assert found.sentence.endswith("**Depth alone orders them better (τ 0.50).**")


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"race": {"rungs": []}}, [LOOK]),
        ({"race": {"rungs": [{"images": 1000, "networks": 8}, {"images": 2000, "networks": 4}]}}, [LOOK]),
        ({}, [DEPTH]),
        ({}, []),
    ],
)
def test_what_nobody_looked_into_is_not_told(store: Store, config: dict[str, Any], known: list[SignalQuality]) -> None:
    """A search without a race, looks at other lengths, none at all, other data."""
    search = race(store, config)
    store.signals.put(search.looked_at, "study", known)
    assert first_look(search) is None


def test_networks_that_are_trained_otherwise_say_nothing(store: Store) -> None:
    """Other recipes are another question; a longer training by the same ones is not."""
    search = race(store)
    store.signals.put(search.looked_at, "study", [LOOK])
    assert first_look(race(store, {"training": {"flip": False}})) is None
    longer = parse_config({}).raced(images=1.2, networks=1).model_dump(mode="json")
    assert first_look(RecordedSearch(store, new_search(store, config=longer))) is not None


def test_published_figures_come_with_mobilenas(store: Store) -> None:
    """For the default run, whatever its device, until the record knows a look of its own."""
    space = SearchSpace(
        preset=load_preset("mobilenet-v3-small-32px"), width=0.5, resolution=32, in_channels=1, num_classes=10
    )
    table = record_table(store, latency_table(scope=space.scope))
    search = race(store, data_hash="5ec56280772a527f", table_id=table)
    found = first_look(search)
    assert found is not None
    assert found.source == "published with mobilenas"
    assert found.quality.networks >= 32
    assert -1 < found.quality.low < found.quality.tau < found.quality.high < 1
    store.signals.put(search.looked_at, "study", [LATER])
    again = first_look(search)
    assert again is not None
    assert again.source == "published with mobilenas"
    store.signals.put(search.looked_at, "study", [LOOK])
    own = first_look(search)
    assert own is not None
    assert own.source == "study"


def test_published_figures_are_told_of_other_recipes(store: Store) -> None:
    """Those of CIFAR-10, whose photos were moved, in a search that does not move them; none of given weights."""
    content = json.loads(files("search.reports").joinpath("signals.json").read_text(encoding="utf-8"))["data"]
    (looked_at,) = (each["looked_at"] for each in content if each["data"] == "cifar10")
    table = record_table(store, latency_table(scope=looked_at["scope"]))
    moved = {"training": {"shift": 0.0625}}
    for name, config, source in (
        ("plain", {}, "published with mobilenas, trained by recipes that differ from these"),
        ("moved", moved, "published with mobilenas"),
    ):
        found = first_look(race(store, config, data_hash=looked_at["data_hash"], table_id=table))
        assert found is not None, name
        assert found.source == source
    begun = {"init": "imagenet", "init_hash": "0" * 64, "race": {"rungs": [{"images": 6000, "networks": 8}]}}
    assert first_look(race(store, begun, data_hash=looked_at["data_hash"], table_id=table)) is None


@pytest.mark.parametrize("data", ["fashion-mnist", "cifar10"])
def test_the_published_file_is_of_the_committed_curves(data: str) -> None:
    """Made anew by: python -m benchmarks.curves.signals --write."""
    problem = CurvesProblem.read(CURVES / f"{data}.csv")
    expected = [each for each in qualities(problem.curves, problem.limit_ms) if each.compared == "near the limit"]
    content = json.loads(files("search.reports").joinpath("signals.json").read_text(encoding="utf-8"))["data"]
    (shipped,) = (each["qualities"] for each in content if each["data"] == data)
    assert [row["signal"] for row in shipped] == [each.signal for each in expected]
    for row, each in zip(shipped, expected, strict=True):
        assert row["networks"] == each.networks
        assert SignalQuality.from_plain(row).tau == pytest.approx(each.tau, abs=1e-3, nan_ok=True)
