"""Supernets by name: trained, stopped and gone on with, handed out, and what is refused."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from search.begun import begin_with
from search.events import Listener
from search.run_folder import EXPORTED
from search.stages.exported import ExportedNetwork
from search.trainings import supernets
from search.trainings.supernets import SupernetTraining, train_named
from space.errors import DataError, InvalidArchitecture, RunError, Stopped
from tests.search.trainings.test_single import Notes, after
from tests.strategies import small_space
from tests.tiny import Result, dark_and_bright
from trainer.data.dataset import Dataset
from trainer.data.splits import split
from trainer.supernet.files import SupernetFile
from trainer.training.judging import logits_of
from trainer.training.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("one_thread")
SPACE = replace(small_space(), in_channels=3, num_classes=2)


@pytest.fixture
def wanted(dataset: Dataset, tmp_path: Path) -> SupernetTraining:
    """Sixteen steps."""
    return SupernetTraining(
        space=SPACE,
        dataset=dataset,
        splits=split(dataset),
        recipe=replace(load_recipe("proxy"), images=160, batch_size=10),
        folder=tmp_path / "shared",
    )


def test_stopped_and_gone_on_with_is_one_training(wanted: SupernetTraining, tmp_path: Path) -> None:
    """Stopped twice, it ends with the weights, the curve and the hash of one that was left alone."""
    alone = train_named(replace(wanted, folder=tmp_path / "alone"), Listener())
    for steps in (5, 7):
        with pytest.raises(Stopped, match=r"stopped after \d+ of 160 images"):
            train_named(wanted, Listener(), after(steps))
    with pytest.raises(RunError, match="not trained to its end; go on with: mobilenas supernet train shared"):
        supernets.read_named(tmp_path, "shared")
    notes = Notes()
    found = train_named(wanted, notes)
    assert notes.lines[0].startswith("going on after 120 images and ")
    assert found["content_hash"] == alone["content_hash"]
    assert found["curve"] == alone["curve"]
    assert [row["images"] for row in found["curve"]] == [40, 80, 120, 160]
    assert json.loads((wanted.folder / "supernet.json").read_text(encoding="utf-8")) == found
    file = supernets.read_named(tmp_path, "shared")
    assert file.content_hash == found["content_hash"]
    assert (file.supernet.space, file.classes, file.data) == (SPACE, ("bright", "dark"), wanted.dataset.content_hash)
    assert supernets.reports(tmp_path) == {"alone": alone, "shared": found}


def test_a_member_is_handed_out_as_it_is_judged(wanted: SupernetTraining, tmp_path: Path) -> None:
    """Its ONNX file classifies the test split as well as is said; a second one has another folder."""
    train_named(wanted, Listener())
    file, dataset = supernets.read_named(tmp_path, "shared"), wanted.dataset
    arch = SPACE.sample(random.Random(1))
    found = supernets.export_member(file, "shared", arch, dataset, wanted.splits, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(EXPORTED)
    network, images, labels = ExportedNetwork(tmp_path / "out"), dataset.images(), dataset.labels()
    right = [int(network.probabilities(images[index]).argmax()) == labels[index] for index in wanted.splits.test]
    assert np.mean(right) == pytest.approx(found.top1)
    with pytest.raises(RunError, match="holds something already"):
        supernets.export_member(file, "shared", arch, dataset, wanted.splits, tmp_path / "out")
    other = replace(arch, resolution=32)
    with pytest.raises(InvalidArchitecture, match="is no member"):
        supernets.export_member(file, "shared", other, dataset, wanted.splits, tmp_path / "other")


def test_other_data_are_refused(wanted: SupernetTraining, tmp_path: Path) -> None:
    """Other pictures of the same kind, other ones of these, pictures of another size or of other classes: one line."""
    train_named(wanted, Listener())
    file, train = supernets.read_named(tmp_path, "shared"), wanted.splits.train
    other = replace(wanted.dataset, content_hash="f" * 16)
    with pytest.raises(DataError, match=r"was trained on data \w+, .* is f{16}; give the same data"):
        file.fitted_to(other, train)
    with pytest.raises(DataError, match=r"was trained on other images of .*; give the same data\.reward_fraction"):
        file.fitted_to(wanted.dataset, train[1:])
    with pytest.raises(DataError, match=r"is for 16 px, 3 channels and 2 classes, .* has 16, 3 and 3; give"):
        file.fitted_to(replace(wanted.dataset, classes=("a", "b", "c")), train)
    assert file.fitted_to(wanted.dataset, train) is file.supernet


def test_a_whole_supernet_is_not_trained_over(wanted: SupernetTraining, tmp_path: Path) -> None:
    """One that gave up what it could go on from stays; as does a finished one that is asked for again."""
    first = train_named(wanted, Listener())
    assert train_named(wanted, Listener())["curve"] == first["curve"]
    supernets.free(tmp_path, "shared", dry_run=False)
    with pytest.raises(RunError, match="holds a whole supernet, and nothing that its training could go on from"):
        train_named(wanted, Listener())
    assert supernets.read_named(tmp_path, "shared").content_hash == first["content_hash"]


def test_what_was_trained_elsewhere_sees_the_same_pictures(wanted: SupernetTraining, tmp_path: Path) -> None:
    """Whatever it was normalised for: the members of a supernet that is brought say what they said there."""
    train_named(wanted, Listener())
    here, dataset, arch = supernets.read_named(tmp_path, "shared"), wanted.dataset, SPACE.largest
    std = tuple(2 * each for each in dataset.preprocess.std)
    elsewhere = replace(here, data=None, images=None, classes=None, preprocess=replace(here.preprocess, std=std))
    there = replace(dataset, preprocess=elsewhere.preprocess)
    expected = logits_of(elsewhere.supernet.model_of(arch, there, wanted.splits.train), there, wanted.splits.test)
    fitted = elsewhere.fitted_to(dataset, wanted.splits.train).model_of(arch, dataset, wanted.splits.train)
    found = logits_of(fitted, dataset, wanted.splits.test)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_supernet_begins_with_one_of_other_classes_and_other_pictures(wanted: SupernetTraining) -> None:
    """But for the classifier its members say what they said there; stopped and gone on with it is one training."""
    train_named(wanted, Listener())
    first, dataset, arch = SupernetFile.read(wanted.folder / "supernet.safetensors"), wanted.dataset, SPACE.smallest
    others = replace(first, classes=("a", "b"), preprocess=replace(first.preprocess, std=(0.3, 0.4, 0.5)))
    there = replace(dataset, preprocess=others.preprocess)
    begun, same = others.begun_for(dataset, 0), replace(others, classes=dataset.classes).begun_for(dataset, 0)
    new = {name for name, tensor in begun.weights.items() if not torch.equal(tensor, same.weights[name])}
    assert new == {"head.classifier.linear.weight", "head.classifier.linear.bias"}
    expected = logits_of(others.supernet.model_of(arch, there, wanted.splits.train), there, wanted.splits.test)
    found = logits_of(same.model_of(arch, dataset, wanted.splits.train), dataset, wanted.splits.test)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)

    anew = replace(wanted, start=begun, start_named="shared", folder=wanted.folder.with_name("anew"))
    alone = train_named(replace(anew, folder=wanted.folder.with_name("alone")), Listener())
    with pytest.raises(Stopped):
        train_named(anew, Listener(), after(5))
    with pytest.raises(RunError, match="go on with: mobilenas supernet train anew --init shared"):
        supernets.read_named(anew.folder.parent, "anew")
    with pytest.raises(DataError, match="is of first weights"):
        train_named(replace(anew, start=None), Listener())
    assert train_named(anew, Listener())["content_hash"] == alone["content_hash"] != first.content_hash
    assert alone["start"] == begun.digest


def test_what_a_training_could_go_on_from_is_given_up(wanted: SupernetTraining, tmp_path: Path) -> None:
    """A dry run says how much; the supernet itself stays, and one that is not whole keeps all it has."""
    train_named(wanted, Listener())
    size = wanted.kept.checkpoint.stat().st_size
    assert supernets.free(tmp_path, "shared", dry_run=True) == size
    assert wanted.kept.checkpoint.exists()
    assert supernets.free(tmp_path, "shared", dry_run=False) == size
    assert not wanted.kept.checkpoint.exists()
    assert supernets.free(tmp_path, "shared", dry_run=False) == 0
    supernets.read_named(tmp_path, "shared")
    half = replace(wanted, folder=tmp_path / "half")
    with pytest.raises(Stopped):
        train_named(half, Listener(), after(3))
    with pytest.raises(RunError, match="not trained to its end"):
        supernets.free(tmp_path, "half", dry_run=False)
    assert half.kept.checkpoint.exists()


def test_names_and_folders_are_checked(wanted: SupernetTraining, tmp_path: Path) -> None:
    """No way out of the folder of runs, none that is not there, and no folder of something else."""
    for name in ("../a", "a/b", "", "."):
        with pytest.raises(RunError, match="must match"):
            supernets.folder_named(tmp_path, name)
    with pytest.raises(RunError, match="there is no supernet named 'none'"):
        supernets.read_named(tmp_path, "none")
    wanted.folder.mkdir()
    (wanted.folder / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match=r"holds no supernet, but mine\.txt"):
        train_named(wanted, Listener())
    (tmp_path / "broken").mkdir()
    for text in ("[", "[1]", '{"space": 3}', '{"curve": [1]}', '{"curve": {}}'):
        (tmp_path / "broken" / "supernet.json").write_text(text, encoding="utf-8")
        assert supernets.reports(tmp_path) == {"broken": {}}


def test_minutes_are_measured(wanted: SupernetTraining) -> None:
    """An hour is some thousands of images, and there is at least one."""
    assert wanted.images_for(1e-9) == 1
    assert wanted.images_for(60.0) > 1000


def test_the_commands(
    wanted: SupernetTraining, tmp_path: Path, mobilenas: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first line to the last: train, list, show, hand out a member, free; and what is wrong in one line."""
    data, runs = wanted.dataset.name, tmp_path / "runs"
    space = tmp_path / "tiny.yaml"
    space.write_text(TINY, encoding="utf-8")
    monkeypatch.setenv("MOBILENAS_RUNS", str(runs))
    asked = ("supernet", "train", "tiny", "--data", data, "--resolution", "16", "--space", space, "--threads", "1")
    trained = mobilenas(*asked, "--images", "256")
    assert trained.code == 0, trained.err
    assert str(runs / "tiny" / "supernet.safetensors") in trained.out.replace("\n", "")
    rows = json.loads(mobilenas("supernet", "list", "--format", "json").out)
    assert [(row["name"], row["images"], row["of"]) for row in rows] == [("tiny", 256, 256)]
    shown = mobilenas("supernet", "show", "tiny").out
    file = SupernetFile.read(runs / "tiny" / "supernet.safetensors")
    assert f"content_hash: {file.content_hash}" in shown
    (tmp_path / "spec.json").write_text(file.supernet.space.smallest.to_json(), encoding="utf-8")
    begun = mobilenas(
        "supernet", "train", "again", "--init", "tiny", *asked[3:5], "--resolution", "16", "--images", "16"
    )
    assert (begun.code, "'tiny', a space of your own; name its file: --space FILE" in begun.err) == (2, True)
    out = tmp_path / "member"
    handed = mobilenas("supernet", "export", "tiny", tmp_path / "spec.json", "--data", data, "--out", out)
    assert handed.code == 0, handed.err
    assert "top-1 (test split" in handed.out
    assert (out / "model.onnx").exists()
    assert "freed" in mobilenas("supernet", "gc").out
    on_ray = tmp_path / "ray.yaml"
    on_ray.write_text("executor: ray", encoding="utf-8")
    for wrong, message in (
        (("supernet", "show", "none"), "there is no supernet named 'none'"),
        (("supernet", "export", "tiny", "mobilenet_v3_small", "--data", data, "--out", tmp_path / "b"), "no member"),
        ((*asked, "--images", "9", "--minutes", "1"), "either --images or --minutes"),
        ((*asked, "--images", "9", "--config", on_ray), "leave --device, --threads and --minutes out"),
        (("supernet", "import", "ofa", space), "is no file of weights: it is no file of torch"),
    ):
        refused = mobilenas(*wrong)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert message in refused.err


