"""Training shared weights."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from space.errors import Diverged, InvalidConfig
from tests.strategies import small_space
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.supernet.sharing import Supernet, part_of
from trainer.supernet.training import _SupernetTraining, train_supernet
from trainer.training.batches import Images, Order
from trainer.training.inherit import channel_order
from trainer.training.judging import judge
from trainer.training.networks import channels_last, load_model, new_model, shapes_of
from trainer.training.recipe import Average, Cosine, Endless, Recipe
from trainer.training.state import TrainingState, UnfitState
from trainer.training.train import Attended, Checkpoints, train

SPACE = replace(small_space(), in_channels=3, num_classes=3)
MUON = Recipe(
    images=12 * 16,
    batch_size=16,
    optimizer="muon",
    matrix_rate=0.005,
    schedule=Endless(warmup_images=64),
    average=Average(share=0.2, batch_norm_images=32),
)


class Killed(Exception):
    """The process ended here."""


def test_a_step_adds_up_the_gradients_of_its_members(stripes: Dataset, splits: Splits) -> None:
    """As a hand that trains the largest by the labels and the smallest by what the largest says, each alone."""
    plain = Recipe(images=16, batch_size=16, learning_rate=0.5, momentum=0, weight_decay=0, label_smoothing=0)
    recipe = replace(plain, schedule=Cosine(warmup=0))
    _, trained = train_supernet(SPACE, stripes, splits.train, recipe, seed=3, drawn=0)
    assert trained.state is not None

    largest = channels_last(new_model(SPACE.largest, 3)).train()
    chosen, _ = Order(indices=splits.train, batch_size=16, seed=3).batch(0)
    images, labels = Images(stripes).batch(chosen)
    first = {name: tensor.clone() for name, tensor in largest.state_dict().items()}
    smallest = channels_last(load_model(SPACE.smallest, part_of(first, shapes_of(SPACE.smallest)))).train()
    answers = largest(images)
    (functional.cross_entropy(answers, labels) / 2).backward()  # type: ignore[no-untyped-call]
    said = smallest(images).log_softmax(1)
    (functional.kl_div(said, answers.detach().softmax(1), reduction="batchmean") / 2).backward()  # type: ignore[no-untyped-call]
    shapes = {name: each.shape for name, each in smallest.named_parameters()}
    own = {name: parameter.grad for name, parameter in smallest.named_parameters()}
    for name, parameter in largest.named_parameters():
        expected = first[name].clone()
        if parameter.grad is not None:
            expected -= 0.5 * parameter.grad
        if name in own:
            part_of({name: expected}, {name: shapes[name]})[name].sub_(0.5 * own[name])  # type: ignore[operator]
        torch.testing.assert_close(trained.state.weights[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("step", "warmup"), [(1, 0), (7, 0), (11, 0), (4, 80), (5, 80), (6, 80)])
def test_killed_and_resumed_is_uninterrupted(
    step: int, warmup: int, stripes: Dataset, splits: Splits, tmp_path: Path
) -> None:
    """To the very bit, the members that each step draws included; also beside the end of a warm-up."""
    path = tmp_path / "supernet.checkpoint"

    def keep(state: TrainingState) -> None:
        state.write(path)
        if state.steps == step:
            raise Killed

    attended = Attended(checkpoints=Checkpoints(keep=keep, seconds=0))
    with pytest.raises(Killed):
        train_supernet(SPACE, stripes, splits.train[:100], MUON, seed=3, warmup=warmup, attended=attended)
    state = TrainingState.read(path)
    resumed, _ = train_supernet(SPACE, stripes, splits.train[:100], MUON, seed=3, warmup=warmup, state=state)
    alone, trained = train_supernet(SPACE, stripes, splits.train[:100], MUON, seed=3, warmup=warmup)
    assert trained.images_seen == 12 * 16
    assert all(torch.equal(resumed.weights[name], tensor) for name, tensor in alone.weights.items())


def test_channels_are_ordered_after_the_largest_was_trained_alone(
    stripes: Dataset, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It computes what it did, and what is remembered of each channel moves with it; more is not to be a warm-up."""
    images, order_channels = splits.train, _SupernetTraining._order_channels
    pixels, _ = Images(stripes).batch(splits.reward[:8])
    looks = []

    def looked_at(training: _SupernetTraining) -> None:
        buffers = {
            name: kept["momentum_buffer"].clone()
            for name, parameter in training.network.named_parameters()
            for optimizer in training.optimizers.all
            if "momentum_buffer" in (kept := optimizer.state.get(parameter, {}))
        }
        weights = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
        with torch.inference_mode():
            answers = [load_model(SPACE.largest, weights).eval()(pixels), training.judged()(pixels)]
        training.resume()
        looks.append((weights, buffers, answers))

    def ordered(training: _SupernetTraining) -> None:
        looked_at(training)
        order_channels(training)
        looked_at(training)

    monkeypatch.setattr(_SupernetTraining, "_order_channels", ordered)
    train_supernet(SPACE, stripes, images, MUON, seed=3, warmup=64)
    (before, kept, said), (after, kept_after, said_after) = looks
    alone = train(SPACE.largest, stripes, images, replace(MUON, images=64), seed=3).state
    assert alone is not None
    assert all(torch.equal(before[name], tensor) for name, tensor in alone.weights.items())
    for one, other in zip(said, said_after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    expected = channel_order(SPACE.largest, before)(kept)
    assert len(expected) > 20
    assert all(torch.equal(kept_after[name], tensor) for name, tensor in expected.items())
    assert any(not torch.equal(after[name], tensor) for name, tensor in before.items())
    with pytest.raises(InvalidConfig, match="leaves none of 192 for the supernet"):
        train_supernet(SPACE, stripes, images, MUON, seed=3, warmup=192)


def test_another_supernets_training_is_refused(stripes: Dataset, splits: Splits) -> None:
    """A training of another space, of other draws, or of one network is not gone on with."""
    short, images = replace(MUON, images=16), splits.train
    _, trained = train_supernet(SPACE, stripes, images, short, seed=3)
    with pytest.raises(UnfitState, match=r"is of architecture supernet-\w+-2, not supernet-\w+-1"):
        train_supernet(SPACE, stripes, images, short, seed=3, drawn=1, state=trained.state)
    fewer = replace(SPACE, preset=replace(SPACE.preset, stages=SPACE.preset.stages[:1]))
    with pytest.raises(UnfitState, match="is of architecture"):
        train_supernet(fewer, stripes, images, short, seed=3, state=trained.state)


def test_one_that_begins_with_another_keeps_its_kernels_transformations(stripes: Dataset, splits: Splits) -> None:
    """Members are trained through them, and they come back; where nothing is learnt, all stays as it was."""
    images, still = splits.train, Recipe(images=48, batch_size=16, learning_rate=1e-12, weight_decay=0)
    shared, _ = train_supernet(SPACE, stripes, images, still, seed=3)
    kernel = next(name for name in shared.weights if name.endswith("depthwise.conv.weight"))
    double = Supernet(space=SPACE, weights=shared.weights, transforms={f"{kernel} 5to3": 2 * torch.eye(9)})
    again, trained = train_supernet(SPACE, stripes, images, still, seed=3, start=double)
    assert again.transforms.keys() == double.transforms.keys()
    for name, _ in new_model(SPACE.largest, 0).named_parameters():
        torch.testing.assert_close(again.weights[name], shared.weights[name], msg=name)
    learning = replace(still, learning_rate=0.1)
    plain = replace(double, transforms={})
    one, other = (train_supernet(SPACE, stripes, images, learning, seed=3, start=each)[0] for each in (double, plain))
    assert not torch.equal(one.weights[kernel], other.weights[kernel])
    assert trained.state is not None
    with pytest.raises(UnfitState, match="is of first weights"):
        train_supernet(SPACE, stripes, images, still, seed=3, start=plain, state=trained.state)


def test_all_members_learn(stripes: Dataset, splits: Splits) -> None:
    """After some epochs nearly every member tells the stripes apart, without a training of its own."""
    shared, _ = train_supernet(SPACE, stripes, splits.train, replace(MUON, images=2400, batch_size=32), seed=0)
    members = [SPACE.smallest, SPACE.largest, *(SPACE.sample(random.Random(seed)) for seed in range(6))]
    found = [judge(shared.model_of(arch, stripes, splits.train), stripes, splits.reward).top1 for arch in members]
    assert np.median(found) > 0.8
    assert min(found) > 0.4


def test_a_training_that_diverges_ends(stripes: Dataset, splits: Splits) -> None:
    """With the reason, as any other does."""
    with pytest.raises(Diverged, match="lower the learning rate"):
        train_supernet(SPACE, stripes, splits.train, Recipe(images=320, batch_size=32, learning_rate=1e30), seed=0)
