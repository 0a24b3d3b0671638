"""Training on a small real data set: reproducible, learning, and judged by sound statistics."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from space.errors import DataError, Diverged, InvalidConfig, RunError, TimeLimit
from space.networks.modules import ConvUnit
from tests.trainer.training.stripes import ARCH, SHORT
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.training.batches import Images
from trainer.training.judging import judge
from trainer.training.networks import load_model, new_model
from trainer.training.recipe import Augmentation, Average, Endless, Recipe, load_recipe
from trainer.training.train import Attended, Check, Teacher, class_weights, distillation_loss, train

ENDLESS = replace(SHORT, schedule=Endless(warmup_images=64), average=Average(share=0.2, batch_norm_images=128))
MUON = replace(ENDLESS, optimizer="muon")


def test_equal_arguments_give_equal_weights(stripes: Dataset, splits: Splits) -> None:
    """Training twice gives bit-identical weights, whatever else drew random numbers; another seed gives others."""
    recipe = replace(SHORT, images=160)
    first = train(ARCH, stripes, splits.train, recipe, seed=1)
    torch.manual_seed(99)
    np.random.default_rng().random()
    again = train(ARCH, stripes, splits.train, recipe, seed=1)
    other = train(ARCH, stripes, splits.train, recipe, seed=2)
    assert first.images_seen == again.images_seen == 160
    assert list(first.weights) == list(again.weights)
    assert all(torch.equal(tensor, again.weights[name]) for name, tensor in first.weights.items())
    assert not torch.equal(first.weights["stem.conv.conv.weight"], other.weights["stem.conv.conv.weight"])


@pytest.mark.slow
def test_reading_ahead_changes_nothing(stripes: Dataset, splits: Splits) -> None:
    """A training whose images other processes read has the very weights of one that reads them itself."""
    recipe = replace(MUON, images=160, augmentation=Augmentation(flip="alternate", shift=1 / 8))
    here, ahead = (train(ARCH, stripes, splits.train, recipe, seed=1, readers=readers).weights for readers in (0, 1))
    assert all(torch.equal(tensor, ahead[name]) for name, tensor in here.items())


def test_training_leaves_the_global_generator_alone(stripes: Dataset, splits: Splits) -> None:
    """A library seeds nothing globally: torch draws the same number after a training as without one."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(ARCH, stripes, splits.train, replace(replace(SHORT, dropout=0.2), images=64), seed=1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("recipe", [SHORT, ENDLESS, MUON, replace(SHORT, optimizer="rmsprop", learning_rate=0.005)])
def test_training_learns(recipe: Recipe, stripes: Dataset, splits: Splits) -> None:
    """Stripes across, down and none are told apart well above the chance of a third, by every optimizer."""
    before = judge(new_model(ARCH, 0), stripes, splits.test)
    trained = train(ARCH, stripes, splits.train, replace(recipe, images=960), seed=0)
    after = judge(load_model(ARCH, trained.weights), stripes, splits.test)
    assert before.top1 < 0.6
    assert after.top1 > 0.85
    assert after.log_likelihood > 0.6 * before.log_likelihood


def test_training_continues_from_weights(stripes: Dataset, splits: Splits) -> None:
    """With a learning rate near zero the given weights stay, and not a fresh network's."""
    start = train(ARCH, stripes, splits.train, SHORT, seed=0).weights
    still = replace(SHORT, images=64, learning_rate=1e-12)
    found = train(ARCH, stripes, splits.train, still, seed=7, weights=start).weights
    for name, tensor in start.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


def test_training_sees_the_images_it_says(stripes: Dataset, splits: Splits) -> None:
    """Progress counts up to images_seen by whole batches, and nothing outside the given indices is read."""
    calls: list[tuple[int, int]] = []
    few = splits.train[:10]
    trained = train(
        ARCH,
        stripes,
        few,
        replace(SHORT, images=96),
        seed=0,
        attended=Attended(progress=lambda seen, total: calls.append((seen, total))),
    )
    assert calls == [(10, 30), (20, 30), (30, 30)]  # a batch is never larger than the split
    assert trained.images_seen == 30
    assert trained.seconds > 0


def test_diverging_training_is_an_error(stripes: Dataset, splits: Splits) -> None:
    """An absurd learning rate ends in an error that names the step and the remedy."""
    with pytest.raises(Diverged, match=r"diverged at step \d+ .*lower the learning rate"):
        train(ARCH, stripes, splits.train, replace(SHORT, learning_rate=1e30), seed=0)


