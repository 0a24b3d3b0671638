"""Claims: a search is run by one process at a time, whatever dies; one contract for every database."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, update

from search.record import claims
from search.record.claims import Claim, is_held, new_claim
from search.record.heartbeat import Heartbeat
from search.record.rows import SearchRecord
from search.record.schema import searches
from search.record.searches import MAX_CLAIMS, Held
from search.record.store import Store
from search.record.transactions import ClaimLost
from search.trial import NetAdaptStep, SearchStage
from space.errors import StoreError
from tests.search.makers import CONFIG, completed, new_search, new_start, trial
from tests.waiting import wait_for


def queued(store: Store, name: str, device: str = "desk") -> SearchRecord:
    """A search that waits in the queue."""
    return store.searches.create(name=name, config={**CONFIG, "device": {"name": device}})


@contextmanager
def another(url: str) -> Iterator[Store]:
    """The store of another process."""
    with closing(Store.open(url)) as opened:
        yield opened


def age(url: str, seconds: float) -> None:
    """Let all claims be older, as if their holders had been silent for so long; they are of another machine."""
    engine = create_engine(url)
    with engine.begin() as connection:
        moment = datetime.now(UTC) - timedelta(seconds=seconds)
        claimed = searches.c.claimed_by.is_not(None)
        connection.execute(update(searches).where(claimed).values(heartbeat_at=moment, claimed_by="far/x.1/1/5/abcd"))
    engine.dispose()


def test_oldest_of_the_queue_comes_first_and_each_is_claimed_once(store: Store, database_url: str) -> None:
    """Two coordinators get two searches in the order of queueing, and nothing when there is no more."""
    names = [queued(store, name).name for name in ("b", "a")]
    with another(database_url) as other:
        claimed = [store.searches.claim_next(), other.searches.claim_next()]
        assert [record and record.name for record in claimed] == names
        assert all(record and record.is_held and record.state == "running" for record in claimed)
        assert store.searches.claim_next() is None
        assert other.searches.claim_next() is None


def test_higher_priorities_come_first(store: Store) -> None:
    """Of the queue the highest priority goes first, also where it was given later; equal ones go in order."""
    for name in ("early", "late", "background", "urgent"):
        queued(store, name)
    store.searches.annotate(store.searches.get("urgent").id, priority=7)
    store.searches.annotate(store.searches.get("background").id, priority=-1)
    claimed = [store.searches.claim_next() for _ in range(4)]
    assert [record and record.name for record in claimed] == ["urgent", "early", "late", "background"]
    assert [record and record.priority for record in claimed] == [7, 0, 0, -1]


def test_many_coordinators_at_once(database_url: str) -> None:
    """Eight coordinators that claim at the same time share twelve searches without one being claimed twice."""
    with another(database_url) as first:
        names = {queued(first, f"search-{number}").name for number in range(12)}

    def work(_: int) -> list[str]:
        with another(database_url) as mine:
            found = []
            while (record := mine.searches.claim_next()) is not None:
                found.append(record.name)
            return found

    with ThreadPoolExecutor(8) as pool:
        claimed = [name for names in pool.map(work, range(8)) for name in names]
    assert sorted(claimed) == sorted(names)


def test_only_searches_for_the_device_are_claimed(store: Store) -> None:
    """A coordinator of one device leaves the others' searches in the queue."""
    queued(store, "phone", device="phone")
    assert store.searches.claim_next("desk") is None
    record = store.searches.claim_next("phone")
    assert record
    assert record.name == "phone"


def test_what_is_not_waiting_is_not_claimed(store: Store) -> None:
    """Searches of the foreground, stopped, failed and done ones are passed over."""
    new_search(store, "foreground")
    store.searches.request_stop(queued(store, "stopped").id)
    store.searches.set_stage(queued(store, "failed").id, SearchStage.QUEUED, error="no such folder")
    store.searches.set_stage(queued(store, "done").id, SearchStage.DONE)
    assert store.searches.claim_next() is None
    assert {record.name: record.state for record in store.searches.all()} == {
        "foreground": "stopped",
        "stopped": "stopped",
        "failed": "failed",
        "done": "done",
    }
    for name in ("stopped", "failed"):
        store.searches.enqueue(store.searches.get(name).id)
    claimed = [store.searches.claim_next(), store.searches.claim_next()]
    assert [record and record.name for record in claimed] == ["stopped", "failed"]


