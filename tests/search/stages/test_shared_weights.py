"""Searches by `evaluator: supernet`: networks are judged by weights that they share, and begin from them in the end."""

import io
import shutil
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mobilenas
from search.archives.archive import write_archive
from search.config.load import parse_config
from search.evaluation.data import Images
from search.evaluation.job import Training
from search.events import Listener
from search.lifecycle.creation import SearchRequest, begin, enqueue
from search.plan import check_supernet, look_up
from search.record.database import Database
from search.record.store import Store
from search.run_folder import RunFolder
from search.stages.race.rungs import by_likelihood
from search.trainings.supernets import SupernetTraining, train_named
from search.trial import Origin, SearchStage, State, Trial
from space.errors import DataError, InvalidConfig, MobilenasError, RunError
from tests.search.inline import InlineExecutor, killed_after
from tests.search.races import race_in
from trainer.supernet.files import SupernetFile
from trainer.training.recipe import load_recipe
from trainer.training.train import train
from trainer.training.weight_files import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")


def config_in(folder: Path, photos: Path, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - sections of a run
    """A search of four networks that are judged by the supernet in `folder`/shared, whose best one is tuned on."""
    by_weights = {
        "evaluator": "supernet",
        "supernet": str(folder / "shared"),
        "blocks": {"trials": 4, "reuse": False},
        "race": {"rungs": []},
        "netadapt": {"max_steps": 1, "images": 16, "delta": 0.05},
        "final": {"images": 32, "weights": "inherited"},
    }
    return race_in(folder, photos, **{**by_weights, **changes})


@pytest.fixture
def shared(tmp_path: Path, photos: Path) -> Path:
    """A supernet of the tiny space, trained for some steps."""
    plain = {name: each for name, each in config_in(tmp_path, photos).items() if name not in ("evaluator", "supernet")}
    inputs = look_up(parse_config(plain))
    assert isinstance(inputs.data, Images)
    recipe = replace(load_recipe("proxy"), images=96, batch_size=16)
    wanted = SupernetTraining(
        space=inputs.space,
        dataset=inputs.data.dataset,
        splits=inputs.data.splits,
        recipe=recipe,
        folder=tmp_path / "shared",
    )
    train_named(wanted, Listener())
    return wanted.folder


def trials_of(folder: Path, stage: SearchStage) -> list[Trial]:
    """The completed trials of a stage."""
    with closing(Store.open(f"sqlite:///{folder / 'record.db'}")) as store:
        trials = store.trials.of(store.searches.get("shared-search").id, stage)
    return [trial for trial in trials if trial.state is State.COMPLETE]


def search(folder: Path, config: dict[str, Any]) -> mobilenas.Search:
    """To its end."""
    url = f"sqlite:///{folder / 'record.db'}"
    return mobilenas.search(config, name="shared-search", database=url, runs=folder / "runs")


@pytest.mark.slow
def test_networks_are_judged_by_the_weights_that_they_share(
    tmp_path: Path, photos: Path, shared: Path, executors: list[InlineExecutor]
) -> None:
    """Each has its part of them, but for BatchNorm's statistics; NetAdapt and the final training begin from there."""
    found = search(tmp_path, config_in(tmp_path, photos))
    file, files = SupernetFile.read(shared / "supernet.safetensors"), RunFolder(found.folder)
    judged = trials_of(tmp_path, SearchStage.BLOCKS)
    assert len(judged) == 4
    for trial in judged:
        assert trial.images_seen == 0
        weights, mine = read_weights(files.weights(trial)), file.supernet.weights_of(trial.architecture)
        assert weights.keys() == mine.keys()
        parts = [name for name in mine if ".running_" not in name and "num_batches" not in name]
        assert all(torch.equal(weights[name], mine[name]) for name in parts)
    evaluations = [job.evaluation for job in executors[0].jobs]
    trained = [each for each in evaluations if isinstance(each, Training) and each.recipe is not None]
    (end,) = (trial for trial in trials_of(tmp_path, SearchStage.FINAL) if trial.origin == Origin.FOUND)
    assert end.parent is not None
    assert {each.inherits for each in trained if each.architecture == end.architecture} == {True}
    report = (found.folder / "report.md").read_text(encoding="utf-8")
    assert "by the weights of a supernet" in report
    assert "the reference, which has none there, from scratch" in report.replace("\n", " ")


@pytest.mark.slow
def test_a_race_may_begin_with_what_networks_share(
    tmp_path: Path, photos: Path, shared: Path, executors: list[InlineExecutor]
) -> None:
    """They are judged before they are trained, and trained from those weights, rung by rung as if at once."""
    rungs = [{"images": 0, "networks": 6}, {"images": 32, "networks": 3}, {"images": 64, "networks": 2}]
    config = race_in(tmp_path, photos, supernet=str(shared), race={"rungs": rungs, "latency_from": 0.3})
    found = search(tmp_path, config)
    blocks = trials_of(tmp_path, SearchStage.BLOCKS)
    assert [[each.images_seen for each in blocks if each.rung == rung] for rung in range(3)] == [
        [0] * 6,
        [32] * 3,
        [64] * 2,
    ]
    promoted = {each.parent for each in blocks if each.rung == 1}
    assert promoted == {each.number for each in by_likelihood([each for each in blocks if each.rung == 0])[:3]}
    inputs, file = look_up(parse_config(config)), SupernetFile.read(shared / "supernet.safetensors")
    assert isinstance(inputs.data, Images)
    dataset, splits, arch = inputs.data.dataset, inputs.data.splits, blocks[-1].architecture
    begun = file.supernet.weights_of(arch)
    recipe = parse_config(config).rung_recipe(64)
    alone = train(arch, dataset, splits.train, recipe, seed=0, weights=begun).weights
    weights = read_weights(RunFolder(found.folder).weights(blocks[-1]))
    assert all(torch.equal(weights[name], alone[name]) for name in alone)
    begun_on = {job.number for job in executors[0].jobs if job.begun is not None}
    assert {each.number for each in blocks if each.rung == 2} <= begun_on
    assert not {each.number for each in blocks if each.rung < 2} & begun_on
    last = max(trial.number for trial in blocks)
    ends = [each.evaluation for each in executors[0].jobs if each.number > last]
    trained = [each for each in ends if isinstance(each, Training) and each.recipe is not None]
    assert trained
    assert all(each.shares == (each.architecture in inputs.space) for each in trained)
    report = (found.folder / "report.md").read_text(encoding="utf-8")
    assert "from the weights that they have in the supernet; networks that are no members" in report


def test_a_race_with_a_supernet_looks_at_many_networks_first() -> None:
    """Where nobody says otherwise, at four times as many as are then trained, and at any budget."""
    config = parse_config({"supernet": "runs/shared"})
    (first, second, *_), plain = config.race.rungs, parse_config({}).race.rungs
    assert (first.images, first.networks, second) == (0, 4 * plain[0].networks, plain[0])
    assert config.scaled(4.0).race.rungs[0].images == 0


@pytest.mark.slow
def test_a_search_keeps_its_own_supernet(
    tmp_path: Path, photos: Path, shared: Path, executors: list[InlineExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was stopped goes on by the same weights where the supernet that it was given is gone."""
    stopped = {"netadapt": {"max_steps": 0}, "final": {"images": 16, "weights": "inherited"}}
    with killed_after(monkeypatch, 2), pytest.raises(KeyboardInterrupt):
        search(tmp_path, config_in(tmp_path, photos, **stopped))
    shutil.rmtree(shared)
    found = mobilenas.resume("shared-search", database=f"sqlite:///{tmp_path / 'record.db'}")
    assert len(trials_of(tmp_path, SearchStage.BLOCKS)) == 4
    assert (found.folder / "supernet.safetensors").exists()
    assert executors


@pytest.mark.slow
def test_another_supernet_is_not_gone_on_with(
    tmp_path: Path, photos: Path, shared: Path, executors: list[InlineExecutor]
) -> None:
    """What lies in the run folder has the hash that the search began with, and stays in its archive."""
    found = search(tmp_path, config_in(tmp_path, photos))
    assert executors
    with zipfile.ZipFile(archived(tmp_path)) as archive:
        assert "run/supernet.safetensors" in archive.namelist()
    own = SupernetFile.read(found.folder / "supernet.safetensors")
    weights = {name: each + 1 if each.is_floating_point() else each for name, each in own.supernet.weights.items()}
    replace(own, supernet=replace(own.supernet, weights=weights)).write(shared / "supernet.safetensors")
    config = parse_config({**config_in(tmp_path, photos), "supernet_hash": own.content_hash})
    with pytest.raises(RunError, match=f"but the search began with {own.content_hash}; put that one back"):
        check_supernet(look_up(config))


def archived(folder: Path) -> io.BytesIO:
    """The search's archive."""
    database, out = Database(f"sqlite:///{folder / 'record.db'}"), io.BytesIO()
    write_archive(database, "shared-search", out)
    database.close()
    return out


def test_a_queued_search_has_its_supernet_too(tmp_path: Path, photos: Path, shared: Path) -> None:
    """A coordinator that was killed with the copy made, and nothing else, does not keep the next one from beginning."""
    config = parse_config({**config_in(tmp_path, photos), "data": balanced(tmp_path, photos)})
    with closing(Store.open(f"sqlite:///{tmp_path / 'record.db'}")) as store:
        record = enqueue(store, config.model_copy(update={"name": "queued"}).from_anywhere(), SearchRequest())
        left = tmp_path / "runs" / "queued" / "supernet.safetensors"
        left.parent.mkdir(parents=True)
        left.write_bytes(b"half of it")
        begin(store, record, tmp_path / "runs", Listener())
        begun = store.searches.get("queued")
    assert SupernetFile.read(left).content_hash == begun.config["supernet_hash"]
    assert SupernetFile.read(shared / "supernet.safetensors").content_hash == begun.config["supernet_hash"]


def balanced(folder: Path, photos: Path) -> dict[str, Any]:
    """The data of the search, ranked by balanced accuracy."""
    return {**config_in(folder, photos)["data"], "rank_by": "balanced"}


def test_what_does_not_fit_is_refused_before_anything_begins(tmp_path: Path, photos: Path, shared: Path) -> None:
    """A supernet of another space or of other data, none at all, and half of the configuration."""
    fits = config_in(tmp_path, photos)
    space = look_up(parse_config(fits)).space
    stranger = replace(space.largest, head=replace(space.largest.head, conv_channels=40))
    wider = {**fits["space"], "width": 0.75}
    other = {**fits["data"], "resolution": 32}
    cases: list[tuple[dict[str, Any], type[MobilenasError], str]] = [
        ({"space": wider}, InvalidConfig, r"is of space 'tiny' at width 0\.5 .*, this run's is 'tiny' at width 0\.75"),
        ({"data": other}, DataError, "is for 16 px, 3 channels and 2 classes"),
        ({"supernet": str(tmp_path / "nowhere")}, DataError, "cannot be read"),
        ({"blocks": {"enqueue": [stranger.to_json()]}}, InvalidConfig, f"{stranger.arch_id} has no weights in"),
    ]
    for changes, error, message in cases:
        inputs = look_up(parse_config({**fits, **changes}))
        with pytest.raises(error, match=message):
            check_supernet(inputs)
    for name, message in (("evaluator", "is for a race, or for evaluator: supernet"), ("supernet", "needs the key")):
        with pytest.raises(InvalidConfig, match=message):
            parse_config({key: each for key, each in fits.items() if key != name})
    for rungs, message in (([0, 8], "only a supernet tells them apart"), ([0], "rungs end with a training")):
        race = {"rungs": [{"images": images, "networks": 2} for images in rungs]}
        with pytest.raises(InvalidConfig, match=message):
            parse_config({**race_in(tmp_path, photos), "race": race})
    assert shared.exists()
