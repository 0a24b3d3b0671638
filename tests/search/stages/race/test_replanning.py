"""Planning anew: a race that would take too long, or much less than its time, is fitted to what is left of it."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.config.load import RunConfig, parse_config
from search.evaluation.pace import Pace, pace_of_trainings
from search.record.store import Store
from search.stages.race.replanning import fitted
from search.stages.session import Session
from search.trial import Origin, SearchStage
from tests.search.inline import InlineExecutor
from tests.search.races import RUNGS, race_in, run, rungs_of, trials_of


def race_of(minutes: float, folder: Path, photos: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """A race that has so many minutes."""
    race = {"rungs": RUNGS, "latency_from": 0.3, "minutes": minutes}
    return race_in(folder, photos, determinism="eager", race=race, **changes)


def configuration(folder: Path, name: str = "race") -> RunConfig:
    """The recorded one."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        return parse_config(dict(store.searches.get(name).config))


def notes(folder: Path, name: str = "race") -> list[str]:
    """What the log says of plans."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        lines = store.searches.log(store.searches.get(name).id)
    return [line.message for line in lines if line.message.startswith("planned anew")]


@pytest.mark.usefixtures("one_thread", "executors")
def test_a_race_without_time_takes_the_shortest_way(tmp_path: Path, photos: Path) -> None:
    """One network goes on, which the record and its log tell, and it is trained to the end."""
    assert run(tmp_path, race_of(1e-5, tmp_path, photos)).state == "done"
    assert [len(rung) for rung in rungs_of(trials_of(tmp_path))] == [6, 1, 1]
    config = configuration(tmp_path)
    assert [rung.networks for rung in config.race.rungs] == [6, 1, 1]
    assert config.final.top_k == 1
    said, *_ = notes(tmp_path)
    assert re.search(r"where 0\.0 are left; now \d+\.\d: 1 networks up to 64 images", said)


@pytest.mark.usefixtures("one_thread", "executors")
def test_a_race_with_time_to_spare_takes_more_networks_on_and_trains_longer(tmp_path: Path, photos: Path) -> None:
    """But not more than have got so far, all finalists in the end; each time trainings get four times as long."""
    assert run(tmp_path, race_of(60.0, tmp_path, photos)).state == "done"
    assert [len(rung) for rung in rungs_of(trials_of(tmp_path))] == [6, 6, 6]
    first, *later = [rung.images for rung in configuration(tmp_path).race.rungs]
    before, *planned = [each["images"] for each in RUNGS]
    assert first == before
    assert [images / was for images, was in zip(later, planned, strict=True)] == [4.0, 16.0]
    assert len(notes(tmp_path)) >= 1


@pytest.mark.usefixtures("one_thread", "executors")
def test_a_race_that_is_finished_early_has_no_more_finalists(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for an early end in the first promotions does not get a longer final training for it."""

    def asked(session: Session) -> bool:
        return bool(session.index.of_origin(SearchStage.BLOCKS, Origin.PROMOTED))

    monkeypatch.setattr(Session, "finish_requested", property(asked))
    assert run(tmp_path, race_of(60.0, tmp_path, photos)).state == "done"
    assert configuration(tmp_path).final.top_k == 2


@pytest.mark.usefixtures("one_thread", "executors")
def test_nothing_changes_where_a_search_is_to_be_the_same(tmp_path: Path, photos: Path) -> None:
    """A strict search follows its first plan, however long that takes."""
    assert run(tmp_path, race_of(1e-5, tmp_path, photos) | {"determinism": "strict"}).state == "done"
    assert [len(rung) for rung in rungs_of(trials_of(tmp_path))] == [6, 3, 2]
    assert notes(tmp_path) == []


