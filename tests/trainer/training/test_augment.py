"""Batch augmentation: what each kind does to an image, and that it does so by the image's own draw."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainer.training.stripes import ARCH
from trainer.data.dataset import Dataset
from trainer.training.augment import Batch, augment, mirrored_by_epoch
from trainer.training.batches import Images, Shard
from trainer.training.networks import new_model
from trainer.training.recipe import Augmentation

BATCH = torch.arange(4 * 2 * 8 * 8, dtype=torch.float32).reshape(4, 2, 8, 8)
STILL = Augmentation()
EVERYTHING = Augmentation(flip="random", shift=1 / 8, operations=2, magnitude=0.5, mixup=0.2, cutmix=1.0, erase=0.5)


def changed(images: Tensor, how: Augmentation, seed: int = 0) -> Tensor:
    """Only the images."""
    labels = torch.zeros(len(images), dtype=torch.int64)
    return augment(Batch(images=images, labels=labels), how, np.random.default_rng(seed)).images


def test_no_augmentation_is_the_identity() -> None:
    """Where nothing is asked for a batch comes back as it is."""
    assert torch.equal(changed(BATCH, STILL), BATCH)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(4, 24), st.floats(0, 0.25), st.booleans(), st.integers(0, 100))
def test_moving_keeps_shape_and_values(count: int, side: int, shift: float, flip: bool, seed: int) -> None:
    """Shape and type stay, and no value appears that was not in the very image."""
    images = torch.arange(count * 3 * side * side, dtype=torch.float32).reshape(count, 3, side, side)
    found = changed(images, replace(STILL, shift=shift, flip="random" if flip else "none"), seed)
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    for before, after in zip(images, found, strict=True):
        for channel in range(3):
            assert set(after[channel].flatten().tolist()) <= set(before[channel].flatten().tolist())


def test_half_of_the_images_are_mirrored() -> None:
    """Each image is itself or its mirror image, and of 2,000 between 46 and 54 % are mirrored."""
    images = BATCH[:1].expand(2000, -1, -1, -1)
    found = changed(images, replace(STILL, flip="random"))
    same = (found == images).all(dim=(1, 2, 3))
    mirrored = (found == images.flip(3)).all(dim=(1, 2, 3))
    assert bool((same ^ mirrored).all())
    assert 0.46 < float(mirrored.float().mean()) < 0.54


def test_shifts_reach_every_offset_alike() -> None:
    """With a shift of an eighth of 8 px the nine translations by up to one pixel come about equally often."""
    images = BATCH[:1].expand(1800, -1, -1, -1)
    found = changed(images, replace(STILL, shift=1 / 8))
    offsets = Counter(divmod(int(value) - 4 * 8 - 4, 8) for value in found[:, 0, 4, 4])
    assert set(offsets) == {divmod(8 * down + right, 8) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    assert min(offsets.values()) > 140
    assert max(offsets.values()) < 260


def test_images_move_each_by_themselves() -> None:
    """An image moved by one pixel to the left is the image without its first column."""
    found = changed(BATCH[:1].expand(64, -1, -1, -1), replace(STILL, shift=1 / 8))
    left = next(each for each in found if int(each[0, 4, 4]) == 4 * 8 + 5)
    assert torch.equal(left[:, :, :-1], BATCH[0][:, :, 1:])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50), st.integers(0, 2**31), st.integers(1, 20))
def test_alternating_flip_shows_both_sides(indices: list[int], seed: int, epoch: int) -> None:
    """An image is as it is in its first epoch, and after that mirrored in exactly one of any two epochs in a row."""
    images = np.array(indices)
    now, then = (mirrored_by_epoch(images, np.full(len(images), number), seed) for number in (epoch, epoch + 1))
    assert not mirrored_by_epoch(images, np.zeros(len(images), dtype=np.int64), seed).any()
    assert (now ^ then).all()


def test_alternating_flip_mirrors_half_of_an_epoch() -> None:
    """Of 10,000 images about half are mirrored in the second epoch."""
    images = np.arange(10_000)
    assert 0.48 < mirrored_by_epoch(images, np.ones(10_000, dtype=np.int64), 0).mean() < 0.52


def test_a_rectangle_is_erased_in_a_share_of_the_images() -> None:
    """Of 1,000 images about 30 % have a rectangle of zeros, of 2 to 33 % of the area and some pixels more or less."""
    images = torch.ones(1000, 2, 32, 32)
    found = changed(images, replace(STILL, erase=0.3))
    erased = (found == 0).all(1)
    areas = erased.float().mean((1, 2))
    assert 0.24 < float((areas > 0).float().mean()) < 0.36
    assert float(areas.max()) < 0.40
    assert bool(((found == 0) | (found == 1)).all())
    for mask in erased[areas > 0][:20]:
        rows, columns = mask.any(1).sum(), mask.any(0).sum()
        assert int(mask.sum()) == int(rows * columns), "it is a rectangle"


def test_mixup_is_a_sum_of_two_images() -> None:
    """Each image is lambda of itself and the rest of its partner's, and the labels say so."""
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8)
    found = augment(Batch(images=images, labels=labels), replace(STILL, mixup=1.0), np.random.default_rng(0))
    assert found.own is not None
    assert found.others is not None
    share = found.own[:, None, None, None]
    torch.testing.assert_close(found.images, share * images + (1 - share) * images.flip(0))
    assert found.labels.tolist() == labels.tolist()
    assert found.others.tolist() == labels.flip(0).tolist()


