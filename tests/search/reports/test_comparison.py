"""Searches beside each other: one target, one reference point, intervals that can be checked."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.record.store import Store
from search.reports.comparison import (
    MISSING,
    at_equal,
    common_target,
    config_differences,
    final_difference,
    newcombe_difference,
    reference_point,
    replicates,
    standing,
    warnings,
)
from search.reports.history import History
from search.run_folder import RunFolder
from search.trial import SearchStage
from space.errors import RunError
from tests.search.content import Writer
from tests.search.judgements import write_judgement
from tests.search.makers import CONFIG, DEVICE, latency_table, new_search, record_table
from trainer.training.metrics import paired_difference


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A blank record."""
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as opened:
        yield opened


def test_newcombe_s_published_example() -> None:
    """56 of 70 against 48 of 80: 0.2000, 0.0524 to 0.3339 (Newcombe 1998, table II, method 10, example a)."""
    found = newcombe_difference((56, 70), (48, 80))
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_newcombe_is_antisymmetric(first: int, second: int, data: st.DataObject) -> None:
    """The other way round everything changes its sign, and the interval holds the difference and stays within ±1."""
    one = (data.draw(st.integers(0, first)), first)
    other = (data.draw(st.integers(0, second)), second)
    found, back = newcombe_difference(one, other), newcombe_difference(other, one)
    assert (found.low, found.high) == pytest.approx((-back.high, -back.low))
    assert -1 - 1e-9 <= found.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.high <= 1 + 1e-9


def finals(store: Store, name: str, runs: Path, right: np.ndarray | None, **changes: Any) -> History:  # noqa: ANN401
    """A search with a found network, and its file of what was right if there is one."""
    search = new_search(store, name, run_folder=runs / name, **changes)
    correct = 70 if right is None else int(right.sum())
    trial = Writer(store, search).trial(SearchStage.FINAL, top1=0.5, origin="found", correct=correct, total=100)
    if right is not None:
        write_judgement(RunFolder(runs / name).tested(trial.number), right)
    return History.read(store, name)


def test_final_networks_are_compared_image_by_image(store: Store, tmp_path: Path) -> None:
    """With both files it is the paired interval, without one Newcombe's, and on other data nothing."""
    rng = np.random.default_rng(0)
    right = rng.random((2, 100)) < 0.7
    one, other = (finals(store, name, tmp_path, row) for name, row in zip("ab", right, strict=True))
    found = final_difference(one, other)
    assert found is not None
    assert found.kind == "paired"
    assert found.difference == paired_difference(right[0].tolist(), right[1].tolist())
    unpaired = final_difference(one, finals(store, "c", tmp_path, None))
    assert unpaired is not None
    assert unpaired.kind == "unpaired"
    assert unpaired.difference == newcombe_difference((int(right[0].sum()), 100), (70, 100))
    assert final_difference(one, finals(store, "d", tmp_path, right[1], data_hash="other")) is None
    assert final_difference(one, History.read(store, new_search(store, "e").name)) is None


def test_damaged_files_are_left_alone(store: Store, tmp_path: Path) -> None:
    """A file of another number of images, or of none, is not used; nor is one of version 0.1 that is no array."""
    right = np.arange(100) < 50
    one, other = (finals(store, name, tmp_path, right) for name in "ab")
    assert other.found is not None
    path = RunFolder(tmp_path / "b").tested(other.found.number)
    for content in (bytes(99), b""):
        path.write_bytes(content)
        assert other.right(other.found) is None
        found = final_difference(one, other)
        assert found is not None
        assert found.kind == "unpaired"
    path.unlink()
    older = path.with_name(f"{other.found.number}.right.npy")
    np.save(older, right)
    assert np.array_equal(other.right(other.found), right)
    for array in (np.arange(99) < 50, np.arange(100)):
        np.save(older, array)
        assert other.right(other.found) is None
    older.write_bytes(b"no array")
    assert other.right(other.found) is None


def test_differences_of_configurations() -> None:
    """Dotted keys, without the name; a key that one of them lacks is said to be missing."""
    one = {"name": "a", "seed": 0, "blocks": {"trials": 3, "reward": {"kind": "hard"}}, "target": {"ms": 2.0}}
    other = {"name": "b", "seed": 0, "blocks": {"trials": 4, "reward": {"kind": "hard"}}, "target": {"relative": 0.8}}
    assert config_differences([one, other]) == {
        "blocks.trials": (3, 4),
        "target.ms": (2.0, MISSING),
        "target.relative": (MISSING, 0.8),
    }
    assert config_differences([one, {**one, "name": "c"}]) == {}