def test_diverging_in_the_last_step_is_an_error_too(stripes: Dataset, splits: Splits) -> None:
    """A training never returns weights that are not finite."""
    with pytest.raises(Diverged, match="diverged"):
        train(ARCH, stripes, splits.train, replace(SHORT, images=32, learning_rate=3e38), seed=0)


def test_a_training_ends_at_its_time_limit(stripes: Dataset, splits: Splits) -> None:
    """A training may take so long, and no longer."""
    with pytest.raises(TimeLimit, match=r"longer than 0\.001 minutes"):
        train(ARCH, stripes, splits.train, replace(SHORT, images=10**9), seed=0, attended=Attended(limit_seconds=0.06))


def test_weights_of_another_network_are_refused() -> None:
    """Weights of another width, or with a name too few or too many, are a DataError that names the architecture."""
    weights = new_model(ARCH, 0).state_dict()
    wider = replace(ARCH, head=replace(ARCH.head, hidden_channels=32))
    surplus = {**weights, "tail.weight": torch.zeros(1)}
    missing = {name: tensor for name, tensor in weights.items() if name != "stem.conv.conv.weight"}
    for arch, given_weights in ((wider, weights), (ARCH, surplus), (ARCH, missing)):
        with pytest.raises(DataError, match=f"do not fit architecture {arch.arch_id}") as caught:
            load_model(arch, given_weights)
        assert "\n" not in str(caught.value)


