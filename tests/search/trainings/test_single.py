"""One network trained alone: stopped and gone on with, tested, exported, and taught."""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from search.events import Listener
from search.run_folder import EXPORTED
from search.stages.export import export_network
from search.stages.exported import ExportedNetwork
from search.stages.teacher import teacher_from
from search.trainings.single import JUDGED, TESTED, SingleTraining, train_alone
from space.errors import DataError, RunError, Stopped
from space.reference import mobilenet_v3_small_32px
from tests.classifiers import classifier
from trainer.data.dataset import Dataset
from trainer.data.splits import split
from trainer.training.batches import Images
from trainer.training.judgement import Judgement
from trainer.training.judging import logits_of
from trainer.training.metrics import fitted_temperature
from trainer.training.networks import load_model, new_model
from trainer.training.recipe import load_recipe
from trainer.training.train import Teacher
from trainer.training.weight_files import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def wanted(dataset: Dataset, tmp_path: Path) -> SingleTraining:
    """Sixteen steps of the final recipe."""
    return SingleTraining(
        arch=mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=2),
        dataset=dataset,
        splits=split(dataset),
        recipe=replace(load_recipe("final"), images=160, batch_size=10),
        folder=tmp_path / "training",
    )


class Notes(Listener):
    """What was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Remember it."""
        self.lines.append(text)


def after(steps: int) -> Callable[[], bool]:
    """Somebody who stops a training after so many steps."""
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked >= steps

    return stopping