def test_released_search_is_free_for_the_next(store: Store, database_url: str) -> None:
    """Who stops in good order leaves the search to others at once."""
    record = queued(store, "one")
    assert store.searches.claim_next()
    store.searches.release(record.id)
    assert store.searches.get("one").state == "queued"
    with another(database_url) as other:
        assert other.searches.claim_next()


def test_living_holder_is_left_alone_and_a_silent_one_is_taken_over(store: Store, database_url: str) -> None:
    """A claim counts as long as its heartbeat is young; then the next one takes the search over."""
    record = queued(store, "one")
    assert store.searches.claim_next()
    with another(database_url) as other:
        with pytest.raises(Held, match="'one' is being run by another process"):
            other.searches.claim(record.id)
        age(database_url, claims.CLAIM_EXPIRES_S / 2)
        assert other.searches.claim_next() is None
        with pytest.raises(Held):
            other.searches.claim(record.id)
        age(database_url, claims.CLAIM_EXPIRES_S + 5)
        assert not other.searches.get("one").is_held
        assert other.searches.claim_next()


def test_who_was_taken_over_cannot_write(store: Store, database_url: str) -> None:
    """After a take-over every write of the former holder fails, and the record stays as the new one has it."""
    record = queued(store, "one")
    assert store.searches.claim_next()
    store.searches.begin(record.id, CONFIG, new_start(store))
    running = store.trials.start(record.id, trial(0))
    age(database_url, claims.CLAIM_EXPIRES_S + 5)
    step = NetAdaptStep(
        iteration=1,
        trial=0,
        parent=0,
        narrowed="",
        latency_before_ms=1,
        latency_after_ms=1,
        top1_before=0,
        top1_after=0,
        proposals=1,
    )
    with another(database_url) as other:
        assert other.searches.claim_next()
        before = other.searches.get("one"), other.trials.of(record.id)
        for write in (
            lambda: store.trials.start(record.id, trial(1)),
            lambda: store.trials.finish(record.id, completed(running)),
            lambda: store.trials.requeue_running(record.id),
            lambda: store.trials.add_step(record.id, step),
            lambda: store.trials.add_measurements(record.id, 1, []),
            lambda: store.searches.set_stage(record.id, SearchStage.DONE),
            lambda: store.searches.heartbeat(record.id),
        ):
            with pytest.raises(ClaimLost, match="taken over by another process"):
                write()
        store.searches.release(record.id)
        assert (other.searches.get("one"), other.trials.of(record.id)) == before
        other.trials.finish(record.id, completed(running))


def test_claim_of_a_dead_process_of_this_machine_is_free_at_once(store: Store, database_url: str) -> None:
    """Whoever was killed here need not be waited for."""
    record = queued(store, "one")
    code = "import sys; from search.record.store import Store; assert Store.open(sys.argv[1]).searches.claim_next()"
    subprocess.run([sys.executable, "-c", code, database_url], check=True, timeout=1200)
    assert store.searches.get("one").holder
    assert not store.searches.get("one").is_held
    store.searches.claim(record.id)
    assert store.searches.get("one").is_held


def test_search_that_kills_its_coordinators_is_given_up(store: Store, database_url: str) -> None:
    """After so many claims without one completed trial it is an error; a completed trial starts the count anew."""
    record = queued(store, "poison")

    def die() -> SearchRecord | None:
        with another(database_url) as other:
            claimed = other.searches.claim_next()
        age(database_url, claims.CLAIM_EXPIRES_S + 5)
        return claimed

    for _ in range(MAX_CLAIMS - 1):
        assert die()
    assert store.searches.claim_next()
    store.searches.begin(record.id, CONFIG, new_start(store))
    store.trials.finish(record.id, completed(store.trials.start(record.id, trial(0))))
    age(database_url, claims.CLAIM_EXPIRES_S + 5)
    for _ in range(MAX_CLAIMS):
        assert die()
    assert die() is None
    assert f"{MAX_CLAIMS} coordinators" in (store.searches.get("poison").error or "")


