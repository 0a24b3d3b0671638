"""One contract for every database: what is recorded comes back, and nothing is recorded twice."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from latency.device import Device
from latency.measurement import Measurement
from latency.table import NO_CALIBRATION, Calibration, LatencyTable
from search.record import SearchRecord
from search.store import Store
from search.trial import NetAdaptStep, NetworkMeasurement, Scores, State, Trial
from search.trial import Stage as SearchStage
from space.arch import Architecture, Block, Head, Stage, Stem
from space.errors import StoreError
from space.keys import BlockKey, InvertedResidualKey, keys_of

# Each example records a search of its own, so one database serves all of them.
contract = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = count()

DEVICE = Device(
    name="desk",
    processor="Some CPU",
    machine="x86_64",
    system="Linux",
    cores=2,
    provider="CPUExecutionProvider",
    threads=1,
    precision="float32",
    graph_optimization="all",
    runtime_version="1.20",
)


def architecture(width: int = 16) -> Architecture:
    """A small network, one for each width."""
    block = Block(kernel_size=3, expanded_channels=3 * width, use_se=True, activation="hswish")
    return Architecture(
        resolution=32,
        in_channels=3,
        num_classes=10,
        stem=Stem(out_channels=16, stride=1, activation="hswish"),
        stages=(Stage(out_channels=width, stride=2, blocks=(block, block)),),
        head=Head(conv_channels=96, hidden_channels=128, activation="hswish"),
    )


def trial(number: int = 0, **changes: Any) -> Trial:  # noqa: ANN401 - fields of Trial
    """A running trial of the block-level search."""
    fields: dict[str, Any] = {
        "stage": SearchStage.BLOCKS,
        "state": State.RUNNING,
        "origin": "random",
        "architecture": architecture(),
        "scores": Scores(top1=None, latency_ms=1.5, madds=1000, params=100),
        "seed": 7,
    }
    return Trial(number=number, **{**fields, **changes})


def completed(running: Trial, top1: float = 0.5) -> Trial:
    """The same trial with its outcome."""
    return replace(running, state=State.COMPLETE, scores=replace(running.scores, top1=top1), images_seen=64)


def measurement(ms: float = 1.0) -> Measurement:
    """A few samples around a time."""
    samples = (ms, ms * 1.25, ms * 1.5)
    return Measurement(cold_wall=samples, cold_cpu=samples[:2], warm_wall=samples[::-1], warm_cpu=samples[:1])


def latency_table(**changes: Any) -> LatencyTable:  # noqa: ANN401 - fields of LatencyTable
    """A table that holds all blocks of the small network."""
    entries = {key: measurement(ms) for ms, key in enumerate(keys_of(architecture()), start=1)}
    return LatencyTable(**{"device": DEVICE, "scope": "space", "entries": entries, **changes})


def record_table(store: Store, table: LatencyTable | None = None) -> int:
    """Record a table under conditions that do not matter."""
    return store.record_table(table or latency_table(), conditions={"load_1min": 0.5}, protocol="3 rounds")


def new_search(store: Store, name: str | None = None, **changes: Any) -> SearchRecord:  # noqa: ANN401 - arguments
    """A search that no other example shares."""
    arguments: dict[str, Any] = {
        "name": name or f"search-{next(_numbers)}",
        "config": {"trials": 3},
        "run_folder": Path("runs") / "one",
        "data_hash": "abc",
        "table_id": None,
        "target_ms": 2.0,
        "seed_target_ms": 2.5,
        "fastest_ms": 1.0,
        "slowest_ms": 4.0,
        "reference_ms": 3.0,
    }
    return store.create_search(**{**arguments, **changes})


def query(url: str, sql: str, **values: object) -> list[dict[str, Any]]:
    """What a user sees who reads the database with SQL."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(sql), values).mappings()]
    finally:
        engine.dispose()