@pytest.mark.usefixtures("one_thread")
def test_whoever_resumes_follows_what_was_planned_anew(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that is killed in the rung behind it has as many networks there as the one that was left alone."""
    config = race_of(1e-5, tmp_path, photos)
    submit = InlineExecutor.submit

    def killed(self: InlineExecutor, job: Any) -> None:  # noqa: ANN401 - a job
        if job.begun is not None:
            raise KeyboardInterrupt
        submit(self, job)

    with monkeypatch.context() as patched:
        patched.setattr(InlineExecutor, "submit", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, config)
    assert len(notes(tmp_path)) == 1
    assert run(tmp_path, config).state == "done"
    assert len(executors) == 2
    assert [len(rung) for rung in rungs_of(trials_of(tmp_path))] == [6, 1, 1]
    trials = trials_of(tmp_path)
    assert len([trial for trial in trials if trial.stage is SearchStage.FINAL]) >= 2


PACES = st.builds(
    Pace,
    images_per_second=st.floats(20, 5000),
    workers=st.integers(1, 8),
    judged=st.just(2500),
    judged_whole=st.just(9000),
    tested=st.just(10_000),
)


@settings(max_examples=40, deadline=None)
@given(pace=PACES, rung=st.integers(1, 3), minutes=st.floats(-5, 60))
def test_what_is_planned_anew_can_be_run(pace: Pace, rung: int, minutes: float) -> None:
    """It is a configuration like any other, leaves alone what was trained, and takes the time where that can be."""
    config = parse_config({})
    found = fitted(config, pace, rung, 60 * minutes)
    assert parse_config(found.model_dump(mode="json")) == found
    assert found.race.rungs[:rung] == config.race.rungs[:rung]
    takes = pace.rungs(found.race, rung) + pace.finals(found)
    shorter = [config.going_on(rung, images=1 / 2**by, networks=1 / 8) for by in range(3)]
    shortest = [each for each in shorter if each is not None][-1]
    if pace.rungs(shortest.race, rung) + pace.finals(shortest) <= 60 * minutes:
        assert takes <= 60 * minutes
    assert found.final.images >= 15_000
    if found.final.images > config.final.images:
        assert takes <= 60 * minutes
        assert all(new.networks >= old.networks for new, old in zip(found.race.rungs, config.race.rungs, strict=True))
    for before, after in zip(found.race.rungs, found.race.rungs[1:], strict=False):
        # Trainings of other searches are those of powers of two.
        assert before.images < after.images


def test_trainings_side_by_side_take_as_long_as_the_busiest_worker() -> None:
    """No training is shared by workers, so three take two of them as long as two after one another."""
    pace = Pace(images_per_second=100.0, workers=2, judged=0, judged_whole=0, tested=0)
    assert pace.alike(3, 1000) == pace.side_by_side([1000] * 3) == 20.0
    assert pace.side_by_side([3000, 1000, 1000, 1000]) == 30.0
    assert pace_of_trainings([(1000, 10.0), (500, 5.0)]) == 100.0
    assert pace_of_trainings([]) is None


def test_a_look_costs_judging_alone() -> None:
    """Networks that a supernet knows are measured in BatchNorm and judged: 0.15 of training on 1,024 + 2,500 images."""
    looked, plain = parse_config({"supernet": "runs/shared"}).race, parse_config({}).race
    pace = Pace(images_per_second=500.0, workers=2, judged=2500, judged_whole=9000, tested=10_000)
    assert looked.rungs[0].networks == 160
    assert pace.rungs(looked) - pace.rungs(looked, 1) == pytest.approx(80 * 0.15 * 3524 / 500)
    # The first rung of trainings is judged on the whole reward split: it is no first look any more.
    assert pace.rungs(looked, 1) - pace.rungs(plain) == pytest.approx(20 * 0.15 * 6500 / 500)


def test_twice_the_time_is_twice_the_images_and_four_times_is_both() -> None:
    """Half of the factor, in logarithm, is for longer trainings; a little more time is for networks alone."""
    config = parse_config({})
    pace = Pace(images_per_second=500.0, workers=2, judged=2500, judged_whole=9000, tested=10_000)
    planned = pace.rungs(config.race, 1) + pace.finals(config)
    little, twice, much = (fitted(config, pace, 1, share * planned) for share in (1.4, 2.1, 8.1))
    assert little.final.images == config.final.images
    assert little.race.rungs[1].networks > config.race.rungs[1].networks
    assert twice.final.images == pytest.approx(2 * config.final.images, rel=0.01)
    assert twice.race.rungs[1].networks >= config.race.rungs[1].networks
    assert much.final.images == pytest.approx(4 * config.final.images, rel=0.01)
    assert much.race.rungs[1].networks > config.race.rungs[1].networks