def test_a_loaded_network_computes_the_same(tmp_path: Path) -> None:
    """Weights saved and loaded give the same outputs."""
    model = new_model(ARCH, 4).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    again = load_model(ARCH, torch.load(tmp_path / "weights.pt", weights_only=True)).eval()
    image = torch.randn((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model(image), again(image))


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_short_trainings_leave_no_made_up_statistics(steps: int, stripes: Dataset, splits: Splits) -> None:
    """After any number of steps on whole epochs the stem's running statistics are those of the training images."""
    count = len(splits.train)
    recipe = Recipe(images=count * steps, batch_size=count, learning_rate=1e-7)
    weights = train(ARCH, stripes, splits.train, recipe, seed=0).weights
    stem = load_model(ARCH, weights).get_submodule("stem.conv")
    assert isinstance(stem, ConvUnit)
    with torch.inference_mode():
        maps = stem.conv(Images(stripes).batch(splits.train)[0])
    torch.testing.assert_close(weights["stem.conv.bn.running_mean"], maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights["stem.conv.bn.running_var"], maps.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert float((maps.var((0, 2, 3)) - 1).abs().max()) > 0.1, "the initial values would not have passed"


def test_an_average_is_judged_with_its_own_statistics(stripes: Dataset, splits: Splits) -> None:
    """BatchNorm's statistics of an average are those that its weights make of the images, not of the last weights."""
    count = len(splits.train)
    recipe = replace(ENDLESS, average=Average(share=0.5, batch_norm_images=count), batch_size=32)
    trained = train(ARCH, stripes, splits.train, recipe, seed=0)
    stem = load_model(ARCH, trained.weights).get_submodule("stem.conv")
    assert isinstance(stem, ConvUnit)
    with torch.inference_mode():
        maps = stem.conv(Images(stripes).batch(splits.train)[0])
    torch.testing.assert_close(trained.weights["stem.conv.bn.running_mean"], maps.mean((0, 2, 3)), rtol=0.05, atol=0.05)
    torch.testing.assert_close(trained.weights["stem.conv.bn.running_var"], maps.var((0, 2, 3)), rtol=0.05, atol=0.05)


def test_an_average_is_the_mean_of_the_last_weights(stripes: Dataset, splits: Splits) -> None:
    """With a share near 1 the average is about the mean of the weights after every step."""
    after: list[Tensor] = []
    for steps in range(1, 6):
        recipe = replace(ENDLESS, average=None, images=32 * steps)
        after.append(train(ARCH, stripes, splits.train, recipe, seed=0).weights["stem.conv.conv.weight"])
    averaged = replace(ENDLESS, average=Average(share=1 - 1e-9), images=160)
    found = train(ARCH, stripes, splits.train, averaged, seed=0).weights["stem.conv.conv.weight"]
    torch.testing.assert_close(found, torch.stack(after).mean(0), rtol=1e-4, atol=1e-6)


def test_batch_norm_and_biases_do_not_decay(stripes: Dataset, splits: Splits) -> None:
    """Strong weight decay shrinks the filters, while BatchNorm's scales stay near 1."""
    recipe = replace(SHORT, images=320, learning_rate=0.05)
    plain, decayed = (
        train(ARCH, stripes, splits.train, replace(recipe, weight_decay=decay), seed=0).weights for decay in (0.0, 1.0)
    )
    filters, scales = "head.conv.conv.weight", "head.conv.bn.weight"
    assert decayed[filters].norm() < 0.8 * plain[filters].norm()
    assert float((decayed[scales].mean() - plain[scales].mean()).abs()) < 0.1


@given(st.integers(1, 20), st.integers(1, 300))
def test_looks_come_after_equal_parts(times: int, steps: int) -> None:
    """A training is looked at after every nth part of its steps, each time once, and never at its end."""
    check = Check(times=times, look=lambda _model, _share: None)
    due = [step for step in range(1, steps + 1) if check.is_due(step, steps)]
    assert due == sorted({math.ceil(part * steps / (times + 1)) for part in range(1, times + 1)} - {steps})


@pytest.mark.parametrize("recipe", [SHORT, MUON])
def test_looking_changes_nothing(recipe: Recipe, stripes: Dataset, splits: Splits) -> None:
    """A training that is judged in between has the very weights of one that is not, and is judged as if it ended."""
    looks: list[tuple[float, float]] = []

    def look(model: nn.Module, share: float) -> None:
        looks.append((share, judge(model, stripes, splits.reward).log_likelihood))

    left_alone = train(ARCH, stripes, splits.train, recipe, seed=0)
    watched = train(ARCH, stripes, splits.train, recipe, seed=0, attended=Attended(check=Check(times=3, look=look)))
    assert all(torch.equal(left_alone.weights[name], watched.weights[name]) for name in left_alone.weights)
    assert [share for share, _ in looks] == pytest.approx([0.25, 0.5, 0.75])
    if recipe.average:
        half = train(ARCH, stripes, splits.train, replace(recipe, images=recipe.images // 2), seed=0)
        found = judge(load_model(ARCH, half.weights), stripes, splits.reward).log_likelihood
        assert looks[1][1] == pytest.approx(found)


def test_dropout_and_augmentation_are_of_the_seed(stripes: Dataset, splits: Splits) -> None:
    """Whatever is random is drawn anew by another seed and alike by the same, and dropout changes the weights."""
    how = Augmentation(flip="random", shift=1 / 8, operations=1, mixup=0.2, erase=0.3)
    recipe = replace(SHORT, images=96, dropout=0.3, augmentation=how)
    one, again = (train(ARCH, stripes, splits.train, recipe, seed=1).weights for _ in range(2))
    without = train(ARCH, stripes, splits.train, replace(recipe, dropout=0.0), seed=1).weights
    name = "head.classifier.linear.weight"
    assert torch.equal(one[name], again[name])
    assert not torch.equal(one[name], without[name])


def test_classes_weigh_alike(stripes: Dataset, splits: Splits) -> None:
    """Of 8 images of one class and 2 of another, one of the former weighs 10 / (2 · 8), one of the latter 10 / 4."""
    by_class = [splits.train[stripes.labels()[splits.train] == label] for label in range(3)]
    assert class_weights(stripes, np.concatenate(by_class)) == pytest.approx([1, 1, 1])
    some = np.concatenate([by_class[0][:8], by_class[2][:2]])
    assert class_weights(stripes, some)[[0, 2]] == pytest.approx([10 / 16, 10 / 4])


@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_balancing_does_not_forget_the_others(
    balance: Literal["sampling", "loss"], stripes: Dataset, splits: Splits
) -> None:
    """With one image of a third class, and smoothed labels, the two frequent classes are still known."""
    labels = stripes.labels()[splits.train]
    few = np.concatenate([splits.train[labels == 0], splits.train[labels == 1], splits.train[labels == 2][:1]])
    trained = train(ARCH, stripes, few, replace(MUON, images=1280, balance=balance), seed=0)
    found = judge(load_model(ARCH, trained.weights), stripes, splits.test).right
    assert found[stripes.labels()[splits.test] != 2].mean() > 0.8


@pytest.mark.parametrize("count", [129, 33])
def test_a_ragged_batch_weighs_no_more_than_its_images(count: int, stripes: Dataset, splits: Splits) -> None:
    """BatchNorm's statistics of an average are about those of all images at once, whatever their number."""
    recipe = replace(ENDLESS, average=Average(share=0.5, batch_norm_images=count))
    trained = train(ARCH, stripes, splits.train[:count], recipe, seed=0)
    stem = load_model(ARCH, trained.weights).get_submodule("stem.conv")
    assert isinstance(stem, ConvUnit)
    with torch.inference_mode():
        maps = stem.conv(Images(stripes).batch(splits.train[:count])[0])
    torch.testing.assert_close(trained.weights["stem.conv.bn.running_mean"], maps.mean((0, 2, 3)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("balance", ["sampling", "loss"])
def test_balancing_helps_the_rare_class(balance: Literal["sampling", "loss"], stripes: Dataset, splits: Splits) -> None:
    """Of 60 images of two classes and 3 of a third, more of the third are recognised than without balancing."""
    labels = stripes.labels()[splits.train]
    few = np.concatenate(
        [splits.train[labels == 0][:30], splits.train[labels == 1][:30], splits.train[labels == 2][:3]]
    )
    rare = splits.test[stripes.labels()[splits.test] == 2]

    def recall(recipe: Recipe) -> float:
        trained = train(ARCH, stripes, few, replace(recipe, images=640), seed=0)
        return judge(load_model(ARCH, trained.weights), stripes, rare).probability

    assert recall(replace(SHORT, balance=balance)) > recall(SHORT) + 0.1


def test_a_gpu_that_is_not_there_is_told_of(stripes: Dataset, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch sees no GPU, a training that is to use one says what to do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match=r"sees no GPU here.*train on another device"):
        train(ARCH, stripes, splits.train, SHORT, seed=0, device="cuda")


def test_a_teacher_is_learnt_from(stripes: Dataset, splits: Splits) -> None:
    """With no weight on the labels, a network learns from its teacher alone, even what is wrong."""
    classes = len(stripes.classes)

    def contrary(images: Tensor) -> Tensor:
        """Always the first class."""
        return torch.tensor([10.0] + [0.0] * (classes - 1)).expand(len(images), -1)

    recipe = replace(SHORT, teacher_weight=1.0, images=320)
    teacher = Teacher(answer=contrary, identity="contrary")
    trained = train(ARCH, stripes, splits.train, recipe, seed=0, teacher=teacher)
    found = judge(load_model(ARCH, trained.weights), stripes, splits.test)
    assert found.top1 == pytest.approx(1 / 3, abs=0.02)


@given(st.floats(0.5, 10))
def test_distillation_is_the_divergence_of_softened_answers(temperature: float) -> None:
    """T^2 times the Kullback-Leibler divergence, computed from its definition; none from oneself."""
    rng = np.random.default_rng(0)
    logits, answers = (torch.from_numpy(rng.normal(0, 3, (5, 4))) for _ in range(2))
    teacher, own = (each.div(temperature).softmax(1) for each in (answers, logits))
    expected = float((teacher * (teacher / own).log()).sum(1).mean()) * temperature**2
    assert float(distillation_loss(logits, answers, temperature)) == pytest.approx(expected)
    assert float(distillation_loss(answers, answers, temperature)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_the_body_is_trained_at_its_share_of_the_rates(
    optimizer: Literal["sgd", "muon"], stripes: Dataset, splits: Splits
) -> None:
    """After one step all but the classifier has moved by so much less, and the classifier as much."""
    recipe = replace(
        load_recipe("sgd-cosine"), images=8, batch_size=8, optimizer=optimizer, momentum=0.0, weight_decay=0.0
    )
    weights = {name: tensor.clone() for name, tensor in new_model(ARCH, 0).state_dict().items()}
    whole, slower = (
        train(ARCH, stripes, splits.train, replace(recipe, body_rate=rate), seed=0, weights=weights).weights
        for rate in (1.0, 0.25)
    )
    moved = 0
    for name, _ in new_model(ARCH, 0).named_parameters():
        share = 1.0 if name.startswith("head.classifier.") else 0.25
        torch.testing.assert_close(
            slower[name] - weights[name], share * (whole[name] - weights[name]), rtol=1e-3, atol=1e-6
        )
        moved += bool((whole[name] != weights[name]).any())
    assert moved > 4


def test_statistics_that_stay(stripes: Dataset, splits: Splits) -> None:
    """With a body that is not trained nothing but the classifier changes, looked at in between or not."""
    shown = Augmentation(flip="none")
    recipe = replace(
        load_recipe("proxy"), images=64, batch_size=8, augmentation=shown, frozen_statistics=True, body_rate=0.0
    )
    weights = {name: tensor.clone() for name, tensor in new_model(ARCH, 0).state_dict().items()}
    looked = Attended(check=Check(times=2, look=lambda *_: None))
    for each in (recipe, replace(recipe, average=None)):
        found = train(ARCH, stripes, splits.train, each, seed=0, weights=weights, attended=looked).weights
        changed = {name for name, tensor in found.items() if not torch.equal(tensor, weights[name])}
        assert changed == {"head.classifier.linear.weight", "head.classifier.linear.bias"}
    with pytest.raises(InvalidConfig, match="there are none without given weights"):
        train(ARCH, stripes, splits.train, recipe, seed=0)