# PostgreSQL holds no NUL in text.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
counts = st.integers(0, 2**31 - 1)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
params = st.dictionaries(words, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(0, 1) | words)
scores = st.builds(
    Scores,
    top1=st.none() | st.floats(0, 1),
    latency_ms=st.floats(1e-3, 1e6),
    madds=st.integers(0, 2**62),
    params=st.integers(0, 2**62),
)
trials = st.builds(
    Trial,
    number=counts,
    stage=st.sampled_from(list(SearchStage)[:3]),
    state=st.sampled_from(State),
    origin=words,
    architecture=st.builds(architecture, st.integers(1, 64)),
    scores=scores,
    seed=st.integers(0, 2**63 - 1),
    attempt=st.integers(1, 5),
    iteration=st.none() | counts,
    params=st.none() | params,
    evaluation_key=st.none() | words,
    images_seen=st.integers(0, 2**62),
    weights=st.none() | words,
    correct=st.none() | counts,
    total=st.none() | counts,
    error=st.none() | words,
    started_at=times,
    finished_at=st.none() | times,
)


# Devices and latency tables


def test_table_round_trip(store: Store) -> None:
    """A table comes back with device, calibration and every sample, found by device and scope."""
    fit = Calibration(scale=0.9, per_block_ms=-0.01, constant_ms=0.1, networks=8, error=0.02)
    table = latency_table(calibration=fit)
    table_id = record_table(store, table)
    assert store.load_table(table_id) == table
    assert list(store.load_table(table_id).entries) == list(table.entries)
    assert store.find_table(DEVICE, "space") == (table_id, table)


def test_table_without_calibration_or_its_error(store: Store) -> None:
    """No calibration stays so; an error that could not be determined stays NaN, which JSON does not have."""
    assert store.load_table(record_table(store)).calibration is NO_CALIBRATION
    fit = Calibration(scale=1.0, per_block_ms=0.0, constant_ms=0.0, networks=1, error=float("nan"))
    found = store.load_table(record_table(store, latency_table(calibration=fit))).calibration
    assert repr(found) == repr(fit)


