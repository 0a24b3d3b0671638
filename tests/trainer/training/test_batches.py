"""Which images a step sees, and what the network gets of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.training import batches
from trainer.training.batches import Images, Order, Shard, read_steps, readers_for


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


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 6), st.integers(0, 100))
def test_every_image_is_seen_once_an_epoch(count: int, batch_size: int, epochs: int, seed: int) -> None:
    """Strung together, the batches are one shuffle of all indices after the other, and know their epochs."""
    indices = np.arange(count) * 3 + 1
    order = Order(indices=indices, batch_size=batch_size, seed=seed)
    seen = [order.batch(step) for step in range(-(-epochs * count // order.size))]
    assert {len(images) for images, _ in seen} == {min(batch_size, count)}
    stream = np.concatenate([images for images, _ in seen])
    for epoch in range(epochs):
        np.testing.assert_array_equal(np.sort(stream[epoch * count : (epoch + 1) * count]), indices)
    np.testing.assert_array_equal(np.concatenate([of for _, of in seen]), np.arange(len(stream)) // count)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 30), st.integers(0, 100))
def test_a_step_does_not_depend_on_those_before(count: int, batch_size: int, step: int, seed: int) -> None:
    """An order that begins in the middle gives what one that began at the beginning gives."""
    begun = Order(indices=np.arange(count), batch_size=batch_size, seed=seed)
    whole = [begun.batch(each)[0].tolist() for each in range(step + 1)]
    late = Order(indices=np.arange(count), batch_size=batch_size, seed=seed)
    assert late.batch(step)[0].tolist() == whole[-1]


def test_epochs_are_shuffled() -> None:
    """Two epochs come in different orders, and neither in that of the indices."""
    order = Order(indices=np.arange(50), batch_size=50, seed=0)
    first, second = order.batch(0)[0], order.batch(1)[0]
    assert first.tolist() != second.tolist()
    assert first.tolist() != list(range(50))


def test_weights_draw_rare_classes_as_often() -> None:
    """Of 90 images of one class and 10 of another, weighted alike, both make up half of what is seen."""
    weights = np.array([1 / 90] * 90 + [1 / 10] * 10)
    order = Order(indices=np.arange(100), batch_size=50, seed=0, weights=weights)
    seen = np.concatenate([order.batch(step)[0] for step in range(200)])
    assert np.mean(seen >= 90) == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_images_that_are_read_ahead_are_the_same(stripes: Dataset, splits: Splits) -> None:
    """Two processes that read ahead give each step's images, labels and epochs in order, as reading here does."""
    order = Order(indices=splits.train, batch_size=32, seed=0, shard=Shard(rank=1, size=2))
    here, ahead = (list(read_steps(stripes, order, 3, 14, device="cpu", readers=readers)) for readers in (0, 2))
    assert len(here) == len(ahead) == 11
    for one, other in zip(here, ahead, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.indices, other.indices)
        np.testing.assert_array_equal(one.epochs, other.epochs)


def test_what_does_not_fit_into_memory_is_read_ahead(stripes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for the images twice over nobody reads ahead, with less two processes do."""
    needed = stripes.images().nbytes
    monkeypatch.setattr(batches, "_memory_bytes", lambda: 2 * needed)
    assert readers_for(stripes) == 0
    monkeypatch.setattr(batches, "_memory_bytes", lambda: 2 * needed - 1)
    assert readers_for(stripes) == 2


@given(st.integers(1, 4), st.integers(1, 60), st.integers(1, 20))
def test_batches_can_be_shared_out(size: int, count: int, batch_size: int) -> None:
    """Every process gets as many images of each batch, and together they have it."""
    shards = [Shard(rank=rank, size=size) for rank in range(size)]
    order = Order(indices=np.arange(max(count, size)), batch_size=batch_size, seed=0, shard=shards[0])
    batch, _ = order.batch(0)
    parts = [shard.of(batch) for shard in shards]
    assert len({len(part) for part in parts}) == 1
    assert sorted(np.concatenate(parts)) == sorted(batch)
