"""Trials, NetAdapt steps, measured networks and exports: one contract for every database."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.record.store import Store
from search.trial import (
    NetAdaptStep,
    NetworkMeasurement,
    PresentMeasurement,
    PresentResult,
    SearchStage,
    State,
    Trial,
)
from space.errors import StoreError
from tests.search.makers import (
    ask,
    completed,
    contract,
    new_search,
    record_table,
    trial,
    trials,
)


@contract
@given(started=trials)
def test_trial_round_trip(store: Store, started: Trial) -> None:
    """Every field of a trial comes back as it went in, times in UTC."""
    search = new_search(store)
    recorded = store.trials.start(search.id, started)
    assert recorded.id is not None
    finished_at = started.finished_at
    if started.state is not State.RUNNING and finished_at is None:
        finished_at = recorded.finished_at
        assert finished_at
    assert recorded == replace(started, id=recorded.id, finished_at=finished_at)
    assert store.trials.of(search.id) == [recorded]


@contract
@given(outcome=trials.filter(lambda outcome: outcome.state is not State.RUNNING), reward=st.none() | st.floats(0, 10))
def test_outcome_round_trip(store: Store, outcome: Trial, reward: float | None) -> None:
    """Every field of an outcome comes back, and its reward."""
    search = new_search(store)
    running = store.trials.start(search.id, replace(outcome, state=State.RUNNING, finished_at=None, attempt=1))
    store.trials.finish(search.id, outcome, reward=reward)
    (found,) = store.trials.of(search.id)
    assert found == replace(outcome, id=running.id, finished_at=found.finished_at)
    assert outcome.finished_at in (None, found.finished_at)
    assert store.trials.rewards(search.id) == ({} if reward is None else {outcome.number: reward})


def test_times_of_other_zones_come_back_in_utc(store: Store) -> None:
    """A time given in another zone is the same moment in UTC."""
    search = new_search(store)
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    store.trials.start(search.id, trial(started_at=noon))
    (found,) = store.trials.of(search.id)
    assert found.started_at == noon
    assert found.started_at
    assert found.started_at.tzinfo is UTC


def test_trials_come_by_number_and_stage(store: Store) -> None:
    """Trials are ordered by number, whatever the order of their recording, and can be asked for by stage."""
    search, other = new_search(store), new_search(store)
    for number in (2, 0, 1):
        stage = SearchStage.FINAL if number == 0 else SearchStage.BLOCKS
        store.trials.start(search.id, trial(number, stage=stage))
    store.trials.start(other.id, trial(0))
    assert [found.number for found in store.trials.of(search.id)] == [0, 1, 2]
    assert [found.number for found in store.trials.of(search.id, SearchStage.BLOCKS)] == [1, 2]
    assert store.trials.of(search.id, SearchStage.NETADAPT) == []


def test_number_is_given_once(store: Store) -> None:
    """A second trial of the same number hints at a second coordinator."""
    search = new_search(store)
    first = store.trials.start(search.id, trial(3))
    with pytest.raises(StoreError, match=r"has a trial 3 already; is another process"):
        store.trials.start(search.id, trial(3, seed=8))
    assert store.trials.of(search.id) == [first]


def test_pruned_trial_is_finished_at_once(store: Store) -> None:
    """A trial over budget is recorded with start and end, and later outcomes of it are ignored."""
    search = new_search(store)
    pruned = store.trials.start(search.id, trial(state=State.PRUNED))
    assert pruned.finished_at == pruned.started_at
    store.trials.finish(search.id, completed(trial()))
    assert store.trials.of(search.id) == [pruned]


def test_finishing_twice_changes_nothing(store: Store) -> None:
    """The first outcome of an attempt stays; after a complete one also a later attempt changes nothing."""
    search = new_search(store)
    running = store.trials.start(search.id, trial())
    store.trials.finish(search.id, completed(running, 0.5), reward=0.4)
    once, updated_at = store.trials.of(search.id), store.searches.get(search.name).updated_at
    store.trials.finish(search.id, completed(running, 0.9), reward=0.9)
    store.trials.finish(search.id, replace(completed(running, 0.9), attempt=2), reward=0.9)
    store.trials.finish(search.id, replace(running, state=State.FAILED, attempt=2, error="late"))
    assert store.trials.of(search.id) == once
    assert store.trials.rewards(search.id) == {0: 0.4}
    assert store.searches.get(search.name).updated_at == updated_at


def test_later_attempt_mends_a_failed_one(store: Store) -> None:
    """The same attempt cannot fail and then complete; the next one can, and an older one counts no more."""
    search = new_search(store)
    running = store.trials.start(search.id, trial(attempt=2))
    store.trials.finish(search.id, replace(completed(running), attempt=1))
    assert store.trials.of(search.id) == [running]
    store.trials.finish(search.id, replace(running, state=State.FAILED, error="worker died"))
    store.trials.finish(search.id, completed(running))
    assert [found.error for found in store.trials.of(search.id)] == ["worker died"]
    store.trials.finish(search.id, replace(completed(running), attempt=3))
    (found,) = store.trials.of(search.id)
    assert (found.state, found.attempt, found.error) == (State.COMPLETE, 3, None)


def test_running_trials_are_requeued(store: Store) -> None:
    """On resume each running trial starts its next attempt; others, and other searches, are left alone."""
    search, other = new_search(store), new_search(store)
    running = [store.trials.start(search.id, trial(number)) for number in range(3)]
    store.trials.finish(search.id, completed(running[1]))
    elsewhere = store.trials.start(other.id, trial())
    requeued = store.trials.requeue_running(search.id)
    assert [(again.number, again.attempt, again.state) for again in requeued] == [
        (0, 2, State.RUNNING),
        (2, 2, State.RUNNING),
    ]
    assert [found for found in store.trials.of(search.id) if found.state is State.RUNNING] == requeued
    assert store.trials.of(other.id) == [elsewhere]
    assert [again.attempt for again in store.trials.requeue_running(search.id)] == [3, 3]


def test_evaluation_is_found_across_searches(store: Store) -> None:
    """A complete trial with the key is found with its run folder, the evaluated one before those that took it over."""
    first, second = new_search(store, run_folder="runs/a"), new_search(store, run_folder="runs/b")
    assert store.trials.find_evaluations("key") == []
    store.trials.start(first.id, trial(0, evaluation_key="key"))
    assert store.trials.find_evaluations("key") == []
    original = store.trials.start(second.id, trial(0, evaluation_key="key", state=State.COMPLETE))
    store.trials.finish(first.id, completed(trial(0, evaluation_key="key", reused_from=original.id)))
    found = next(iter(store.trials.find_evaluations("key")), None)
    assert found
    assert (found.trial, found.run_folder) == (original, Path("runs/b"))
    assert store.trials.find_evaluations("other") == []


# NetAdapt, measured networks, exports


def test_steps_round_trip(store: Store) -> None:
    """The walk comes back in order; a step needs its trials and happens once."""
    search = new_search(store)
    store.trials.start(search.id, trial(0))
    store.trials.start(search.id, trial(1, stage=SearchStage.NETADAPT, parent=0))
    first = NetAdaptStep(
        iteration=1,
        trial=1,
        parent=0,
        narrowed="stage 2: 40→32",
        latency_before_ms=2.0,
        latency_after_ms=1.9,
        top1_before=0.5,
        top1_after=0.49,
        proposals=6,
    )
    second = replace(first, iteration=2)
    store.trials.add_step(search.id, second)
    store.trials.add_step(search.id, first)
    other = replace(first, proposals=7)
    for broken in (other, replace(first, iteration=3, trial=9), replace(first, iteration=3, parent=9)):
        with pytest.raises(StoreError, match="refused a row"):
            store.trials.add_step(search.id, broken)
    assert store.trials.steps(search.id) == [first, second]


def test_parent_must_be_a_trial_of_the_search(store: Store) -> None:
    """Weights are inherited from a recorded trial of the same search."""
    search, other = new_search(store), new_search(store)
    store.trials.start(other.id, trial(0))
    with pytest.raises(StoreError, match="refused a row"):
        store.trials.start(search.id, trial(1, parent=0))
    assert store.trials.of(search.id) == []


def test_network_measurements_round_trip(store: Store, database_url: str) -> None:
    """Prediction and measurement of a network stand side by side, with the raw samples."""
    table_id = record_table(store)
    search = new_search(store, table_id=table_id)
    store.trials.start(search.id, trial(4))
    measured = NetworkMeasurement(
        trial=4, predicted_ms=1.5, measured_ms=1.6, low_ms=1.5, high_ms=1.7, median_ms=1.8, samples=2
    )
    store.trials.add_measurements(search.id, table_id, [(measured, (1.5, 1.8))])
    assert store.trials.measurements(search.id) == [replace(measured, table_id=table_id)]
    assert [row["sample_count"] for row in ask(database_url, "SELECT * FROM network_measurements")] == [2]
    with pytest.raises(StoreError, match="refused a row"):
        store.trials.add_measurements(search.id, table_id, [(replace(measured, trial=5), ())])


def test_a_present_model_is_kept_beside_the_networks(store: Store) -> None:
    """Its answers once, its latency with each certificate, which is recorded whole or not at all."""
    table_id = record_table(store)
    search = new_search(store, table_id=table_id)
    store.trials.start(search.id, trial(4))
    assert store.trials.present(search.id) is None
    result = PresentResult(name="mine.onnx", sha256="ab" * 32, correct=7, total=9)
    for _ in range(2):
        store.trials.put_present(search.id, result)
    store.trials.put_present(search.id, replace(result, correct=8))
    assert store.trials.present(search.id) == result
    mine = PresentMeasurement(measured_ms=2.6, low_ms=2.5, high_ms=2.7, median_ms=2.8, samples=2)
    beside = NetworkMeasurement(
        trial=5, predicted_ms=1.5, measured_ms=1.6, low_ms=1.5, high_ms=1.7, median_ms=1.8, samples=1
    )
    with pytest.raises(StoreError, match="refused a row"):
        store.trials.add_measurements(search.id, table_id, [(beside, (1.6,))], present=(mine, (2.5, 2.8)))
    assert store.trials.present_measurements(search.id) == []
    measured = [(replace(beside, trial=4), (1.6,))]
    store.trials.add_measurements(search.id, table_id, measured, present=(mine, (2.5, 2.8)))
    assert store.trials.present_measurements(search.id) == [replace(mine, table_id=table_id)]


def test_exports_round_trip(store: Store) -> None:
    """An export comes back with its files; only a recorded trial can be exported."""
    search = new_search(store)
    store.trials.start(search.id, trial(2))
    export = store.trials.add_export(search.id, 2, folder=Path("out"), files={"model.onnx": "00ff"})
    assert store.trials.exports(search.id) == [export]
    with pytest.raises(StoreError, match="no trial 3"):
        store.trials.add_export(search.id, 3, folder="out", files={})


def test_second_reader_sees_what_the_writer_finished(store: Store, database_url: str) -> None:
    """Another process may read while the coordinator writes."""
    search = new_search(store)
    with closing(Store.open(database_url)) as reader:
        running = store.trials.start(search.id, trial())
        assert reader.trials.of(search.id) == [running]
        store.trials.finish(search.id, completed(running))
        assert [found.state for found in reader.trials.of(search.id)] == [State.COMPLETE]
