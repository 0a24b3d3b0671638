"""One evaluation in a worker: it goes on where an earlier attempt left off, and keeps what its network said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.evaluation.job import DataUse, Job, Training
from search.evaluation.worker import run_training
from space.errors import TimeLimit
from space.reference import mobilenet_v3_small_32px
from tests.tiny import dark_and_bright
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import split, subset
from trainer.training.judgement import Judgement
from trainer.training.recipe import load_recipe
from trainer.training.state import TrainingState
from trainer.training.train import Attended, Checkpoints, train
from trainer.training.weight_files import write_weights

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes of 60 small pictures, dark and bright."""
    folder = dark_and_bright(tmp_path_factory.mktemp("pictures"), each=60, pixels=16)
    return prepare(f"imagefolder:{folder}", resolution=16, data_dir=None, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def job(dataset: Dataset, tmp_path: Path) -> Job:
    """A training of eight steps."""
    return Job(
        number=0,
        attempt=1,
        evaluation=Training(
            architecture=mobilenet_v3_small_32px(width=0.25, resolution=16, num_classes=2),
            data=DataUse(
                content_hash=dataset.content_hash, reward_fraction=0.2, split_seed=0, train_images=40, reward_images=10
            ),
            recipe=replace(load_recipe("proxy"), images=80, batch_size=10),
            seed=1,
        ),
        data_folder=dataset.folder,
        weights=tmp_path / "0.safetensors",
        checkpoint=tmp_path / "0.checkpoint",
    )


def evaluation_of(job: Job) -> Training:
    """What is trained."""
    assert isinstance(job.evaluation, Training)
    return job.evaluation


def checkpoint_of(job: Job) -> Path:
    """Where it goes on from."""
    assert job.checkpoint is not None
    return job.checkpoint


class Killed(BaseException):
    """The process ended here."""


def leave_off(job: Job, dataset: Dataset, *, step: int) -> None:
    """An earlier attempt that was killed after a checkpoint at this step."""
    evaluation, path = evaluation_of(job), checkpoint_of(job)
    assert evaluation.recipe is not None

    def keep(state: TrainingState) -> None:
        if state.steps == step:
            state.write(path, evaluation_key=evaluation.key)
            raise Killed

    splits = split(dataset, reward_fraction=0.2, seed=0)
    with pytest.raises(Killed):
        train(
            evaluation.architecture,
            dataset,
            subset(splits.train, dataset.labels(), 40, 0),
            evaluation.recipe,
            seed=1,
            attended=Attended(checkpoints=Checkpoints(keep=keep, seconds=0)),
        )


def test_a_second_attempt_goes_on_where_the_first_left_off(job: Job, dataset: Dataset, tmp_path: Path) -> None:
    """It trains the steps that are left, ends with the same bytes as one left alone."""
    alone = run_training(replace(job, weights=tmp_path / "alone.safetensors"))
    leave_off(job, dataset, step=5)
    seen: list[int] = []
    outcome = run_training(job, lambda images, _: seen.append(images))
    assert seen == [60, 70, 80]
    assert outcome == alone
    assert job.weights is not None
    assert job.weights.read_bytes() == (tmp_path / "alone.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["other evaluation", "damaged", "weights"])
def test_a_checkpoint_of_something_else_is_left_alone(kind: str, job: Job, dataset: Dataset) -> None:
    """What is of another evaluation or damaged is not gone on from: the training begins anew."""
    leave_off(job, dataset, step=5)
    path, evaluation = checkpoint_of(job), evaluation_of(job)
    if kind == "other evaluation":
        job = replace(job, evaluation=replace(evaluation, seed=2))
    elif kind == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        write_weights(TrainingState.read(path).weights, path, evaluation_key=evaluation.key)
    seen: list[int] = []
    note = run_training(job, lambda images, _: seen.append(images)).note
    assert seen[0] == 10
    if kind == "other evaluation":
        assert note is None, "there is nothing of this one"
    else:
        assert note is not None
        assert "what was kept of its training could not be gone on with: training " in note


def shorter(job: Job, images: int, folder: Path) -> Job:
    """A training of the same network that sees fewer images, and keeps what a longer one can go on from."""
    evaluation = evaluation_of(job)
    assert evaluation.recipe is not None
    return replace(
        job,
        evaluation=replace(evaluation, recipe=replace(evaluation.recipe, images=images)),
        weights=folder / "shorter.safetensors",
        checkpoint=folder / "shorter.checkpoint",
        keeps_checkpoint=True,
    )


def test_a_longer_training_goes_on_from_a_shorter_one(job: Job, tmp_path: Path) -> None:
    """It costs the difference, and ends with the same bytes and judgement as one that was trained at once."""
    alone = run_training(replace(job, weights=tmp_path / "alone.safetensors"))
    first = shorter(job, 50, tmp_path)
    run_training(first)
    seen: list[int] = []
    outcome = run_training(replace(job, begun=first.checkpoint), lambda images, _: seen.append(images))
    assert seen == [60, 70, 80]
    assert outcome == alone
    assert job.weights is not None
    assert job.weights.read_bytes() == (tmp_path / "alone.safetensors").read_bytes()
    assert not checkpoint_of(job).exists()


@pytest.mark.parametrize("kind", ["other network", "damaged", "longer", "gone"])
def test_where_a_shorter_training_is_of_no_use_it_begins_anew(kind: str, job: Job, tmp_path: Path) -> None:
    """With the same result: what is of another network, damaged, past the end or gone costs time alone."""
    alone = run_training(replace(job, weights=tmp_path / "alone.safetensors"))
    first = shorter(job, 90 if kind == "longer" else 50, tmp_path)
    if kind == "other network":
        other = mobilenet_v3_small_32px(width=0.3, resolution=16, num_classes=2)
        first = replace(first, evaluation=replace(evaluation_of(first), architecture=other))
    run_training(first)
    if kind == "damaged":
        checkpoint_of(first).write_bytes(checkpoint_of(first).read_bytes()[:-100])
    elif kind == "gone":
        checkpoint_of(first).unlink()
    seen: list[int] = []
    anew = run_training(replace(job, begun=first.checkpoint), lambda images, _: seen.append(images))
    assert anew == alone
    assert seen[0] == 10
    assert (anew.note is not None) is (kind in {"damaged", "gone"}), "what is of something else was never of any use"


def test_what_a_network_said_is_kept(job: Job, dataset: Dataset) -> None:
    """A byte for each image that judged it, from which the recorded figures can be computed again; test if touched."""
    outcome, tested = run_training(job), run_training(replace(job, touch_test=True)).tested
    assert outcome.tested is None
    assert outcome.judged is not None
    judgement = Judgement.from_bytes(outcome.judged)
    assert len(judgement) == 10
    assert judgement.top1 == pytest.approx(outcome.top1)
    assert judgement.log_likelihood == pytest.approx(outcome.log_likelihood, rel=0.06)
    assert judgement.probability == pytest.approx(outcome.probability, rel=0.06)
    assert tested is not None
    assert len(tested) == len(split(dataset, reward_fraction=0.2, seed=0).test)


def test_the_time_limit_holds_over_all_attempts(job: Job, dataset: Dataset) -> None:
    """An attempt that goes on has only the time that is left."""
    leave_off(job, dataset, step=5)
    path = checkpoint_of(job)
    replace(TrainingState.read(path), seconds=3600.0).write(path, evaluation_key=evaluation_of(job).key)
    with pytest.raises(TimeLimit, match="longer than 60 minutes"):
        run_training(replace(job, limit_seconds=3600.0))


def test_balanced_accuracy_ranks_where_it_is_asked_for(job: Job, dataset: Dataset) -> None:
    """It is the mean of the classes' accuracies on the same images; the same training, under another key."""
    evaluation = evaluation_of(job)
    assert evaluation.recipe is not None
    few = replace(evaluation, recipe=replace(evaluation.recipe, images=20))  # barely trained, so that classes differ
    balanced = replace(few, data=replace(few.data, balanced=True))
    plain, found = run_training(replace(job, evaluation=few)), run_training(replace(job, evaluation=balanced))
    assert plain.judged == found.judged
    assert found.judged is not None
    right = Judgement.from_bytes(found.judged).right
    splits = split(dataset, reward_fraction=0.2, seed=0)
    labels = dataset.labels()[subset(splits.reward, dataset.labels(), 10, 0)]
    assert plain.top1 == pytest.approx(right.mean())
    assert found.top1 == pytest.approx(np.mean([right[labels == label].mean() for label in (0, 1)]))
    assert few.key != balanced.key