def test_hypervolume_of_one_network(store: Store) -> None:
    """0.8 in 1.5 of 3 ms over guessing among ten classes covers (0.7 / 0.9) · (1.5 / 3) of the rectangle."""
    writer = Writer(store, new_search(store, "one"))
    writer.trial(top1=0.8, ms=1.5)
    writer.trial(top1=0.99, ms=3.0)
    history = History.read(store, "one")
    reference = reference_point([history], 2.0)
    assert (reference.top1, reference.latency_ms) == (0.1, 3.0), "guessing, and the reference network's latency"
    found = standing(history, 2.0, reference)
    assert found.hypervolume == pytest.approx((0.7 / 0.9) * (1.5 / 3))
    assert found.best is not None
    assert found.best.number == 0
    assert found.reward == pytest.approx(0.8), "of the hard reward, 0.99 · 2 / 3 is less"
    assert found.core_minutes == {"blocks": 12.0, "netadapt": 0.0, "final": 0.0}
    assert found.images_seen == 12_000


def test_target_in_common_is_the_largest(store: Store) -> None:
    """Searches that have not begun have none; without any there is nothing to compare."""
    names = ["a", "b"]
    for name, target in zip(names, (1.0, 2.5), strict=True):
        new_search(store, name, target_ms=target)
    store.searches.create(name="queued", config=CONFIG)
    histories = [History.read(store, name) for name in (*names, "queued")]
    assert common_target(histories) == 2.5
    with pytest.raises(RunError, match="queued"):
        common_target(histories[2:])


def test_equal_cost_is_that_of_the_shortest(store: Store) -> None:
    """One search has two evaluations in 12 minutes, the other three in 18, the best of them last."""
    for name, top1s in (("a", (0.5, 0.6)), ("b", (0.4, 0.5, 0.9))):
        writer = Writer(store, new_search(store, name))
        for top1 in top1s:
            writer.trial(top1=top1, ms=1.0)
    found = at_equal([History.read(store, "a"), History.read(store, "b")], 2.0)
    assert found.evaluations == 2
    assert found.core_minutes == pytest.approx(12)
    assert found.by_evaluations == (0.6, 0.5)
    assert found.by_core_minutes == (0.6, 0.5)


def test_warnings_say_what_does_not_compare(store: Store) -> None:
    """Other data, another device, another table, another proxy task: one sentence each, and none for equals."""
    from dataclasses import replace

    table_id = record_table(store)
    phone = record_table(store, latency_table(device=replace(DEVICE, processor="Cortex-A76")))
    longer = {**CONFIG, "blocks": {**CONFIG["blocks"], "epochs": 2.0}}
    new_search(store, "a", table_id=table_id)
    new_search(store, "same", table_id=table_id)
    new_search(store, "data", table_id=table_id, data_hash="other")
    new_search(store, "phone", table_id=phone)
    new_search(store, "again")
    new_search(store, "longer", table_id=table_id, config=longer)
    history = {record.name: History.read(store, record.name) for record in store.searches.all()}

    def told(*names: str) -> str:
        return " ".join(warnings([history["a"], *(history[name] for name in names)]))

    assert told("same") == ""
    assert told("data") == "'a' and 'data': different data, so top-1 cannot be compared."
    assert "different devices" in told("phone")
    assert "different latency tables" in told("again")
    assert "different times" in told("longer")
    assert told("phone", "data").count("'a' and") == 2
    assert "'data', 'longer'" not in told("data", "longer")


def test_replicates_differ_in_their_seeds_alone(store: Store) -> None:
    """Name, seed and workers may differ; anything else, the target in ms among it, makes another group."""
    table_id = record_table(store)
    for name, changes, target in (("a", {}, 2.0), ("b", {"seed": 1, "workers": 9}, 2.0), ("c", {"seed": 2}, 2.1)):
        new_search(store, name, table_id=table_id, config={**CONFIG, "name": name, **changes}, target_ms=target)
    groups = replicates([History.read(store, name) for name in "abc"])
    assert [[history.name for history in group] for group in groups] == [["a", "b"], ["c"]]
