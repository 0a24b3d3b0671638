"""A training's state and its file: it goes on to the very bit, and whatever is not its own is refused."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from space.errors import DataError
from tests.trainer.training.stripes import ARCH
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.training import weight_files
from trainer.training.recipe import Augmentation, Average, Endless, Recipe, Steps
from trainer.training.state import TrainingState
from trainer.training.train import Attended, Checkpoints, Trained, train

STEPS, SIZE = 12, 16
MOVED = Augmentation(flip="random", shift=1 / 8, mixup=0.2, cutmix=1.0, operations=1, erase=0.2)
RECIPES = {
    "sgd": Recipe(batch_size=SIZE, augmentation=Augmentation(flip="alternate")),
    "muon": Recipe(
        batch_size=SIZE,
        optimizer="muon",
        schedule=Endless(warmup_images=64, decay=0.25),
        average=Average(share=0.2, batch_norm_images=32),
        augmentation=MOVED,
        balance="sampling",
    ),
    "rmsprop": Recipe(
        batch_size=SIZE,
        optimizer="rmsprop",
        learning_rate=0.01,
        dropout=0.2,
        schedule=Steps(every_epochs=0.02),
        average=Average(decay=0.9),
        balance="loss",
    ),
}
ENDLESS = replace(RECIPES["muon"], schedule=Endless(warmup_images=64))


class Killed(Exception):
    """The process ended here."""


def trained(stripes: Dataset, splits: Splits, recipe: Recipe, state: TrainingState | None = None) -> Trained:
    """A training of 12 steps, or what is left of it; 200 images, so that it crosses the end of an epoch."""
    return train(ARCH, stripes, splits.train[:100], replace(recipe, images=STEPS * SIZE), seed=3, state=state)


def until_killed(stripes: Dataset, splits: Splits, recipe: Recipe, path: Path, step: int) -> None:
    """The same training with a checkpoint after every step, killed after one of them."""

    def keep(state: TrainingState) -> None:
        state.write(path)
        if state.steps == step:
            raise Killed

    recipe = replace(recipe, images=STEPS * SIZE)
    attended = Attended(checkpoints=Checkpoints(keep=keep, seconds=0))
    with pytest.raises(Killed):
        train(ARCH, stripes, splits.train[:100], recipe, seed=3, attended=attended)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("step", [1, 7, 11])
def test_killed_and_resumed_is_uninterrupted(
    name: str, step: int, stripes: Dataset, splits: Splits, tmp_path: Path
) -> None:
    """A training that was killed after any step and went on from its file has the very bits of one left alone."""
    path = tmp_path / "training.checkpoint"
    until_killed(stripes, splits, RECIPES[name], path, step)
    torch.manual_seed(step)
    resumed = trained(stripes, splits, RECIPES[name], TrainingState.read(path))
    alone = trained(stripes, splits, RECIPES[name])
    assert resumed.images_seen == alone.images_seen == STEPS * SIZE
    assert resumed.weights.keys() == alone.weights.keys()
    assert all(torch.equal(tensor, alone.weights[key]) for key, tensor in resumed.weights.items())
    assert resumed.state is not None
    assert alone.state is not None
    assert all(torch.equal(tensor, alone.state.optimizer[key]) for key, tensor in resumed.state.optimizer.items())
    assert resumed.seconds > TrainingState.read(path).seconds > 0


def test_a_rung_costs_the_difference(stripes: Dataset, splits: Splits) -> None:
    """Trained to 64 images, and from there to 192, is what 192 images at once are: nothing is trained twice."""
    rung = train(ARCH, stripes, splits.train[:100], replace(ENDLESS, images=64), seed=3)
    assert rung.state is not None
    assert rung.state.steps == 4
    further, alone = trained(stripes, splits, ENDLESS, rung.state), trained(stripes, splits, ENDLESS)
    assert all(torch.equal(tensor, alone.weights[key]) for key, tensor in further.weights.items())


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(0, 10**9), seconds=st.floats(0, 1e6), name=st.sampled_from(sorted(RECIPES)))
def test_a_state_survives_writing(
    steps: int, seconds: float, name: str, stripes: Dataset, splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is read is what was written, to the bit, whatever the recipe."""
    recipe = replace(RECIPES[name], images=SIZE)
    state = train(ARCH, stripes, splits.train[:20], recipe, seed=3).state
    assert state is not None
    state = replace(state, steps=steps, seconds=seconds)
    path = tmp_path_factory.mktemp("state") / "a.checkpoint"
    state.write(path)
    read = TrainingState.read(path)
    assert (read.identity, read.recipe, read.steps, read.seconds) == (state.identity, recipe, steps, seconds)
    for part in ("weights", "average", "optimizer"):
        mine, theirs = getattr(state, part), getattr(read, part)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items())


@pytest.fixture
def state(stripes: Dataset, splits: Splits) -> TrainingState:
    """The first four steps of a training that may go on."""
    found = train(ARCH, stripes, splits.train[:100], replace(ENDLESS, images=4 * SIZE), seed=3).state
    assert found is not None
    return found


def test_another_training_is_refused(state: TrainingState, stripes: Dataset, splits: Splits) -> None:
    """A state of another architecture, seed, data, images or recipe, or one that is further, is told in one line."""
    wider = replace(ARCH, head=replace(ARCH.head, hidden_channels=32))
    recipe = replace(ENDLESS, images=STEPS * SIZE)
    others = replace(state.identity, data="0123456789abcdef")
    some = splits.train[:100]

    def refusal(words: str, **changes: object) -> None:
        given: dict[str, object] = {"arch": ARCH, "indices": some, "recipe": recipe, "seed": 3, "state": state}
        with pytest.raises(DataError, match=words) as caught:
            train(dataset=stripes, **(given | changes))  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    refusal(f"architecture {ARCH.arch_id}, not {wider.arch_id}", arch=wider)
    refusal("seed 3, not 4", seed=4)
    refusal("training images", indices=splits.train[:99])
    refusal("data 0123456789abcdef", state=replace(state, identity=others))
    refusal("another recipe", recipe=replace(recipe, label_smoothing=0.2))
    refusal("has seen 64 images; ask for more", recipe=replace(recipe, images=SIZE))
    refusal("damaged", state=replace(state, weights={}))
    refusal("damaged", state=replace(state, average={}))


@pytest.mark.parametrize("damage", ["cut", "empty", "other file", "no words", "version", "missing"])
def test_a_damaged_file_is_told_of(damage: str, state: TrainingState, tmp_path: Path) -> None:
    """A file that is cut off, is something else, or of another version is one line with its path and the remedy."""
    path = tmp_path / "a.checkpoint"
    state.write(path)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other file":
        path.write_bytes(b"{}" * 5000)
    elif damage == "no words":
        weight_files.write_weights(state.weights, path)
    elif damage == "version":
        path.write_bytes(content.replace(b'version\\": 1', b'version\\": 9'))
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"a\.checkpoint.*train anew") as caught:
        TrainingState.read(path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_last_checkpoint(
    state: TrainingState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint that cannot be written whole raises the system's error, and the one before stays as it was."""
    path = tmp_path / "a.checkpoint"
    state.write(path)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace(state, steps=9).write(path)
    assert TrainingState.read(path).steps == 4
    assert [each.name for each in tmp_path.iterdir()] == ["a.checkpoint"]


def test_no_pickle_is_read(tmp_path: Path) -> None:
    """A file in torch's own format, which could run code, is refused."""
    path = tmp_path / "a.checkpoint"
    torch.save({"weights": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="cannot be read"):
        TrainingState.read(path)