@contract
@given(samples=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_samples_round_trip(store: Store, samples: list[float]) -> None:
    """Samples come back to the last bit."""
    values = tuple(samples)
    entry = Measurement(cold_wall=values, cold_cpu=values[:1], warm_wall=values[::-1], warm_cpu=values)
    table = latency_table(entries={keys_of(architecture())[0]: entry})
    assert store.load_table(record_table(store, table)).entries == table.entries


def test_newest_table_of_exactly_this_device_is_found(store: Store) -> None:
    """Name, fingerprint and scope must agree; of several tables the last one counts."""
    record_table(store)
    newest = record_table(store, latency_table(entries={}))
    record_table(store, latency_table(scope="other"))
    record_table(store, latency_table(device=replace(DEVICE, threads=2)))
    found = store.find_table(DEVICE, "space")
    assert found
    assert found[0] == newest
    assert store.find_table(replace(DEVICE, name="lap"), "space") is None
    assert store.find_table(replace(DEVICE, runtime_version="1.21"), "space") is None
    assert store.find_table(DEVICE, "unknown") is None


def test_unfinished_table_is_not_found(store: Store, database_url: str) -> None:
    """A table without an end is never used."""
    record_table(store)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE latency_tables SET finished_at = NULL"))
    engine.dispose()
    assert store.find_table(DEVICE, "space") is None


def test_added_entries_extend_and_never_replace(store: Store, database_url: str) -> None:
    """New blocks are added with their reason; known ones keep the measurement that a search relied on."""
    table = latency_table()
    table_id = record_table(store, table)
    known = next(iter(table.entries))
    added = keys_of(architecture(24))[1]
    store.add_entries(table_id, {known: measurement(99), added: measurement(5)}, reason="netadapt")
    store.add_entries(table_id, {}, reason="netadapt")
    assert store.load_table(table_id).entries == {**table.entries, added: measurement(5)}
    rows = query(database_url, "SELECT key, cold_wall_ms FROM latency_entries WHERE reason = 'netadapt'")
    assert rows == [{"key": str(added), "cold_wall_ms": measurement(5).estimate("cold", "wall")}]


def test_reasons_are_recorded(store: Store, database_url: str) -> None:
    """Blocks that only the reference network needs are told from those of the space."""
    table = latency_table()
    key: BlockKey = next(key for key in table.entries if isinstance(key, InvertedResidualKey))
    store.record_table(table, conditions={}, protocol="", reasons={key: "reference"})
    rows = query(database_url, "SELECT key FROM latency_entries WHERE reason = 'reference'")
    assert rows == [{"key": str(key)}]


def test_unknown_table_is_named(store: Store) -> None:
    """A table that does not exist is neither loaded, nor extended, nor searched with."""
    for use in (
        lambda: store.load_table(41),
        lambda: store.add_entries(41, {}, reason="space"),
        lambda: new_search(store, table_id=41),
    ):
        with pytest.raises(StoreError, match="no latency table with id 41"):
            use()


def test_devices_are_listed_with_their_tables(store: Store) -> None:
    """A device counts its tables and different blocks; the same name on other facts is another device."""
    assert store.devices() == []
    before = datetime.now(UTC)
    record_table(store)
    record_table(store)
    record_table(store, latency_table(device=replace(DEVICE, threads=4), entries={}))
    one, four = store.devices()
    newest = one.pop("newest_table")
    assert before <= newest <= datetime.now(UTC)
    assert one == {
        "name": "desk",
        "processor": "Some CPU",
        "threads": 1,
        "provider": "CPUExecutionProvider",
        "runtime_version": "1.20",
        "tables": 2,
        "blocks": len(latency_table().entries),
    }
    assert (four["threads"], four["tables"], four["blocks"]) == (4, 1, 0)


# Searches


def test_search_round_trip(store: Store) -> None:
    """A search comes back by name and in the list, with the device of its table."""
    table_id = record_table(store)
    created = new_search(store, "first", table_id=table_id, config={"a": [1, None, {"b": 0.1}], "ü": "→"})
    assert created.config == {"a": [1, None, {"b": 0.1}], "ü": "→"}
    assert created.stage is SearchStage.BLOCKS
    assert created.run_folder == Path("runs/one")
    assert (created.table_id, created.finish_requested, created.error) == (table_id, False, None)
    assert created.device_id is not None
    assert created.created_at.tzinfo is UTC
    assert store.search("first") == created
    second = new_search(store, "second")
    assert store.searches() == [created, second]


def test_taken_name_is_refused(store: Store) -> None:
    """Two searches cannot share a name."""
    first = new_search(store, "first")
    with pytest.raises(StoreError, match="'first' exists already"):
        new_search(store, "first", data_hash="other")
    assert store.searches() == [first]


def test_unknown_search_names_the_nearest(store: Store) -> None:
    """A mistyped name is answered with the nearest ones."""
    with pytest.raises(StoreError, match="none yet"):
        store.search("cifra")
    for name in ("cifar", "flowers", "cifar-2", "pets"):
        new_search(store, name)
    with pytest.raises(StoreError, match=r"'cifra'; the nearest names are 'cifar', 'cifar-2', '\w+'; see `mobilenas"):
        store.search("cifra")


def test_stages_and_errors(store: Store) -> None:
    """A stage can end in an error, resuming clears it, and only the last stage sets the end."""
    search = new_search(store)
    store.set_stage(search.id, SearchStage.NETADAPT, error="disk full")
    stopped = store.search(search.name)
    assert (stopped.stage, stopped.error, stopped.finished_at) == (SearchStage.NETADAPT, "disk full", None)
    assert stopped.updated_at >= search.updated_at
    store.set_stage(search.id, SearchStage.DONE)
    done = store.search(search.name)
    assert (done.stage, done.error) == (SearchStage.DONE, None)
    assert done.finished_at
    assert done.finished_at >= done.created_at


def test_finish_request(store: Store) -> None:
    """A request for an early end is seen by the coordinator, of this search only."""
    search, other = new_search(store), new_search(store)
    assert not store.finish_requested(search.id)
    store.request_finish(search.id)
    assert store.finish_requested(search.id)
    assert not store.finish_requested(other.id)


def test_unknown_search_id_is_refused(store: Store) -> None:
    """Nothing is recorded for a search that does not exist."""
    for use in (
        lambda: store.set_stage(9, SearchStage.DONE),
        lambda: store.request_finish(9),
        lambda: store.finish_requested(9),
        lambda: store.start_trial(9, trial()),
        lambda: store.finish_trial(9, completed(trial())),
        lambda: store.add_export(9, 0, folder="out", files={}),
    ):
        with pytest.raises(StoreError):
            use()


# Trials


@contract
@given(started=trials)
def test_trial_round_trip(store: Store, started: Trial) -> None:
    """Every field of a trial comes back as it went in, times in UTC."""
    search = new_search(store)
    recorded = store.start_trial(search.id, started)
    assert recorded.id is not None
    finished_at = started.finished_at
    if started.state is not State.RUNNING and finished_at is None:
        finished_at = recorded.finished_at
        assert finished_at
    assert recorded == replace(started, id=recorded.id, finished_at=finished_at)
    assert store.trials(search.id) == [recorded]


@contract
@given(outcome=trials.filter(lambda outcome: outcome.state is not State.RUNNING), reward=st.none() | st.floats(0, 10))
def test_outcome_round_trip(store: Store, outcome: Trial, reward: float | None) -> None:
    """Every field of an outcome comes back, and its reward."""
    search = new_search(store)
    running = store.start_trial(search.id, replace(outcome, state=State.RUNNING, finished_at=None, attempt=1))
    store.finish_trial(search.id, outcome, reward=reward)
    (found,) = store.trials(search.id)
    assert found == replace(outcome, id=running.id, finished_at=found.finished_at)
    assert outcome.finished_at in (None, found.finished_at)
    assert store.rewards(search.id) == ({} if reward is None else {outcome.number: reward})


def test_times_of_other_zones_come_back_in_utc(store: Store) -> None:
    """A time given in another zone is the same moment in UTC."""
    search = new_search(store)
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    store.start_trial(search.id, trial(started_at=noon))
    (found,) = store.trials(search.id)
    assert found.started_at == noon
    assert found.started_at
    assert found.started_at.tzinfo is UTC


def test_trials_come_by_number_and_stage(store: Store) -> None:
    """Trials are ordered by number, whatever the order of their recording, and can be asked for by stage."""
    search, other = new_search(store), new_search(store)
    for number in (2, 0, 1):
        stage = SearchStage.FINAL if number == 0 else SearchStage.BLOCKS
        store.start_trial(search.id, trial(number, stage=stage))
    store.start_trial(other.id, trial(0))
    assert [found.number for found in store.trials(search.id)] == [0, 1, 2]
    assert [found.number for found in store.trials(search.id, SearchStage.BLOCKS)] == [1, 2]
    assert store.trials(search.id, SearchStage.NETADAPT) == []


def test_number_is_given_once(store: Store) -> None:
    """A second trial of the same number hints at a second coordinator."""
    search = new_search(store)
    first = store.start_trial(search.id, trial(3))
    with pytest.raises(StoreError, match=r"has a trial 3 already; is another process"):
        store.start_trial(search.id, trial(3, seed=8))
    assert store.trials(search.id) == [first]


def test_pruned_trial_is_finished_at_once(store: Store) -> None:
    """A trial over budget is recorded with start and end, and later outcomes of it are ignored."""
    search = new_search(store)
    pruned = store.start_trial(search.id, trial(state=State.PRUNED))
    assert pruned.finished_at == pruned.started_at
    store.finish_trial(search.id, completed(trial()))
    assert store.trials(search.id) == [pruned]


def test_finishing_twice_changes_nothing(store: Store) -> None:
    """The first outcome of an attempt stays; after a complete one also a later attempt changes nothing."""
    search = new_search(store)
    running = store.start_trial(search.id, trial())
    store.finish_trial(search.id, completed(running, 0.5), reward=0.4)
    once, updated_at = store.trials(search.id), store.search(search.name).updated_at
    store.finish_trial(search.id, completed(running, 0.9), reward=0.9)
    store.finish_trial(search.id, replace(completed(running, 0.9), attempt=2), reward=0.9)
    store.finish_trial(search.id, replace(running, state=State.FAILED, attempt=2, error="late"))
    assert store.trials(search.id) == once
    assert store.rewards(search.id) == {0: 0.4}
    assert store.search(search.name).updated_at == updated_at


def test_later_attempt_mends_a_failed_one(store: Store) -> None:
    """The same attempt cannot fail and then complete; the next one can, and an older one counts no more."""
    search = new_search(store)
    running = store.start_trial(search.id, trial(attempt=2))
    store.finish_trial(search.id, replace(completed(running), attempt=1))
    assert store.trials(search.id) == [running]
    store.finish_trial(search.id, replace(running, state=State.FAILED, error="worker died"))
    store.finish_trial(search.id, completed(running))
    assert [found.error for found in store.trials(search.id)] == ["worker died"]
    store.finish_trial(search.id, replace(completed(running), attempt=3))
    (found,) = store.trials(search.id)
    assert (found.state, found.attempt, found.error) == (State.COMPLETE, 3, None)


def test_running_trials_are_requeued(store: Store) -> None:
    """On resume each running trial starts its next attempt; others, and other searches, are left alone."""
    search, other = new_search(store), new_search(store)
    running = [store.start_trial(search.id, trial(number)) for number in range(3)]
    store.finish_trial(search.id, completed(running[1]))
    elsewhere = store.start_trial(other.id, trial())
    requeued = store.requeue_running(search.id)
    assert [(again.number, again.attempt, again.state) for again in requeued] == [
        (0, 2, State.RUNNING),
        (2, 2, State.RUNNING),
    ]
    assert [found for found in store.trials(search.id) if found.state is State.RUNNING] == requeued
    assert store.trials(other.id) == [elsewhere]
    assert [again.attempt for again in store.requeue_running(search.id)] == [3, 3]


def test_evaluation_is_found_across_searches(store: Store) -> None:
    """A complete trial with the key is found with its run folder, the evaluated one before those that took it over."""
    first, second = new_search(store, run_folder="runs/a"), new_search(store, run_folder="runs/b")
    assert store.find_evaluations("key") == []
    store.start_trial(first.id, trial(0, evaluation_key="key"))
    assert store.find_evaluations("key") == []
    original = store.start_trial(second.id, trial(0, evaluation_key="key", state=State.COMPLETE))
    store.finish_trial(first.id, completed(trial(0, evaluation_key="key", reused_from=original.id)))
    found = next(iter(store.find_evaluations("key")), None)
    assert found
    assert (found.trial, found.run_folder) == (original, Path("runs/b"))
    assert store.find_evaluations("other") == []


# NetAdapt, measured networks, exports


def test_steps_round_trip(store: Store) -> None:
    """The walk comes back in order; a step needs its trials and happens once."""
    search = new_search(store)
    store.start_trial(search.id, trial(0))
    store.start_trial(search.id, trial(1, stage=SearchStage.NETADAPT, parent=0))
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
    store.add_step(search.id, second)
    store.add_step(search.id, first)
    for broken in (first, replace(first, iteration=3, trial=9), replace(first, iteration=3, parent=9)):
        with pytest.raises(StoreError, match="refused a row"):
            store.add_step(search.id, broken)
    assert store.steps(search.id) == [first, second]


def test_parent_must_be_a_trial_of_the_search(store: Store) -> None:
    """Weights are inherited from a recorded trial of the same search."""
    search, other = new_search(store), new_search(store)
    store.start_trial(other.id, trial(0))
    with pytest.raises(StoreError, match="refused a row"):
        store.start_trial(search.id, trial(1, parent=0))
    assert store.trials(search.id) == []


def test_network_measurements_round_trip(store: Store, database_url: str) -> None:
    """Prediction and measurement of a network stand side by side, with the raw samples."""
    table_id = record_table(store)
    search = new_search(store, table_id=table_id)
    store.start_trial(search.id, trial(4))
    measured = NetworkMeasurement(
        trial=4, predicted_ms=1.5, measured_ms=1.6, low_ms=1.5, high_ms=1.7, median_ms=1.8, samples=2
    )
    store.add_network_measurements(search.id, table_id, [(measured, (1.5, 1.8))])
    assert store.network_measurements(search.id) == [measured]
    assert [row["sample_count"] for row in query(database_url, "SELECT * FROM network_measurements")] == [2]
    with pytest.raises(StoreError, match="refused a row"):
        store.add_network_measurements(search.id, table_id, [(replace(measured, trial=5), ())])


def test_exports_round_trip(store: Store) -> None:
    """An export comes back with its files; only a recorded trial can be exported."""
    search = new_search(store)
    store.start_trial(search.id, trial(2))
    export = store.add_export(search.id, 2, folder=Path("out"), files={"model.onnx": "00ff"})
    assert store.exports(search.id) == [export]
    with pytest.raises(StoreError, match="no trial 3"):
        store.add_export(search.id, 3, folder="out", files={})


# Views


def record_outcomes(store: Store, search: SearchRecord, outcomes: Sequence[tuple[Trial, float | None]]) -> None:
    """Record trials with their rewards."""
    for outcome, reward in outcomes:
        running = store.start_trial(search.id, replace(outcome, state=State.RUNNING))
        if outcome.state is not State.RUNNING:
            store.finish_trial(search.id, replace(outcome, started_at=running.started_at), reward=reward)


# Few different values, so that ties are common.
outcomes = st.lists(
    st.tuples(
        st.sampled_from([SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL]),
        st.sampled_from([State.COMPLETE, State.COMPLETE, State.COMPLETE, State.FAILED, State.RUNNING]),
        st.sampled_from([None, 0.1, 0.2, 0.3]),
        st.sampled_from([1.0, 2.0, 3.0]),
        st.sampled_from([None, 0.5, 0.6]),
    ),
    max_size=10,
).map(
    lambda rows: [
        (
            trial(number, stage=stage, state=state, scores=Scores(top1=top1, latency_ms=ms, madds=1, params=1)),
            reward,
        )
        for number, (stage, state, top1, ms, reward) in enumerate(rows)
    ]
)


def dominates(one: Scores, other: Scores) -> bool:
    """Whether `one` is nowhere worse and somewhere better."""
    assert one.top1 is not None
    assert other.top1 is not None
    nowhere_worse = one.top1 >= other.top1 and one.latency_ms <= other.latency_ms
    return nowhere_worse and (one.top1, one.latency_ms) != (other.top1, other.latency_ms)


@contract
@given(outcomes=outcomes)
def test_pareto_front_holds_what_nothing_dominates(
    store: Store, database_url: str, outcomes: list[tuple[Trial, float | None]]
) -> None:
    """`pareto_front` agrees with the definition of dominance, within each search and stage."""
    search = new_search(store)
    record_outcomes(store, search, outcomes)
    candidates = [
        found
        for found, _ in outcomes
        if found.state is State.COMPLETE and found.stage is not SearchStage.FINAL and found.scores.top1 is not None
    ]
    front = {
        (mine.stage.value, mine.number)
        for mine in candidates
        if not any(other.stage is mine.stage and dominates(other.scores, mine.scores) for other in candidates)
    }
    rows = query(database_url, "SELECT stage, number FROM pareto_front WHERE search = :name", name=search.name)
    assert len(rows) == len(front)
    assert {(row["stage"], row["number"]) for row in rows} == front


@contract
@given(outcomes=outcomes)
def test_best_trial_has_the_highest_reward(
    store: Store, database_url: str, outcomes: list[tuple[Trial, float | None]]
) -> None:
    """`best_trial` is the complete trial of the block-level search with the highest reward, the first of equals."""
    search = new_search(store)
    record_outcomes(store, search, outcomes)
    rewarded = [
        (-reward, found.number)
        for found, reward in outcomes
        if found.state is State.COMPLETE and found.stage is SearchStage.BLOCKS and reward is not None
    ]
    rows = query(database_url, "SELECT number, reward FROM best_trial WHERE search = :name", name=search.name)
    assert [(-row["reward"], row["number"]) for row in rows] == sorted(rewarded)[:1]


def test_summary_has_one_flat_row_per_trial(store: Store) -> None:
    """A summary row tells a trial without any join."""
    search = new_search(store)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    store.start_trial(search.id, trial(0, started_at=start))
    outcome = replace(completed(trial(0, started_at=start)), finished_at=start + timedelta(seconds=90))
    store.finish_trial(search.id, outcome, reward=0.4)
    assert store.summary_rows(search.name) == [
        {
            "search": search.name,
            "number": 0,
            "stage": "blocks",
            "state": "complete",
            "origin": "random",
            "arch_id": architecture().arch_id,
            "top1": 0.5,
            "latency_ms": 1.5,
            "madds": 1000,
            "params_count": 100,
            "reward": 0.4,
            "target_ms": 2.0,
            "duration_s": 90.0,
            "images_seen": 64,
            "parent": None,
            "iteration": None,
            "error": None,
            "started_at": start,
            "finished_at": start + timedelta(seconds=90),
        }
    ]


def test_summary_is_sorted(store: Store) -> None:
    """Rewards and top-1 descend, all else ascends, and what is missing comes last."""
    search = new_search(store, "b")
    rows = [(0.2, 3.0, 0.1), (None, 1.0, None), (0.3, 2.0, 0.5)]
    record_outcomes(
        store,
        search,
        [
            (
                trial(number, state=State.COMPLETE, scores=Scores(top1=top1, latency_ms=ms, madds=1, params=1)),
                reward,
            )
            for number, (top1, ms, reward) in enumerate(rows)
        ],
    )
    store.start_trial(new_search(store, "a").id, trial())

    def numbers(sort: str) -> list[int]:
        return [row["number"] for row in store.summary_rows("b", sort)]

    assert numbers("number") == [0, 1, 2]
    assert numbers("reward") == [2, 0, 1]
    assert numbers("top1") == [2, 0, 1]
    assert numbers("latency_ms") == [1, 2, 0]
    assert [row["search"] for row in store.summary_rows(sort="search")] == ["a", "b", "b", "b"]


def test_summary_refuses_unknown_names(store: Store) -> None:
    """Neither an unknown search nor an unknown column is guessed."""
    with pytest.raises(StoreError, match="no search named 'x'"):
        store.summary_rows("x")
    with pytest.raises(StoreError, match=r"sorted by 'speed'; choose one of search, number, .*latency_ms"):
        store.summary_rows(sort="speed")


def test_second_reader_sees_what_the_writer_finished(store: Store, database_url: str) -> None:
    """Another process may read while the coordinator writes."""
    search = new_search(store)
    with closing(Store.open(database_url)) as reader:
        running = store.start_trial(search.id, trial())
        assert reader.trials(search.id) == [running]
        store.finish_trial(search.id, completed(running))
        assert [found.state for found in reader.trials(search.id)] == [State.COMPLETE]