def test_coordinators_that_give_a_search_back_have_not_died(store: Store) -> None:
    """However often coordinators are told to end, and give back what they run, the search is no poison."""
    record = queued(store, "one")
    for _ in range(MAX_CLAIMS + 1):
        assert store.searches.claim_next()
        store.searches.release(record.id)
    assert store.searches.get("one").state == "queued"


def test_beginning_fills_in_what_was_not_known(store: Store) -> None:
    """A queued search has no target yet; begun it has all, and a second beginning changes nothing."""
    record = queued(store, "one")
    assert (record.start, record.stage) == (None, SearchStage.QUEUED)
    assert store.searches.claim_next()
    start = new_start(store)
    store.searches.begin(record.id, {**CONFIG, "trials": 9}, start)
    store.searches.begin(record.id, CONFIG, new_start(store, target_ms=7.0))
    found = store.searches.get("one")
    assert (found.start, found.stage, found.config["trials"]) == (start, SearchStage.BLOCKS, 9)


def test_heart_beats_until_the_end_and_tells_of_a_stop(
    store: Store, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the context lasts the claim is renewed, a request to stop is heard, and the end releases it."""
    monkeypatch.setattr("search.record.heartbeat.HEARTBEAT_S", 0.02)
    record = queued(store, "one")
    store.searches.claim(record.id)
    age_of = store.searches.get("one")
    assert age_of.is_held
    beats = []
    with Heartbeat(store, record.id, lambda: beats.append(1)) as heartbeat:
        store.searches.request_stop(record.id)
        wait_for(lambda: heartbeat.stop_requested)
        heartbeat.check()
        engine = create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(update(searches).values(claimed_by=str(new_claim())))
        engine.dispose()
        wait_for(lambda: heartbeat.lost)
        with pytest.raises(ClaimLost):
            heartbeat.check()
    assert beats
    assert store.searches.get("one").is_held, "the claim of another process was released"


def test_claims_come_back_from_text() -> None:
    """A claim is kept as text, whatever the host is called."""
    for host in ("desk", "a/b", ""):
        claim = Claim(host, "boot.4026", 12, "99", "ff00")
        assert Claim.parse(str(claim)) == claim


def test_pid_of_another_process_is_no_sign_of_life() -> None:
    """A number that the system gave to a new process does not keep the old one's claim alive."""
    claim = new_claim()
    now = datetime.now(UTC)
    assert is_held(str(claim), now, now)
    later = Claim(claim.host, claim.kernel, claim.pid, "1", claim.random)
    assert is_held(str(later), now, now) == (claim.kernel == "")


def test_log_lines_come_back_in_order(store: Store) -> None:
    """A reader asks for what is behind the last line it knows, of one search."""
    one, two = new_search(store), new_search(store)
    store.searches.add_log_line(one.id, level="info", event="note", message="first")
    store.searches.add_log_line(two.id, level="info", event="note", message="other")
    store.searches.add_log_line(one.id, level="warning", event="trial", message="sécond →", trial=3)
    first, second = store.searches.log(one.id)
    assert [(line.level, line.event, line.message, line.trial) for line in (first, second)] == [
        ("info", "note", "first", None),
        ("warning", "trial", "sécond →", 3),
    ]
    assert store.searches.log(one.id, first.id) == [second]
    assert store.searches.log(one.id, second.id) == []


def test_annotations_replace_and_leave_alone(store: Store) -> None:
    """What is not named stays; labels are replaced as a whole."""
    record = store.searches.create(name="one", config=CONFIG, owner="ada", labels=["a", "b"], note="old")
    store.searches.annotate(record.id, note="new")
    store.searches.annotate(record.id, labels=["c", "c"])
    found = store.searches.get("one")
    assert (found.owner, found.labels, found.note) == ("ada", ("c",), "new")
    store.searches.annotate(record.id, labels=[], owner="bob")
    assert (store.searches.get("one").labels, store.searches.get("one").owner) == ((), "bob")
    with pytest.raises(StoreError):
        store.searches.annotate(99, note="x")
