"""Races of few images, all of which judge: each what was trained without it."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mobilenas
from search.config.load import parse_config
from search.config.unset import merged
from search.evaluation.data import Images
from search.plan import look_up
from search.record.store import Store
from search.run_folder import RunFolder
from search.stages.exported import ExportedNetwork
from search.trial import Origin, SearchStage, State, Trial
from space.arch import Architecture
from space.errors import MobilenasError
from space.networks.modules import fused
from tests.search.inline import InlineExecutor
from tests.search.races import race_in
from tests.search.stages.test_begun import config_in, published
from tests.tiny import dark_and_bright
from trainer.data.splits import folds_of
from trainer.training.inherit import adapted
from trainer.training.judgement import Judgement
from trainer.training.judging import judge, logits_of
from trainer.training.metrics import fitted_temperature
from trainer.training.networks import Weights, channels_last, load_model
from trainer.training.recipe import Recipe
from trainer.training.train import Teacher, train
from trainer.training.weight_files import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")

FOLDS = 3


def in_folds(config: dict[str, Any]) -> dict[str, Any]:
    """The same judged in three folds."""
    return config | {"data": config["data"] | {"folds": FOLDS}}


def search(folder: Path, config: dict[str, Any]) -> mobilenas.Search:
    """To its end."""
    return mobilenas.search(config, name="folds", database=f"sqlite:///{folder / 'record.db'}", runs=folder / "runs")


def trials_of(folder: Path, *stages: SearchStage) -> list[Trial]:
    """The completed trials of stages."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        trials = store.trials.of(store.searches.get("folds").id)
    return [trial for trial in trials if trial.state is State.COMPLETE and trial.stage in stages]


class ByHand:
    """Networks trained without each fold, and on all images."""

    def __init__(self, config: dict[str, Any], start: Path | None = None) -> None:
        self.config = parse_config(config)
        inputs = look_up(self.config)
        assert isinstance(inputs.data, Images)
        self.dataset, self.reference = inputs.data.dataset, inputs.space.reference
        self.pool = inputs.data.splits.train
        assert np.array_equal(self.pool, inputs.data.splits.reward)
        self.parts = [*folds_of(self.pool, self.dataset.labels(), FOLDS, 0), self.pool[:0]]
        self.start: list[Weights] = []
        if start is not None:
            given = read_weights(start)
            self.start = [self.alone(self.reference, self.config.final_recipe, part, given) for part in self.parts]

    def alone(self, arch: Architecture, recipe: Recipe, without: np.ndarray, begun: Weights | None = None) -> Weights:
        """One of them: without a fold, from weights, where there are any, of the same."""
        images, teacher = np.setdiff1d(self.pool, without), None
        if begun is None and self.start:
            known = self.start[[part is without for part in self.parts].index(True)]
            begun = adapted(self.reference, known, arch, seed=0)
            answer = channels_last(fused(load_model(self.reference, known)))
            teacher = Teacher(answer=answer, identity="of the same fold")
        return train(arch, self.dataset, images, recipe, seed=0, weights=begun, teacher=teacher).weights

    def check(self, trial: Trial, files: RunFolder, recipe: Recipe, *, is_final: bool) -> float:
        """Its judgement is that of the folds, its weights those of all images in the end, and before of the first.

        Returns the temperature of the folds.
        """
        made = self.start if trial.architecture == self.reference and self.start else None
        made = made or [self.alone(trial.architecture, recipe, part) for part in self.parts]
        right, likelihoods = np.zeros(len(self.pool), dtype=bool), np.zeros(len(self.pool))
        said, classes = [], []
        for weights, part in zip(made[:FOLDS], self.parts, strict=False):
            found = judge(load_model(trial.architecture, weights), self.dataset, part)
            said.append(logits_of(load_model(trial.architecture, weights), self.dataset, part).numpy())
            classes.append(self.dataset.labels()[part])
            places = np.isin(self.pool, part)
            right[places], likelihoods[places] = found.right, found.log_likelihoods
        expected = Judgement(right=right, log_likelihoods=likelihoods)
        assert files.judged(trial.number).read_bytes() == expected.to_bytes()
        assert (trial.scores.top1, trial.scores.log_likelihood) == (expected.top1, expected.log_likelihood)
        kept = read_weights(files.weights(trial))
        assert all(torch.equal(kept[name], tensor) for name, tensor in made[FOLDS if is_final else 0].items())
        return fitted_temperature(np.concatenate(said), np.concatenate(classes))


