"""Races in which nothing is learnt are told from those in which something is."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.record.store import Store
from search.stages.race.rungs import is_above, is_guessing
from search.trial import Origin, SearchStage
from space.errors import RunError
from tests.search.inline import InlineExecutor
from tests.search.races import race_in, run, trials_of
from trainer.training.metrics import wilson_interval


@pytest.mark.parametrize(
    ("top1", "images", "guesses"),
    [(0.10, 9000, True), (0.11, 9000, True), (0.15, 9000, False), (0.10, 60, False), (0.0, 60, False)],
)
def test_who_only_guesses_is_told_apart(top1: float, images: int, guesses: bool) -> None:
    """Ten classes alike: who names one of them is at chance, but not for certain on 60 images."""
    assert is_guessing(top1, images, 0.1) is guesses


@pytest.mark.usefixtures("one_thread")
def test_who_learns_from_noise_is_told_so(
    tmp_path: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On few images in the log and in the report; on many the race ends before its final training."""
    monkeypatch.setattr("search.stages.race.rungs.is_above", lambda *_: False)  # whatever luck has it
    noise, draw = tmp_path / "noise", np.random.default_rng(0)
    for number in range(80):
        path = noise / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    config = race_in(tmp_path, noise, race={"rungs": [{"images": 32, "networks": 2}], "latency_from": 0.3})
    search = run(tmp_path, config | {"final": {"images": 64}})
    assert search.state == "done"
    assert len(executors) == 1
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        said = [line.message for line in store.searches.log(store.searches.get("race").id)]
    assert any("where always naming one class has 50.00%: that may be chance" in line for line in said)
    report = (tmp_path / "runs" / "race" / "report.md").read_text()
    (found,) = [trial for trial in trials_of(tmp_path) if trial.origin == Origin.FOUND]
    is_chance = wilson_interval(found.correct or 0, found.total or 1)[0] <= 0.5
    assert ("may do no better than to name class" in report) is is_chance


@pytest.mark.parametrize(("top1", "images", "above"), [(0.6, 60, False), (0.7, 60, True), (0.52, 9000, True)])
def test_who_is_above_chance_is_so_by_more_than_chance(top1: float, images: int, *, above: bool) -> None:
    """With the lower end of its interval."""
    assert is_above(top1, images, 0.5) is above


def test_a_race_of_guesses_ends_before_its_final(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the figures and what to do; what was trained stays recorded."""
    monkeypatch.setattr("search.stages.race.rungs.is_guessing", lambda *_: True)
    config = race_in(tmp_path, photos, race={"rungs": [{"images": 32, "networks": 2}], "latency_from": 0.3})
    with pytest.raises(RunError, match=r"nothing was learnt that a final training could build on; look at the labels"):
        run(tmp_path, config)
    assert len(executors) == 1
    assert {trial.stage for trial in trials_of(tmp_path)} == {SearchStage.BLOCKS}


def test_naming_the_largest_class_is_a_guess() -> None:
    """However right it is."""
    assert is_guessing(8000 / 9000, 9000, 8000 / 9000)
    assert not is_guessing(0.95, 9000, 8000 / 9000)
