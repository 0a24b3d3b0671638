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
from search.events import Listener
from search.objective.latency import DeviceLatency, Goal
from search.plan import look_up
from search.record.heartbeat import Heartbeat
from search.record.store import Store
from search.stages.blocks import search_blocks
from search.stages.session import Session
from search.stages.walk.refine import refine
from search.trial import SearchStage
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

    def begin(**changes: Any) -> Session:  # noqa: ANN401 - sections of a run
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
                **changes,
            }
        )
        inputs = look_up(config)
        keys = {*inputs.space.reachable_keys(), *keys_of(inputs.space.reference)}
        table = latency_table(entries={key: entry(key) for key in keys}, scope=inputs.space.scope)
        target_ms = 0.5 * table.estimate(inputs.space.largest)
        start = new_start(
            store,
            run_folder=tmp_path / "walk",
            table_id=record_table(store, table),
            target_ms=target_ms,
            seed_target_ms=2.2 * target_ms,
        )
        record = store.searches.create(name="walk", config=config.model_dump(mode="json"), start=start)
        goals = (Goal(table_id=start.table_id or 0, table=table, meter=LocalMeter("desk"), target_ms=target_ms),)
        session = Session(
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
        search_blocks(session)
        return session

    def measure(session: Session, keys: set[BlockKey], *_: object, **__: object) -> None:
        (goal,) = session.goals
        goal.table = latency_table(
            entries={**goal.table.entries, **{key: entry(key) for key in keys}}, scope=goal.table.scope
        )

    monkeypatch.setattr(Session, "measure", measure)
    return begin


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


def test_the_walk_goes_on_until_its_end_meets_the_target_as_measured(
    walk: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where everything takes longer than predicted, it ends below; each network is measured once."""
    session = walk()
    asked = takes(monkeypatch, lambda _: 1.3)
    (best, *_) = refine(session)
    assert best.stage is SearchStage.NETADAPT
    assert 1.3 * best.scores.latency_ms <= session.start.target_ms
    slow = [arch for arch in asked if 1.3 * session.latency.estimate(arch) > session.start.target_ms]
    assert slow, "the first end had met the target by its prediction alone"
    assert len(set(asked)) == len(asked)
    notes = session.listener.notes  # type: ignore[attr-defined]
    assert sum(", predicted " in note and "takes" in note for note in notes) == len(asked)
    resumed = refine(session)
    assert resumed[0].number == best.number


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