def test_cutmix_shares_labels_by_area() -> None:
    """Each pixel is one's own or the partner's, and an image's label counts by how many pixels are its own."""
    images = torch.arange(8.0)[:, None, None, None].expand(8, 1, 16, 16).contiguous()
    batch = Batch(images=images, labels=torch.arange(8))
    found = augment(batch, replace(STILL, cutmix=1.0), np.random.default_rng(0))
    assert found.own is not None
    own = found.images == images
    assert bool((own | (found.images == images.flip(0))).all())
    torch.testing.assert_close(own.float().mean((1, 2, 3)), found.own)
    assert 0.2 < float(found.own.mean()) < 0.8


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(8, 24), st.sampled_from((1, 3)), st.integers(0, 100))
def test_everything_at_once_keeps_the_shape(count: int, side: int, channels: int, seed: int) -> None:
    """All kinds together give finite images of the same shape in the layout that convolutions prefer."""
    images = torch.rand(count, channels, side, side) * 4 - 2
    found = changed(images, EVERYTHING, seed)
    assert found.shape == images.shape
    assert bool(torch.isfinite(found).all())
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_no_strength_changes_nothing() -> None:
    """RandAugment's operations at magnitude 0 leave the images as they are, but for what resampling rounds."""
    images = torch.rand(4, 3, 16, 16)
    found = changed(images, replace(STILL, operations=3, magnitude=0.0))
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)


def test_operations_change_each_image_by_its_own_draw() -> None:
    """Of 64 copies of an image hardly two look alike after two operations."""
    images = torch.rand(1, 3, 16, 16).expand(64, -1, -1, -1)
    found = changed(images, replace(STILL, operations=2, magnitude=0.5))
    assert len({tuple(image.flatten().tolist()) for image in found}) > 60


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_parts_of_a_batch_are_augmented_as_in_the_whole(size: int, each: int, seed: int) -> None:
    """What several processes make of their parts of a batch is what one makes of all of it, and so are later draws."""
    images = torch.rand(size * each, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(size * each)
    how = replace(EVERYTHING, mixup=0.0, cutmix=0.0)
    alone = np.random.default_rng(seed)
    whole = augment(Batch(images=images, labels=labels), how, alone).images
    for rank in range(size):
        rng, shard = np.random.default_rng(seed), Shard(rank=rank, size=size)
        own = torch.from_numpy(shard.of(np.arange(size * each)))
        part = augment(Batch(images=images[own], labels=labels[own]), how, rng, shard=shard).images
        torch.testing.assert_close(part, whole[rank::size])
        assert rng.bit_generator.state == alone.bit_generator.state


@pytest.mark.parametrize("how", [replace(EVERYTHING, mixup=0.0), replace(EVERYTHING, cutmix=0.0)])
def test_batches_are_made_where_the_network_is(how: Augmentation, stripes: Dataset) -> None:
    """On another device than the CPU (`meta`, which computes nothing but shapes), nothing is left on the CPU."""
    images, labels = Images(stripes, "meta").batch(np.arange(6))
    moved = augment(Batch(images=images, labels=labels), how, np.random.default_rng(0))
    assert moved.own is not None
    assert moved.others is not None
    logits = new_model(ARCH, 0).to("meta")(moved.images)
    tensors = (images, moved.labels, moved.images, moved.own, moved.others, logits)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.images.shape == images.shape == (6, 3, 16, 16)
