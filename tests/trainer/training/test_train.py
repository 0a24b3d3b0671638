"""Training on a small real data set: reproducible, learning, and judged by sound statistics."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from space.arch import Architecture, Block, Head, Stage, Stem
from space.errors import DataError, RunError
from space.networks.modules import ConvUnit
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare
from trainer.data.splits import Splits, split
from trainer.training.train import (
    Check,
    Images,
    Recipe,
    Shard,
    _order,
    augment,
    load_model,
    new_model,
    predict,
    top1,
    train,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small train fastest on one thread, and threads waiting for each other stall on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CLASSES = ("across", "down", "plain")


def picture(label: int, rng: np.random.Generator) -> np.ndarray:
    """A noisy picture of 16×16 px: stripes across, stripes down, or none."""
    wave = 60 * np.sign(np.sin(np.arange(16) * math.pi / 2 + rng.uniform(0, 6)))
    stripes = (wave[:, None] + np.zeros(16), wave[None, :] + np.zeros((16, 1)), np.zeros((16, 16)))[label]
    noisy = 128 + stripes[:, :, None] + rng.normal(0, 20, (16, 16, 3))
    return noisy.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ninety pictures of three classes in folders, prepared as a user's would be."""
    root = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    for part, count in (("train", 80), ("test", 20)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(picture(label, rng)).save(folder / f"{index}.png")
    return prepare(f"imagefolder:{root}", resolution=16, data_dir=None, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def splits(stripes: Dataset) -> Splits:
    """The three splits of it."""
    return split(stripes)


ARCH = Architecture(
    resolution=16,
    in_channels=3,
    num_classes=3,
    stem=Stem(out_channels=8, stride=1, activation="hswish"),
    stages=(
        Stage(
            out_channels=16,
            stride=2,
            blocks=(Block(kernel_size=3, expanded_channels=24, use_se=True, activation="relu"),),
        ),
    ),
    head=Head(conv_channels=24, hidden_channels=24, activation="hswish"),
)
SHORT = Recipe(images=640, batch_size=32, learning_rate=0.1)


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


def test_training_leaves_the_global_generator_alone(stripes: Dataset, splits: Splits) -> None:
    """A library seeds nothing globally: torch draws the same number after a training as without one."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train(ARCH, stripes, splits.train, replace(SHORT, images=64), seed=1)
    assert torch.equal(torch.rand(1), expected)


def test_training_learns(stripes: Dataset, splits: Splits) -> None:
    """Stripes across, down and none are told apart well above the chance of a third, from a start near chance."""
    before = top1(new_model(ARCH, 0), stripes, splits.test)
    trained = train(ARCH, stripes, splits.train, replace(SHORT, flip=False), seed=0)
    model = load_model(ARCH, trained.weights)
    assert before < 0.6
    assert top1(model, stripes, splits.test) > 0.85
    assert loss_on(model, stripes, splits.test) < 0.6 * loss_on(new_model(ARCH, 0), stripes, splits.test)


def loss_on(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> float:
    """The mean cross entropy in evaluation mode."""
    inputs, labels = Images(dataset).batch(indices)
    with torch.inference_mode():
        return float(nn.functional.cross_entropy(model.eval()(inputs), labels))


def test_training_continues_from_weights(stripes: Dataset, splits: Splits) -> None:
    """With a learning rate near zero the given weights stay, and not a fresh network's."""
    start = train(ARCH, stripes, splits.train, SHORT, seed=0).weights
    still = replace(SHORT, images=64, learning_rate=1e-12)
    found = train(ARCH, stripes, splits.train, still, seed=7, weights=start).weights
    for name, tensor in start.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


def test_top1_is_the_share_of_right_predictions(stripes: Dataset, splits: Splits) -> None:
    """Predictions do not depend on how images are batched, and top-1 counts those that are right."""
    model = new_model(ARCH, 3)
    many = np.tile(splits.test, 5)  # more than one batch
    found = predict(model, stripes, many)
    assert len(many) > 250
    np.testing.assert_array_equal(found, np.tile(predict(model, stripes, splits.test), 5))
    right = sum(int(a) == int(b) for a, b in zip(found, stripes.labels()[many], strict=True))
    assert top1(model, stripes, many) == pytest.approx(right / len(many))


def test_images_are_normalised(stripes: Dataset, splits: Splits) -> None:
    """A batch is (pixel / 255 - mean) / std per channel, with the labels of its images."""
    chosen = splits.train[:7]
    inputs, labels = Images(stripes).batch(chosen)
    mean, std = (np.array(values)[:, None, None] for values in (stripes.preprocess.mean, stripes.preprocess.std))
    expected = (stripes.images()[chosen] / 255 - mean) / std
    np.testing.assert_allclose(inputs.numpy(), expected, atol=1e-5)
    assert labels.tolist() == stripes.labels()[chosen].tolist()
    whole = Images(stripes).batch(np.sort(np.concatenate([splits.train, splits.reward])))[0]
    torch.testing.assert_close(whole.mean((0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(whole.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_the_schedule_warms_up_and_decays() -> None:
    """The rate rises linearly over a tenth of the steps, is highest there, and falls to near zero as a cosine."""
    recipe = Recipe(images=6400, batch_size=64, learning_rate=0.4, warmup=0.1)
    rates = [recipe.rate(step) for step in range(recipe.steps)]
    assert len(rates) == 100
    assert rates[:10] == pytest.approx([0.04 * (step + 1) for step in range(10)])
    assert max(rates) == rates[9] == pytest.approx(0.4)
    assert rates[10] == pytest.approx(0.4)
    assert rates[55] == pytest.approx(0.2), "half-way through the decay a cosine is at one half"
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert recipe.rate(100) == pytest.approx(0)


@given(st.integers(1, 5_000), st.integers(1, 512), st.floats(0, 1))
def test_the_schedule_stays_in_bounds(images: int, batch_size: int, warmup: float) -> None:
    """However short the training, every step has a rate between 0 and the given one, and there is a step."""
    recipe = Recipe(images=images, batch_size=batch_size, warmup=warmup)
    assert recipe.steps >= 1
    highest = recipe.learning_rate * (1 + 1e-12)  # rounding
    assert all(0 <= recipe.rate(step) <= highest for step in range(recipe.steps))
    assert recipe.rate(0) > 0


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 6), st.integers(0, 100))
def test_every_image_is_seen_once_an_epoch(count: int, batch_size: int, epochs: int, seed: int) -> None:
    """Strung together, the batches are one shuffle of all indices after the other."""
    indices = np.arange(count) * 3 + 1
    size = min(batch_size, count)
    recipe = Recipe(images=batch_size * math.ceil(epochs * count / size), batch_size=batch_size)
    batches = list(_order(indices, recipe, np.random.default_rng(seed)))
    assert len(batches) == recipe.steps
    assert {len(batch) for batch in batches} == {size}
    stream = np.concatenate(batches)
    for epoch in range(epochs):
        np.testing.assert_array_equal(np.sort(stream[epoch * count : (epoch + 1) * count]), indices)


def test_epochs_are_shuffled() -> None:
    """Two epochs come in different orders, and neither in that of the indices."""
    indices = np.arange(50)
    first, second = _order(indices, Recipe(images=100, batch_size=50), np.random.default_rng(0))
    assert first.tolist() != second.tolist()
    assert first.tolist() != indices.tolist()


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
        progress=lambda seen, total: calls.append((seen, total)),
    )
    assert calls == [(10, 30), (20, 30), (30, 30)]  # a batch is never larger than the split
    assert trained.images_seen == 30
    assert trained.seconds > 0


BATCH = torch.arange(4 * 2 * 8 * 8, dtype=torch.float32).reshape(4, 2, 8, 8)
STILL = Recipe(images=1, shift=0, flip=False)


def test_no_augmentation_is_the_identity() -> None:
    """Without shift and flip a batch comes back as it is."""
    assert torch.equal(augment(BATCH, STILL, np.random.default_rng(0)), BATCH)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(4, 24), st.floats(0, 0.25), st.booleans(), st.integers(0, 100))
def test_augmentation_keeps_shape_and_values(count: int, side: int, shift: float, flip: bool, seed: int) -> None:
    """Shape and type stay, and no value appears that was not in the very image."""
    images = torch.arange(count * 3 * side * side, dtype=torch.float32).reshape(count, 3, side, side)
    found = augment(images, replace(STILL, shift=shift, flip=flip), np.random.default_rng(seed))
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    for before, after in zip(images, found, strict=True):
        for channel in range(3):
            assert set(after[channel].flatten().tolist()) <= set(before[channel].flatten().tolist())


def test_half_of_the_images_are_mirrored() -> None:
    """Each image is itself or its mirror image, and of 2,000 between 46 and 54 % are mirrored."""
    images = BATCH[:1].expand(2000, -1, -1, -1)
    found = augment(images, replace(STILL, flip=True), np.random.default_rng(0))
    same = (found == images).all(dim=(1, 2, 3))
    mirrored = (found == images.flip(3)).all(dim=(1, 2, 3))
    assert bool((same ^ mirrored).all())
    assert 0.46 < float(mirrored.float().mean()) < 0.54


def test_shifts_reach_every_offset_alike() -> None:
    """With a shift of an eighth of 8 px the nine translations by up to one pixel come about equally often."""
    images = BATCH[:1].expand(1800, -1, -1, -1)
    found = augment(images, replace(STILL, shift=1 / 8), np.random.default_rng(0))
    offsets = Counter(divmod(int(value) - 4 * 8 - 4, 8) for value in found[:, 0, 4, 4])
    assert set(offsets) == {divmod(8 * down + right, 8) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    assert min(offsets.values()) > 140
    assert max(offsets.values()) < 260


def test_images_move_each_by_themselves() -> None:
    """An image moved by one pixel to the left is the image without its first column."""
    found = augment(BATCH[:1].expand(64, -1, -1, -1), replace(STILL, shift=1 / 8), np.random.default_rng(0))
    left = next(each for each in found if int(each[0, 4, 4]) == 4 * 8 + 5)
    assert torch.equal(left[:, :, :-1], BATCH[0][:, :, 1:])


def test_diverging_training_is_an_error(stripes: Dataset, splits: Splits) -> None:
    """An absurd learning rate ends in a DataError that names the step and the remedy."""
    with pytest.raises(DataError, match=r"diverged at step \d+ .*lower the learning rate"):
        train(ARCH, stripes, splits.train, replace(SHORT, learning_rate=1e30), seed=0)


def test_diverging_in_the_last_step_is_an_error_too(stripes: Dataset, splits: Splits) -> None:
    """A training never returns weights that are not finite."""
    with pytest.raises(DataError, match="diverged"):
        train(ARCH, stripes, splits.train, replace(SHORT, images=32, learning_rate=3e38), seed=0)


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
    recipe = Recipe(images=count * steps, batch_size=count, learning_rate=1e-7, shift=0, flip=False)
    weights = train(ARCH, stripes, splits.train, recipe, seed=0).weights
    stem = load_model(ARCH, weights).get_submodule("stem.conv")
    assert isinstance(stem, ConvUnit)
    with torch.inference_mode():
        maps = stem.conv(Images(stripes).batch(splits.train)[0])
    torch.testing.assert_close(weights["stem.conv.bn.running_mean"], maps.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights["stem.conv.bn.running_var"], maps.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert float((maps.var((0, 2, 3)) - 1).abs().max()) > 0.1, "the initial values would not have passed"


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


def test_looking_changes_nothing(stripes: Dataset, splits: Splits) -> None:
    """A training that is judged in between has the very weights of one that is not."""
    looks: list[tuple[float, float]] = []

    def look(model: nn.Module, share: float) -> None:
        looks.append((share, top1(model, stripes, splits.reward)))

    left_alone = train(ARCH, stripes, splits.train, SHORT, seed=0)
    watched = train(ARCH, stripes, splits.train, SHORT, seed=0, check=Check(times=3, look=look))
    assert all(torch.equal(left_alone.weights[name], watched.weights[name]) for name in left_alone.weights)
    assert len(looks) == 3
    assert all(0.2 * part <= share <= 0.3 * part for part, (share, _) in enumerate(looks, start=1))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_parts_of_a_batch_are_augmented_as_in_the_whole(size: int, each: int, seed: int) -> None:
    """What several processes make of their parts of a batch is what one makes of all of it, and so are later draws."""
    images = torch.rand(size * each, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    recipe = replace(STILL, shift=1 / 8, flip=True)
    alone = np.random.default_rng(seed)
    whole = augment(images, recipe, alone)
    for rank in range(size):
        rng, shard = np.random.default_rng(seed), Shard(rank=rank, size=size)
        part = augment(images[torch.from_numpy(shard.of(np.arange(size * each)))], recipe, rng, shard)
        assert torch.equal(part, whole[rank::size])
        assert rng.bit_generator.state == alone.bit_generator.state


def test_a_gpu_that_is_not_there_is_told_of(stripes: Dataset, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torch sees no GPU, a training that is to use one says what to do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match=r"sees no GPU.*ray\.gpus"):
        train(ARCH, stripes, splits.train, SHORT, seed=0, device="cuda")


def test_batches_are_made_where_the_network_is(stripes: Dataset) -> None:
    """On another device than the CPU (`meta`, which computes nothing but shapes), nothing is left on the CPU."""
    images, labels = Images(stripes, "meta").batch(np.arange(6))
    moved = augment(images, replace(STILL, shift=1 / 8, flip=True), np.random.default_rng(0))
    logits = new_model(ARCH, 0).to("meta")(moved)
    assert {tensor.device.type for tensor in (images, labels, moved, logits)} == {"meta"}
    assert moved.shape == images.shape == (6, 3, 16, 16)
