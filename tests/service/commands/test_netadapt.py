"""Which trained network a walk starts from, where the command does not say."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
import yaml

from search.begun import begin_with
from search.record.store import Store
from search.reports.recorded_search import RecordedSearch
from search.stages.teacher import teacher_from
from search.trial import Origin, SearchStage
from space.reference import REFERENCES
from tests.classifiers import classifier
from tests.search.content import Writer
from tests.search.makers import new_search
from tests.search.races import LATENCY
from tests.tiny import Result, dark_and_bright
from trainer.data.prepare import prepare
from trainer.data.splits import split
from trainer.pretrained.dialects import names_in, translated
from trainer.training.batches import images_hash
from trainer.training.inherit import inherit
from trainer.training.networks import new_model
from trainer.training.state import TrainingState
from trainer.training.train import train
from trainer.training.weight_files import read_weights


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A record of a search whose own reward failed for its second trial."""
    url = f"sqlite:///{tmp_path / 'record.db'}"
    with closing(Store.open(url)) as store:
        writer = Writer(store, new_search(store, "one", run_folder=tmp_path / "run"))
        for top1 in (0.5, None, 0.7, 0.6):
            writer.trial(top1=top1)
        assert set(store.trials.rewards(writer.search.id)) == {0, 2, 3}
    return url


def asked_for(mobilenas: Callable[..., Result], url: str, *options: str) -> str:
    """The weights that the command wants to read, which no test has written."""
    done = mobilenas("netadapt", "--from", "one", "--target", "80%", "--database", url, *options)
    assert (done.code, done.out) == (2, "")
    return done.err


def test_trial_without_a_reward_is_no_candidate(url: str, mobilenas: Callable[..., Result]) -> None:
    """The best reward is walked from, whatever became of the other trials' rewards."""
    assert "trials/2.safetensors cannot be read" in asked_for(mobilenas, url)


def test_trial_without_a_reward_may_be_named(url: str, mobilenas: Callable[..., Result]) -> None:
    """Who names a trial gets it, with or without a reward."""
    assert "trials/1.safetensors cannot be read" in asked_for(mobilenas, url, "--trial", "1")
    assert "has no such completed trial" in asked_for(mobilenas, url, "--trial", "9")


def test_found_network_comes_before_the_best_of_the_trials(url: str, mobilenas: Callable[..., Result]) -> None:
    """A search that has ended is gone on from where it ended."""
    with closing(Store.open(url)) as store:
        writer = Writer(store, store.searches.get("one"), count=4)
        writer.trial(SearchStage.FINAL, origin=Origin.FOUND, top1=0.4, correct=40, total=100)
    assert "trials/4.safetensors cannot be read" in asked_for(mobilenas, url)


def test_a_present_model_of_other_classes_is_refused_before_anything_is_trained(
    tmp_path: Path, mobilenas: Callable[..., Result]
) -> None:
    """Not after the given weights were trained on, which may take an hour."""
    arch = REFERENCES["mobilenet_v3_small"](width=0.35)
    torch.save(translated(dict(new_model(arch, 7).state_dict()), arch, "torchvision"), tmp_path / "v3.pth")
    classifier(tmp_path / "mine.onnx", side=32)
    (tmp_path / "labels.txt").write_text("cats\ndogs\n", encoding="utf-8")
    photos = dark_and_bright(tmp_path / "photos", each=40, pixels=16)
    present = ("--baseline", tmp_path / "mine.onnx", "--baseline-labels", tmp_path / "labels.txt")
    where = ("--database", f"sqlite:///{tmp_path / 'record.db'}", "--runs", tmp_path / "runs")
    what = ("--init", tmp_path / "v3.pth", "--resolution", "32", "--data", f"imagefolder:{photos}", "--target", "95%")
    done = mobilenas("netadapt", *what, *present, "--baseline-preprocess", "imagenet", *where)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "cats" in done.err
    assert not list((tmp_path / "runs").glob("v3-start-*"))