@pytest.mark.slow
@pytest.mark.parametrize("begins", [False, True])
def test_each_image_judges_what_was_trained_without_it(
    tmp_path: Path, photos: Path, executors: list[InlineExecutor], begins: bool
) -> None:
    """In races from scratch and from weights; what networks begin with and learn from is without it, too."""
    rungs = [{"images": 32, "networks": 3}, {"images": 64, "networks": 2}]
    plain = race_in(tmp_path, photos, race={"rungs": rungs, "latency_from": 0.3})
    config = in_folds(config_in(tmp_path, photos, published(tmp_path)) if begins else plain)
    found = search(tmp_path, config)
    assert executors
    files = RunFolder(found.folder)
    by_hand = ByHand(config, files.start_weights if begins else None)
    for trial in trials_of(tmp_path, SearchStage.BLOCKS):
        is_start = trial.origin == Origin.START
        recipe = by_hand.config.final_recipe if is_start else by_hand.config.rung_recipe(trial.images_seen)
        by_hand.check(trial, files, recipe, is_final=is_start)
    finals = trials_of(tmp_path, SearchStage.FINAL)
    temperatures = {}
    for trial in finals:
        temperatures[trial.number] = by_hand.check(trial, files, by_hand.config.final_recipe, is_final=True)
        assert trial.total == (None if trial.origin == Origin.CANDIDATE else 18)
    chosen = next(trial for trial in finals if trial.origin == Origin.FOUND)
    assert chosen.scores.top1 == next(each.scores.top1 for each in finals if each.number == chosen.parent)
    assert ExportedNetwork(found.folder).temperature == pytest.approx(temperatures[chosen.number], rel=1e-5)
    report = (found.folder / "report.md").read_text(encoding="utf-8").replace("\n", " ")
    assert "each by networks that were trained without it (3 folds)" in report
    assert "also among those that networks are trained on" not in report
    assert not list(files.trials.glob("*.checkpoint"))


def photos_with(folder: Path, *splits: str, each: int) -> str:
    """Pictures of two classes, in folders of splits where there are any."""
    for split in splits or ("",):
        dark_and_bright(folder / split, each=each, pixels=16)
    return f"imagefolder:{folder}"


@pytest.mark.parametrize(
    ("splits", "each", "changes", "folds"),
    [
        ((), 40, {}, 5),
        (("train", "test"), 12, {}, 5),
        (("train", "val", "test"), 12, {}, 1),
        ((), 6, {}, 5),
        ((), 5, {}, 1),
        ((), 40, {"data": {"folds": 3}}, 3),
        ((), 40, {"race": {"rungs": []}, "final": {"images": 100}}, 1),
        ((), 40, {"init": None}, 1),
    ],
)
def test_few_images_judge_in_turn(
    tmp_path: Path, splits: tuple[str, ...], each: int, changes: dict[str, Any], folds: int
) -> None:
    """In a race from given weights, unless somebody has chosen a folder of those that judge, or a class has too few."""
    data = {"source": photos_with(tmp_path / "photos", *splits, each=each), "resolution": 16}
    content = merged({"data": data, "init": str(published(tmp_path))}, changes)
    assert look_up(parse_config(content)).config.data.folds == folds


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": {"folds": 50}}, "less than or equal to 20"),
        ({"data": {"folds": 20}}, "data.folds: 20 parts, but a class has 10 images"),
        ({"race": {"rungs": []}}, "data.folds 3 is for races without a supernet"),
        ({"supernet": "x"}, "data.folds 3 is for races without a supernet"),
        ({"executor": "ray", "ray": {"final_processes": 2}}, "are not shared by ray.final_processes"),
    ],
)
def test_folds_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    """Each must have images of each class, and trainings must begin anew without it."""
    photos = dark_and_bright(tmp_path / "photos", each=12, pixels=16)
    config = in_folds(race_in(tmp_path, photos))
    with pytest.raises(MobilenasError, match=told):
        look_up(parse_config(merged(config, changes)))


@pytest.mark.slow
def test_the_start_of_folds_is_not_taken_over(tmp_path: Path, photos: Path, executors: list[InlineExecutor]) -> None:
    """Another search of the same fine-tunes it anew, since what its folds left is gone; all else it need not train."""
    rungs = [{"images": 32, "networks": 2}]
    config = in_folds(config_in(tmp_path, photos, published(tmp_path)))
    config |= {"blocks": {"reuse": True}, "race": {"rungs": rungs, "latency_from": 0.3}}
    url = f"sqlite:///{tmp_path / 'record.db'}"
    for name in ("first", "second"):
        mobilenas.search(config, name=name, database=url, runs=tmp_path / "runs")
    with closing(Store.open(url)) as store:
        first, second = (store.trials.of(store.searches.get(name).id) for name in ("first", "second"))
    assert [trial.evaluation_key for trial in first] == [trial.evaluation_key for trial in second]
    assert [trial.reused_from is not None for trial in second if trial.stage is SearchStage.BLOCKS] == [
        False,
        True,
        True,
    ]
    start = next(job for job in executors[1].jobs)
    assert start.keeps_checkpoint