TINY = """
name: tiny
reference: mobilenet_v3_small_32px
reward_exponent: -0.15
stem: {channels: 8, stride: 2, activation: hswish}
stages:
  - channels: 8
    stride: 2
    depth: [1, 2]
    width: [1.0]
    kernel: [3, 5]
    expansion: [2]
    se: [false, true]
    activation: [relu]
head: {conv_channels: 16, hidden_channels: 16, activation: hswish}
"""


def test_once_for_alls_checkpoint_is_brought(tmp_path: Path, mobilenas: Callable[..., Result]) -> None:
    """By name, once, with the hash of the file that it was in; a member is trained on for other classes."""
    from tests.trainer.supernet.test_once_for_all import PUBLISHED

    torch.save({"state_dict": PUBLISHED}, tmp_path / "ofa.pth")
    brought = mobilenas("supernet", "import", "ofa", tmp_path / "ofa.pth", "--runs", tmp_path / "runs")
    assert brought.code == 0, brought.err
    assert "of 'ofa-mbv3', width 1" in brought.out.replace("\n", " ")
    file = supernets.read_named(tmp_path / "runs", "ofa")
    assert (file.data, file.classes, len(file.supernet.transforms)) == (None, None, 40)
    assert supernets.reports(tmp_path / "runs")["ofa"]["source"]["file"] == "ofa.pth"
    again = mobilenas("supernet", "import", "ofa", tmp_path / "ofa.pth", "--runs", tmp_path / "runs")
    assert (again.code, again.err.count("\n")) == (2, 1)
    smallest, member = file.supernet.space.smallest, tmp_path / "member"
    (tmp_path / "spec.json").write_text(smallest.to_json(), encoding="utf-8")
    where = ("--out", member, "--runs", tmp_path / "runs")
    handed = mobilenas("supernet", "export", "ofa", tmp_path / "spec.json", *where)
    assert handed.code == 0, handed.err
    photos = f"imagefolder:{dark_and_bright(tmp_path / 'photos', each=40, pixels=32)}"
    how = ("--data", photos, "--resolution", "32", "--images", "16", "--threads", "1", "--out", tmp_path / "trained")
    trained = mobilenas("train", "--init", member, *how)
    assert trained.code == 0, trained.err
    begun, ended = (begin_with(str(folder)) for folder in (member, tmp_path / "trained"))
    assert (ended.architecture.num_classes, begun.architecture.num_classes) == (2, 1000)
    name = "stage2_block1.depthwise.conv.weight"
    torch.testing.assert_close(begun.weights[name], file.supernet.weights_of(smallest)[name])
    torch.testing.assert_close(ended.weights[name], begun.weights[name], rtol=0.0, atol=0.1)
    refused = mobilenas("supernet", "export", "ofa", tmp_path / "spec.json", *where)
    assert (refused.code, "holds something already" in refused.err) == (2, True)