def test_stopped_and_gone_on_with_is_one_training(wanted: SingleTraining, tmp_path: Path) -> None:
    """Stopped twice, it ends with the weights, the curve and the figures of one that was left alone."""
    alone = train_alone(replace(wanted, folder=tmp_path / "alone"), Listener())
    for steps in (5, 7):
        with pytest.raises(Stopped, match=r"stopped after \d+ of 160 images"):
            train_alone(wanted, Listener(), after(steps))
    notes = Notes()
    found = train_alone(wanted, notes)
    assert notes.lines[0].startswith("going on after 120 images and ")
    weights, expected = (read_weights(folder / "weights.safetensors") for folder in (wanted.folder, tmp_path / "alone"))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
    assert found["curve"] == alone["curve"]
    assert [row["images"] for row in found["curve"]] == [10 * -(-16 * part // 9) for part in range(1, 9)]
    assert found["test_split"] == alone["test_split"]
    assert json.loads((wanted.folder / "training.json").read_text(encoding="utf-8")) == found


def test_what_was_trained_is_exported_and_runs_alone(wanted: SingleTraining) -> None:
    """The ONNX file classifies the test split as well as the report says."""
    report = train_alone(wanted, Listener())
    ours = {"training.checkpoint", "training.json", "training.lock", JUDGED, TESTED}
    assert {path.name for path in wanted.folder.iterdir()} - ours == set(EXPORTED)
    judged, tested = (Judgement.from_bytes((wanted.folder / name).read_bytes()) for name in (JUDGED, TESTED))
    assert (len(judged), judged.top1) == (len(wanted.splits.reward), report["reward_split"]["top1"])
    assert (len(tested), tested.top1) == (len(wanted.splits.test), report["test_split"]["top1"])
    network, dataset = ExportedNetwork(wanted.folder), wanted.dataset
    images, labels = dataset.images(), dataset.labels()
    right = [int(network.probabilities(images[index]).argmax()) == labels[index] for index in wanted.splits.test]
    assert np.mean(right) == pytest.approx(report["test_split"]["top1"])
    low, high = report["test_split"]["top1_95"]
    assert low <= np.mean(right) <= high
    model = load_model(wanted.arch, read_weights(wanted.folder / "weights.safetensors"))
    reward = wanted.splits.reward
    fitted = fitted_temperature(logits_of(model, dataset, reward).numpy(), labels[reward])
    assert network.temperature == pytest.approx(fitted, rel=1e-3)
    said = (logits_of(model, dataset, reward[:1]) / fitted).softmax(1)[0].numpy()
    assert network.probabilities(images[reward[0]]) == pytest.approx(said, abs=1e-4)


def test_more_images_go_on_from_where_it_ended(wanted: SingleTraining) -> None:
    """A training without a decay that has ended goes on when more images are asked for; one that decayed does not."""
    endless = replace(load_recipe("proxy"), images=80, batch_size=10)
    train_alone(replace(wanted, recipe=endless), Listener())
    assert wanted.kept.begun_recipe(replace(endless, images=6000)) == endless
    notes = Notes()
    longer = train_alone(replace(wanted, recipe=replace(endless, images=160)), notes)
    assert notes.lines[0].startswith("going on after 80 images")
    assert longer["images_seen"] == 160
    decayed = replace(wanted, folder=wanted.folder.with_name("decayed"))
    train_alone(decayed, Listener())
    with pytest.raises(DataError, match="past the point"):
        train_alone(replace(decayed, recipe=replace(decayed.recipe, images=320)), Listener())


def test_a_folder_of_something_else_is_left_alone(wanted: SingleTraining) -> None:
    """A folder with other files, and one with a training of another network or recipe, are refused in one line."""
    wanted.folder.mkdir()
    (wanted.folder / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match=r"holds no training, but mine\.txt"):
        train_alone(wanted, Listener())
    (wanted.folder / "mine.txt").unlink()
    with pytest.raises(Stopped):
        train_alone(wanted, Listener(), after(3))
    wider = mobilenet_v3_small_32px(width=0.5, resolution=16, num_classes=2)
    with pytest.raises(DataError, match="is of architecture"):
        train_alone(replace(wanted, arch=wider), Listener())
    with pytest.raises(DataError, match="is by another recipe"):
        wanted.kept.begun_recipe(load_recipe("sgd-cosine"))
    wanted.kept.checkpoint.write_bytes(wanted.kept.checkpoint.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"training\.checkpoint cannot be read.*train anew"):
        train_alone(wanted, Listener())


def test_minutes_are_measured(wanted: SingleTraining) -> None:
    """An hour is some thousands of images, and there is at least one; of a set smaller than a batch as many steps."""
    assert wanted.images_for(1e-9) == 1
    assert wanted.images_for(60.0) > 1000


def test_a_stop_in_the_last_step_is_no_stop(wanted: SingleTraining) -> None:
    """What is done by then is tested and exported."""
    report = train_alone(wanted, Listener(), after(16))
    assert report["images_seen"] == 160
    assert (wanted.folder / "model.onnx").exists()


def test_what_was_killed_before_it_was_kept_begins_anew(wanted: SingleTraining) -> None:
    """A folder with nothing but our own report, lock and drafts is no other's."""
    wanted.folder.mkdir()
    for name in ("training.json", "training.lock", "training.checkpoint.17.tmp"):
        (wanted.folder / name).write_text("{}", encoding="utf-8")
    assert train_alone(wanted, Listener())["images_seen"] == 160


def test_a_full_disk_is_told_of_and_what_was_kept_stays(
    wanted: SingleTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the folder; once there is space, the same training goes on from its last checkpoint."""
    with pytest.raises(Stopped):
        train_alone(wanted, Listener(), after(5))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"training cannot be written \(No space left"):
            train_alone(wanted, Listener())
    notes = Notes()
    assert train_alone(wanted, notes)["images_seen"] == 160
    assert notes.lines[0].startswith("going on after 50 images")


def test_two_processes_do_not_share_a_folder(wanted: SingleTraining) -> None:
    """The second one is told that somebody trains there."""
    wanted.folder.mkdir()
    with FileLock(wanted.folder / "training.lock"), pytest.raises(RunError, match="another process trains in"):
        train_alone(wanted, Listener())


def test_another_start_or_teacher_is_another_training(wanted: SingleTraining) -> None:
    """What began from given weights, or with a teacher, does not go on without them."""
    weights = new_model(wanted.arch, 5).state_dict()
    teacher = Teacher(answer=lambda images: torch.zeros(len(images), 2), identity="somebody")
    for name, begun in (("a", replace(wanted, weights=weights)), ("b", replace(wanted, teacher=teacher))):
        folder = wanted.folder.with_name(name)
        with pytest.raises(Stopped):
            train_alone(replace(begun, folder=folder), Listener(), after(3))
        with pytest.raises(DataError, match=r"is of (first weights|teacher) \w+, not none"):
            train_alone(replace(wanted, folder=folder), Listener())
        assert train_alone(replace(begun, folder=folder), Listener())["images_seen"] == 160


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_teacher_answers_as_its_network_does(kind: str, dataset: Dataset, tmp_path: Path) -> None:
    """A teacher of a run folder and one of an ONNX file give the network's logits, whatever it was normalised for."""
    arch = mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=2)
    other = replace(dataset.preprocess, mean=(0.2, 0.3, 0.4), std=(0.5, 0.4, 0.3))
    export_network(tmp_path / "run", arch, new_model(arch, 1).eval().state_dict(), dataset.classes, other, {})
    path = tmp_path / "run" if kind == "folder" else tmp_path / "run" / "model.onnx"
    chosen = split(dataset).test[:5]
    images, _ = Images(dataset).batch(chosen)
    with torch.no_grad():
        found = teacher_from(path, dataset).answer(images).softmax(1).numpy()
    network = ExportedNetwork(tmp_path / "run")
    expected = [network.probabilities(dataset.images()[index]) for index in chosen]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("softmax", [False, True])
def test_a_classifier_from_elsewhere_teaches(dataset: Dataset, tmp_path: Path, *, softmax: bool) -> None:
    """An ONNX file of another program answers as ONNX Runtime does, its classes brought into the order of the data."""
    matrix = np.array([[2.0, -1.0], [0.5, 0.3], [0.1, 0.9]], dtype=np.float32)
    path, labels = classifier(tmp_path / "theirs.onnx", matrix, softmax=softmax), tmp_path / "labels.txt"
    labels.write_text("\n".join(reversed(dataset.classes)))
    (tmp_path / "how.json").write_text(dataset.preprocess.to_json())
    with pytest.raises(DataError, match=r"teacher theirs.onnx does not say what its classes are.*--teacher-labels"):
        teacher_from(path, dataset)
    teacher = teacher_from(path, dataset, labels=str(labels), preprocess=str(tmp_path / "how.json"))
    (tmp_path / "other.txt").write_text("\n".join(dataset.classes))
    other = teacher_from(path, dataset, labels=str(tmp_path / "other.txt"), preprocess=str(tmp_path / "how.json"))
    assert other.identity != teacher.identity, "or a training would go on from what was learnt wrongly"
    images, _ = Images(dataset).batch(split(dataset).test[:5])
    expected = (images.mean((2, 3)) @ torch.from_numpy(matrix)).flip(1).softmax(1)
    torch.testing.assert_close(teacher.answer(images).softmax(1), expected, rtol=1e-4, atol=1e-6)


def test_an_unfit_teacher_is_told_of(dataset: Dataset, tmp_path: Path) -> None:
    """One of other classes, of another resolution, and none at all: a line with what is wrong."""
    fits = mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=2)
    sized = replace(dataset.preprocess, resolution=32, resize=32, crop=32)
    for name, arch, classes, preprocess in (
        ("classes", replace(fits, num_classes=3), ("a", "b", "c"), dataset.preprocess),
        ("size", replace(fits, resolution=32), dataset.classes, sized),
    ):
        export_network(tmp_path / name, arch, new_model(arch, 1).state_dict(), classes, preprocess, {})
    for kind in ("", "model.onnx"):
        with pytest.raises(DataError, match=r"teacher .* knows 3 classes.*2 \("):
            teacher_from(tmp_path / "classes" / kind, dataset)
        with pytest.raises(DataError, match="takes 32 px RGB images, the training 16 px"):
            teacher_from(tmp_path / "size" / kind, dataset)
    with pytest.raises(RunError, match="cannot be read"):
        teacher_from(tmp_path / "nowhere", dataset)
    (tmp_path / "size" / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match="weights"):
        teacher_from(tmp_path / "size", replace(dataset, preprocess=sized))
