"""The walk's end is measured whole before it is trained, and what misses the target is walked on from, or left out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency.meter import LocalMeter
from latency.table import LatencyTable
from latency.whole import Whole
from search.config.load import parse_config
from search.evaluation.job import Job
from search.events import Listener
from search.objective.latency import DeviceLatency, Goal
from search.plan import Inputs, look_up
from search.record.heartbeat import Heartbeat
from search.record.rows import SearchRecord
from search.record.store import Store
from search.stages.blocks import search_blocks
from search.stages.final import has_chosen, train_finals
from search.stages.session import Session
from search.stages.walk.refine import refine
from search.trial import Origin, SearchStage, State
from space.arch import Architecture
from space.choices import SearchSpace
from space.cost import unit_cost
from space.errors import DeviceError
from space.keys import BlockKey, keys_of
from space.preset import read_preset
from tests.search.inline import InlineExecutor
from tests.search.makers import latency_table, measurement, new_start, record_table
from tests.tiny import TINY_SPACE

pytestmark = pytest.mark.usefixtures("one_thread")


class Notes(Listener):
    """What was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """One more."""
        self.notes.append(text)


@pytest.fixture
def walk(store: Store, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """A search by counts on a device whose table is made up, whose only block-level trial is the largest network."""

    def begin(name: str = "walk", **changes: Any) -> Session:  # noqa: ANN401 - sections of a run
        (tmp_path / "space.yaml").write_text(yaml.safe_dump(TINY_SPACE))
        space = SearchSpace(
            preset=read_preset(TINY_SPACE, "here"), width=1.0, resolution=16, in_channels=3, num_classes=2
        )
        largest = space.largest
        config = parse_config(
            {
                "data": {"source": f"imagefolder:{photos}", "resolution": 16, "reward_images": 18},
                "space": {"preset": str(tmp_path / "space.yaml"), "width": 1.0},
                "device": {"name": "desk"},
                "target": {"ms": 0.3},
                "training": {"batch_size": 16},
                "blocks": {"trials": 2, "train_images": 32, "enqueue": [largest.to_json()]},
                "netadapt": {"images": 16, "delta": 0.1, "steps": "fixed", "max_steps": 20},
                "final": {"images": 32},
                **changes,
            }
        )
        inputs = look_up(config)
        keys = {*inputs.space.reachable_keys(), *keys_of(inputs.space.reference)}
        table = latency_table(entries={key: entry(key) for key in keys}, scope=inputs.space.scope)
        target_ms = 0.5 * table.estimate(inputs.space.largest)
        start = new_start(
            store,
            run_folder=tmp_path / name,
            table_id=record_table(store, table),
            target_ms=target_ms,
            seed_target_ms=2.2 * target_ms,
        )
        record = store.searches.create(name=name, config=config.model_dump(mode="json"), start=start)
        goals = (Goal(table_id=start.table_id or 0, table=table, meter=LocalMeter("desk"), target_ms=target_ms),)
        session = opened(store, record, inputs, goals)
        search_blocks(session)
        return session

    def measure(session: Session, keys: set[BlockKey], *_: object, **__: object) -> None:
        (goal,) = session.goals
        goal.table = latency_table(
            entries={**goal.table.entries, **{key: entry(key) for key in keys}}, scope=goal.table.scope
        )

    monkeypatch.setattr(Session, "measure", measure)
    return begin


def opened(store: Store, record: SearchRecord, inputs: Inputs, goals: tuple[Goal, ...]) -> Session:
    """Whoever runs it, on with it if it has begun."""
    return Session(
        store=store,
        record=record,
        config=inputs.config,
        space=inputs.space,
        data=inputs.data,
        goals=goals,
        latency=DeviceLatency(goals),
        executor=InlineExecutor(2),
        listener=Notes(),
        heartbeat=Heartbeat(store, record.id),
    )


def reopened(session: Session) -> Session:
    """As another coordinator has it."""
    return opened(session.store, session.record, look_up(session.config), session.goals)


def entry(key: BlockKey) -> Any:  # noqa: ANN401 - a measurement
    """A block takes as many ms as it has millions of multiply-adds."""
    return measurement(0.001 + unit_cost(key).madds / 1e6)


def takes(monkeypatch: pytest.MonkeyPatch, error_of: Callable[[Architecture], float]) -> list[Architecture]:
    """Has networks take so many times as long as predicted; returns those that are measured."""
    asked: list[Architecture] = []

    def measure_whole(table: LatencyTable, networks: Mapping[str, Architecture], *_: Any) -> dict[str, Whole]:  # noqa: ANN401
        asked.extend(networks.values())
        return {
            name: Whole(ms=ms, low_ms=ms, high_ms=ms, measurement=measurement(ms))
            for name, arch in networks.items()
            for ms in [error_of(arch) * table.estimate(arch)]
        }

    monkeypatch.setattr("search.stages.race.screening.measure_whole", measure_whole)
    return asked


@pytest.mark.parametrize(("steps", "off"), [("fixed", 1.3), ("adaptive", 1.03), ("adaptive", 1.3)])
def test_the_walk_goes_on_until_its_end_meets_the_target_as_measured(
    walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch, steps: str, off: float
) -> None:
    """Where everything takes longer than predicted, it ends below; each network is measured once."""
    session = walk(netadapt={"images": 16, "most_images": 32, "delta": 0.1, "steps": steps, "max_steps": 20})
    asked = takes(monkeypatch, lambda _: off)
    (best, *_) = refine(session)
    assert best.stage is SearchStage.NETADAPT
    assert off * session.latency.estimate(best.architecture) <= session.start.target_ms
    assert best.scores.latency_ms == session.latency.estimate(best.architecture), "a prediction stays one"
    slow = [arch for arch in asked if off * session.latency.estimate(arch) > session.start.target_ms]
    assert slow, "the first end had met the target by its prediction alone"
    assert len(set(asked)) == len(asked)
    notes = session.listener.notes  # type: ignore[attr-defined]
    assert sum(", predicted " in note and "takes" in note for note in notes) == len(asked)
    again = takes(monkeypatch, lambda _: 9.0)
    assert refine(session)[0].number == best.number
    assert again == [], "what is recorded is not measured again"


class Killed(BaseException):
    """The coordinator ended here."""


@pytest.mark.parametrize("job", [1, 3])
def test_a_walk_that_is_killed_beyond_the_target_goes_on(
    job: int, walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As measured its end had missed it, which is recorded: no trial is left running, and the end is the same."""
    session = walk()
    measured = takes(monkeypatch, lambda _: 1.3)
    submit, jobs = InlineExecutor.submit, []

    def submitted(executor: InlineExecutor, given: Job) -> None:
        jobs.append(given)
        if measured and len(after) >= job:
            raise Killed
        if measured:
            after.append(given)
        submit(executor, given)

    after: list[Job] = []
    with monkeypatch.context() as patched:
        patched.setattr(InlineExecutor, "submit", submitted)
        with pytest.raises(Killed):
            refine(session)
    resumed = reopened(session)
    assert any(trial.state is State.RUNNING for trial in resumed.trials(SearchStage.NETADAPT))
    (best, *_) = refine(resumed)
    assert 1.3 * best.scores.latency_ms <= session.start.target_ms
    assert {trial.state for trial in resumed.trials(SearchStage.NETADAPT)} <= {State.COMPLETE, State.PRUNED}
    alone = walk(name="alone")
    takes(monkeypatch, lambda _: 1.3)
    assert refine(alone)[0].architecture == best.architecture


def test_finals_are_chosen_once(walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever resumes a search trains what was chosen, whatever the device says by then."""
    session = walk()
    takes(monkeypatch, lambda _: 1.0)
    assert not has_chosen(session)
    best = refine(session)
    with monkeypatch.context() as patched:
        patched.setattr(InlineExecutor, "submit", raises_killed)
        with pytest.raises(Killed):
            train_finals(session, best)
    resumed = reopened(session)
    assert has_chosen(resumed)
    train_finals(resumed, [])
    finals = resumed.trials(SearchStage.FINAL)
    assert [trial.origin for trial in finals] == [Origin.FOUND, Origin.REFERENCE]
    assert {trial.state for trial in finals} == {State.COMPLETE}


def raises_killed(*_: object) -> None:
    """Whatever is asked of it."""
    raise Killed


def test_who_meets_the_target_is_measured_and_taken(
    walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before where predictions are right."""
    session = walk()
    asked = takes(monkeypatch, lambda _: 1.0)
    (best, *_) = refine(session)
    assert asked == [best.architecture]
    notes = session.listener.notes  # type: ignore[attr-defined]
    (told,) = [note for note in notes if "images judge each step" in note]
    assert told.startswith("only 18 images judge each step, so that one of them is 5.6 points")


def test_where_nobody_meets_the_target_the_fastest_is_taken(
    walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no step left to go, and said so."""
    session = walk(netadapt={"images": 16, "delta": 0.1, "steps": "fixed", "max_steps": 6})
    asked = takes(monkeypatch, lambda _: 9.0)
    found = refine(session)
    assert found[0].architecture == min(asked, key=session.latency.estimate)
    notes = session.listener.notes  # type: ignore[attr-defined]
    assert any("meets the target as measured; the fastest is taken" in note for note in notes)


def test_a_device_that_is_away_is_not_waited_for(walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions decide then, as before; this machine must measure."""
    session = walk()

    def away(*_: object) -> None:
        raise DeviceError("nobody answers")

    monkeypatch.setattr("search.stages.race.screening.measure_whole", away)
    with pytest.raises(DeviceError):
        refine(session)
    monkeypatch.setattr("search.stages.walk.refine.LocalMeter", str)
    assert refine(session)
    notes = session.listener.notes  # type: ignore[attr-defined]
    assert any("no network is measured before the final training: nobody answers" in note for note in notes)
