"""Warm starts: a search learns from what earlier ones have trained alike, and from nothing else."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from search.record.store import Store
from search.trial import SearchStage, State
from tests.search.inline import InlineExecutor
from tests.search.races import RUNGS, race_in, race_near_the_reference, run, rungs_of, trials_of


def told(folder: Path, name: str) -> list[str]:
    """What the log says of lessons."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        lines = store.searches.log(store.searches.get(name).id)
    return [line.message for line in lines if "earlier searches have trained alike" in line.message]


def second(folder: Path, photos: Path, name: str, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - sections
    """A search for another target, with another seed."""
    config = race_in(folder, photos, determinism="eager", target={"ms": 0.085}, seed=5, blocks={}, **changes)
    return {**config, "name": name}


@pytest.mark.usefixtures("one_thread")
def test_a_second_search_begins_with_the_best_of_the_first(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor]
) -> None:
    """As many as may go on, those first that were trained furthest, at no cost; it is told once."""
    run(tmp_path, race_in(tmp_path, photos, determinism="eager", blocks={}))
    assert told(tmp_path, "race") == [], "there was nothing to learn from"
    rungs = rungs_of(trials_of(tmp_path))
    run(tmp_path, second(tmp_path, photos, "second"), "second")
    assert told(tmp_path, "second") == ["the sampler learns from 6 networks that earlier searches have trained alike"]
    (begun, *_) = rungs_of(trials_of(tmp_path, "second"))
    furthest = {trial.architecture: trial for rung in rungs for trial in rung}.values()
    ranked = sorted(furthest, key=lambda trial: (-trial.rung, -(trial.scores.log_likelihood or 0.0)))
    best = [trial.architecture for trial in ranked if 0.3 * 0.085 <= trial.scores.latency_ms <= 0.085]
    best = best[: RUNGS[1]["networks"]]
    assert [trial.architecture for trial in begun[: len(best)]] == best
    assert all(trial.reused_from is not None for trial in begun[: len(best)])
    assert {job.number for job in executors[1].jobs}.isdisjoint({trial.number for trial in begun[: len(best)]})


@pytest.mark.usefixtures("one_thread", "executors")
def test_a_search_by_a_prior_says_what_it_begins_with(tmp_path: Path, photos: Path) -> None:
    """The prior proposes, but the best of the first search come before its proposals."""
    rungs, final = [{"images": 32, "networks": 3}, {"images": 64, "networks": 2}], {"images": 160}
    config = race_near_the_reference(tmp_path, photos, rungs, final) | {"determinism": "eager", "blocks": {}}
    run(tmp_path, config)
    run(tmp_path, {**config, "seed": 5, "name": "second"}, "second")
    assert told(tmp_path, "second") == [
        "the race begins with the best of 3 networks that earlier searches have trained alike"
    ]
    on = [trial.architecture for trial in trials_of(tmp_path) if trial.rung == 1]
    begun = [trial for trial in trials_of(tmp_path, "second") if trial.origin == "feasible-first"]
    assert {trial.architecture for trial in begun[:2]} == set(on)
    assert all(trial.reused_from is not None for trial in begun[:2])


@pytest.mark.usefixtures("one_thread", "executors")
def test_a_search_for_a_front_begins_along_the_front_of_the_first(tmp_path: Path, photos: Path) -> None:
    """Its ends, the most accurate network and the cheapest one, are among those that it begins with at no cost."""
    run(tmp_path, race_in(tmp_path, photos, determinism="eager", blocks={}))
    (first, *_) = rungs_of(trials_of(tmp_path))
    config = second(tmp_path, photos, "second")
    run(tmp_path, {**config, "blocks": {"objectives": ["top1", "latency_ms"]}}, "second")
    (begun, *_) = rungs_of(trials_of(tmp_path, "second"))
    known = [trial.architecture for trial in begun if trial.reused_from is not None]
    least = min(trial.scores.latency_ms for trial in first)
    assert max(first, key=lambda trial: trial.scores.log_likelihood or -9.0).architecture in known
    assert least in {trial.scores.latency_ms for trial in begun if trial.reused_from is not None}


@pytest.mark.usefixtures("one_thread", "executors")
@pytest.mark.parametrize(
    "changes",
    [
        {"determinism": "strict"},
        {"blocks": {"warm_start": False}},
        {"blocks": {"reuse": False}},
        {"blocks": {"sampler": "random"}},
        {"training": {"batch_size": 16, "seed": 3}},
        {"data": {"resolution": 16, "reward_images": 12, "split_seed": 4}},
    ],
)
def test_what_would_be_trained_otherwise_teaches_nothing(tmp_path: Path, photos: Path, changes: dict[str, Any]) -> None:
    """Nor does anything where the search is to be the same again, or was told to begin anew."""
    run(tmp_path, race_in(tmp_path, photos, determinism="eager", blocks={}))
    config = second(tmp_path, photos, "second")
    if "data" in changes:
        changes = {"data": {"source": f"imagefolder:{photos}", **changes["data"]}}
    run(tmp_path, {**config, **changes}, "second")
    assert told(tmp_path, "second") == []


def test_only_what_had_ended_before_is_asked_for(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """Later trials of others, other stages and a search's own trials are none that it could have begun with."""
    run(tmp_path, race_in(tmp_path, photos, determinism="eager", blocks={}))
    assert executors
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = store.searches.get("race")
        start = record.require_start()
        assert record.finished_at is not None
        found = store.trials.of_others(0, start.data_hash, record.finished_at, most=100)
        assert {trial.stage for trial in found} == {SearchStage.BLOCKS}
        assert {trial.state for trial in found} == {State.COMPLETE}
        assert store.trials.of_others(0, start.data_hash, record.created_at, most=100) == []
        assert store.trials.of_others(record.id, start.data_hash, record.finished_at, most=100) == []
        assert store.trials.of_others(0, "others", record.finished_at, most=100) == []
        assert store.trials.of_others(0, start.data_hash, record.finished_at, most=2) == found[:2]
