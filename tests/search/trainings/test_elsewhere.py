"""A supernet that an executor trains, part by part, is the very same as one that is trained here at once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from search.evaluation.executor import Executor, LocalExecutor
from search.events import Listener
from search.ray.executor import RayExecutor
from search.trainings.elsewhere import train_by_parts
from search.trainings.supernets import SupernetTraining, train_named
from space.errors import RunError, Stopped
from tests.search.trainings.test_single import Notes
from tests.search.trainings.test_supernets import SPACE
from tests.tiny import RAY_HERE
from tests.waiting import HANGS_S
from trainer.data.dataset import Dataset
from trainer.data.splits import split
from trainer.supernet.sharing import Supernet
from trainer.training.recipe import load_recipe
from trainer.training.state import TrainingState
from trainer.training.train import Trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Of this machine's processes, and of a cluster of one node here."""
    made: Executor = (
        LocalExecutor(1, job_seconds=HANGS_S, threads=1) if request.param == "local" else RayExecutor(RAY_HERE)
    )
    yield made
    made.close()


@pytest.fixture
def wanted(dataset: Dataset, tmp_path: Path) -> SupernetTraining:
    """Five steps."""
    return SupernetTraining(
        space=SPACE,
        dataset=dataset,
        splits=split(dataset, reward_fraction=0.3, seed=2),
        recipe=replace(load_recipe("proxy"), images=40, batch_size=8),
        folder=tmp_path / "shared",
        drawn=1,
        warmup=16,
        reward_fraction=0.3,
        split_seed=2,
    )


def test_parts_make_the_same_supernet(executor: Executor, wanted: SupernetTraining, tmp_path: Path) -> None:
    """To the bit, each part a job that goes on from the one before; what is kept in the end goes on, too."""
    alone = train_named(replace(wanted, folder=tmp_path / "alone"), Listener())
    told = Notes()

    def elsewhere(asked: SupernetTraining, *more: object) -> tuple[Supernet, Trained]:
        # A part is as short as can be: one step.
        return train_by_parts(replace(asked, checkpoint_seconds=0.0), executor, *more)  # type: ignore[arg-type]

    found = train_named(wanted, told, elsewhere=elsewhere)
    assert found["content_hash"] == alone["content_hash"]
    assert sum("are trained and kept" in note for note in told.lines) == 4
    assert found["curve"][-1]["images"] == 40
    assert TrainingState.read(wanted.kept.checkpoint).steps == 5
    assert not (wanted.folder / "supernet.part").exists()
    longer = replace(wanted, recipe=replace(wanted.recipe, images=56))
    alone = train_named(replace(longer, folder=tmp_path / "alone"), Listener())
    again = train_named(longer, Listener(), elsewhere=lambda asked, *more: train_by_parts(asked, executor, *more))
    assert again["content_hash"] == alone["content_hash"]


def test_what_earlier_parts_did_is_kept(wanted: SupernetTraining) -> None:
    """Whoever stops it loses no more than a part, and a part that fails is told of."""
    executor = LocalExecutor(1, job_seconds=HANGS_S, threads=1)
    told = Notes()
    try:
        with wanted.kept.held(), pytest.raises(Stopped, match="last whole part did is kept"):
            train_by_parts(
                replace(wanted, checkpoint_seconds=0.0), executor, told, stopping=lambda: len(told.lines) >= 2
            )
    finally:
        executor.close()
    assert TrainingState.read(wanted.kept.checkpoint).steps == 2
    wanted.kept.checkpoint.write_bytes(b"damaged")
    executor = LocalExecutor(1, job_seconds=HANGS_S, threads=1)
    try:
        with pytest.raises(RunError, match=r"training the supernet failed: .*supernet\.checkpoint"):
            train_by_parts(wanted, executor, told)
    finally:
        executor.close()