@pytest.mark.slow
def test_published_weights_are_trained_on_and_narrowed(tmp_path: Path, mobilenas: Callable[..., Result]) -> None:
    """`netadapt --init`: a file of torchvision's in, a smaller network for these photos out."""
    arch = REFERENCES["mobilenet_v3_small"](width=0.35)
    weights = translated(dict(new_model(arch, 7).state_dict()), arch, "torchvision")
    torch.save(weights, tmp_path / "v3.pth")
    (tmp_path / "madds.py").write_text(LATENCY, encoding="utf-8")
    photos = dark_and_bright(tmp_path / "photos", each=40, pixels=16)
    config = tmp_path / "run.yaml"
    content = {
        "latency": "madds:ms",
        "workers": 1,
        "data": {"source": f"imagefolder:{photos}", "reward_images": 12, "split_seed": 1},
        "training": {"batch_size": 16},
        "netadapt": {"max_steps": 1, "images": 16, "delta": 0.05, "steps": "fixed"},
        "final": {"images": 32},
        "html": False,
    }
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    url, runs = f"sqlite:///{tmp_path / 'record.db'}", tmp_path / "runs"
    command = ("netadapt", "--target", "95%", "--name", "narrow", "--database", url, "--runs", runs, "--config", config)
    done = mobilenas(*command, "--init", tmp_path / "v3.pth", "--resolution", "32")
    assert done.code == 0, done.err
    (folder,) = runs.glob("v3-start-*")
    begun = begin_with(str(folder))
    dataset = prepare(f"imagefolder:{photos}", resolution=32, data_dir=None)
    trained_on = TrainingState.read(folder / "training.checkpoint").identity.images
    assert trained_on == images_hash(split(dataset, seed=1).train), "never on what judges the walk"
    assert (begun.architecture.stages, begun.architecture.resolution) == (arch.stages, 32)
    for ours, theirs in names_in(arch, "torchvision").items():
        if ours.endswith("depthwise.conv.weight"):
            assert torch.allclose(begun.weights[ours], weights[theirs], atol=0.1), "they were trained on, not anew"
    with closing(Store.open(url)) as store:
        recorded = RecordedSearch.read(store, "narrow")
        (start,) = recorded.trials(SearchStage.BLOCKS)
        found, reference = recorded.both()
        (step, *_) = [trial for trial in recorded.trials(SearchStage.NETADAPT) if trial.origin != Origin.UNCHANGED]
        files = recorded.files
        ran = recorded.config
    # What was narrowed has learnt from the network that it was narrowed from, as from any teacher.
    inherited = inherit(begun.architecture, begun.weights, step.architecture)
    indices, teacher = split(dataset, seed=1).train, teacher_from(folder, dataset)
    recipe = ran.fine_tuning(16)
    taught, alone = (
        train(step.architecture, dataset, indices, recipe, seed=0, weights=inherited, teacher=each).weights
        for each in (teacher, None)
    )
    weights, name = read_weights(files.weights(step)), "stem.conv.conv.weight"
    torch.testing.assert_close(weights[name], taught[name], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(weights[name], alone[name], atol=1e-5, rtol=1e-4)
    assert start.architecture == reference.architecture == begun.architecture
    assert found.scores.latency_ms <= 0.95 * start.scores.latency_ms
    record = recorded.record.config
    assert (record["space"]["preset"], record["data"]["resolution"]) == ("mobilenet-v3-small-32px", 32)
    again = mobilenas(*command, "--init", tmp_path / "v3.pth")
    assert (again.code, "exists already; resume it: mobilenas resume narrow" in again.err) == (2, True)
    both = mobilenas(*command, "--init", tmp_path / "v3.pth", "--from", "narrow")
    assert (both.code, "either --from a search or run folder, or --init a file" in both.err) == (2, True)
