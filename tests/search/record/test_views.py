"""The views: one contract for every database."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.record.rows import SearchRecord
from search.record.store import Store
from search.trial import Origin, Scores, SearchStage, State, Trial
from space.errors import StoreError
from tests.search.makers import architecture, ask, completed, contract, new_search, trial


def record_outcomes(store: Store, search: SearchRecord, outcomes: Sequence[tuple[Trial, float | None]]) -> None:
    """Record trials with their rewards."""
    for outcome, reward in outcomes:
        running = store.trials.start(search.id, replace(outcome, state=State.RUNNING))
        if outcome.state is not State.RUNNING:
            store.trials.finish(search.id, replace(outcome, started_at=running.started_at), reward=reward)


# Few different values, so that ties are common.
outcomes = st.lists(
    st.tuples(
        st.sampled_from([SearchStage.BLOCKS, SearchStage.NETADAPT, SearchStage.FINAL]),
        st.sampled_from([State.COMPLETE, State.COMPLETE, State.COMPLETE, State.FAILED, State.RUNNING]),
        st.sampled_from([None, 0.1, 0.2, 0.3]),
        st.sampled_from([1.0, 2.0, 3.0]),
        st.sampled_from([None, 0.5, 0.6]),
        st.integers(0, 2),
    ),
    max_size=10,
).map(
    lambda rows: [
        (
            trial(
                number,
                stage=stage,
                state=state,
                scores=Scores(top1=top1, latency_ms=ms, madds=1, params=1),
                origin=Origin.PROMOTED if rung and stage is SearchStage.BLOCKS else "random",
                iteration=rung or None,
            ),
            reward,
        )
        for number, (stage, state, top1, ms, reward, rung) in enumerate(rows)
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
    """`pareto_front` agrees with the definition of dominance, within each search and stage.

    Of a race it has the last rung that several trials have ended.
    """
    search = new_search(store)
    record_outcomes(store, search, outcomes)
    candidates = [
        found
        for found, _ in outcomes
        if found.state is State.COMPLETE and found.stage is not SearchStage.FINAL and found.scores.top1 is not None
    ]
    ended = Counter((found.stage, found.rung) for found in candidates)
    last = {stage: max((rung for rung in (1, 2) if ended[stage, rung] > 1), default=0) for stage in SearchStage}
    candidates = [found for found in candidates if found.rung == last[found.stage]]
    front = {
        (mine.stage.value, mine.number)
        for mine in candidates
        if not any(other.stage is mine.stage and dominates(other.scores, mine.scores) for other in candidates)
    }
    rows = ask(database_url, "SELECT stage, number FROM pareto_front WHERE search = :name", name=search.name)
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
    rows = ask(database_url, "SELECT number, reward FROM best_trial WHERE search = :name", name=search.name)
    assert [(-row["reward"], row["number"]) for row in rows] == sorted(rewarded)[:1]


def test_summary_has_one_flat_row_per_trial(store: Store) -> None:
    """A summary row tells a trial without any join."""
    search = new_search(store)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    store.trials.start(search.id, trial(0, started_at=start))
    outcome = replace(completed(trial(0, started_at=start)), finished_at=start + timedelta(seconds=90))
    store.trials.finish(search.id, outcome, reward=0.4)
    assert store.trials.summary_rows(search.name) == [
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
            "data": "fashion-mnist",
            "device": "desk",
            "owner": None,
            "attempt": 1,
            "reused": 0,
            "within_target": 1,
            "test_top1": None,
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
    store.trials.start(new_search(store, "a").id, trial())

    def numbers(sort: str) -> list[int]:
        return [row["number"] for row in store.trials.summary_rows("b", sort)]

    assert numbers("number") == [0, 1, 2]
    assert numbers("reward") == [2, 0, 1]
    assert numbers("top1") == [2, 0, 1]
    assert numbers("latency_ms") == [1, 2, 0]
    assert [row["search"] for row in store.trials.summary_rows(sort="search")] == ["a", "b", "b", "b"]


def test_summary_refuses_unknown_names(store: Store) -> None:
    """An unknown column is not guessed."""
    with pytest.raises(StoreError, match=r"sorted by 'speed'; choose one of search, number, .*latency_ms"):
        store.trials.summary_rows(sort="speed")