def test_once_for_alls_checkpoint_becomes_a_supernet_of_ones_own_photos(
    tmp_path: Path, mobilenas: Callable[..., Result]
) -> None:
    """Of their classes, sides and normalisation, in its own space; a space of another kind is refused."""
    from tests.trainer.supernet.test_once_for_all import PUBLISHED

    runs = ("--runs", tmp_path / "runs")
    torch.save({"state_dict": PUBLISHED}, tmp_path / "ofa.pth")
    assert mobilenas("supernet", "import", "ofa", tmp_path / "ofa.pth", *runs).code == 0
    photos = f"imagefolder:{dark_and_bright(tmp_path / 'photos', each=40, pixels=32)}"
    how = ("--data", photos, "--resolution", "32", "--images", "8", "--drawn", "0", "--threads", "1", *runs)
    trained = mobilenas("supernet", "train", "mine", "--init", "ofa", *how)
    assert trained.code == 0, trained.err
    brought, mine = (supernets.read_named(tmp_path / "runs", name) for name in ("ofa", "mine"))
    space = brought.supernet.space
    assert mine.supernet.space == replace(space, resolution=32, num_classes=2)
    assert mine.classes == ("bright", "dark")
    assert mine.supernet.transforms.keys() == brought.supernet.transforms.keys()
    named, on_ray = tmp_path / "space.yaml", tmp_path / "ray.yaml"
    named.write_text("space: {preset: mobilenet-v3-large, width: 1.0}", encoding="utf-8")
    on_ray.write_text("executor: ray\nspace: {preset: ofa-mbv3, width: 1.0}", encoding="utf-8")
    of_ray = ("--data", photos, "--resolution", "32", "--images", "8", *runs)
    for wrong, message in (
        ((*how, "--init", "ofa", "--config", named), "this one is of 'mobilenet-v3-large'"),
        ((*of_ray, "--init", "ofa", "--config", on_ray), "is trained here; leave executor: ray out"),
        ((*how, "--init", "ofa", "--space", "mobilenet-v3-large"), "is of space 'ofa-mbv3' at width 1"),
        ((*how, "--init", tmp_path / "ofa.pth"), "give one that `mobilenas supernet` trained or imported"),
        ((*how, "--init", "none"), "none cannot be read"),
    ):
        refused = mobilenas("supernet", "train", "other", *wrong)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert message in refused.err
