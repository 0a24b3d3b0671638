"""Batch augmentation by tensor operations where the batch is: every image by its own draw, a few kernels for all.

All draws come from a NumPy generator on the host, and of a batch that several processes share each draws for all of it:
the same images come out on any device and, but for mixing, whose partners are those of one process, in any number of
processes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.training.batches import ALONE, Shard
from trainer.training.recipe import Augmentation


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images, N x C x H x W, and their labels, int64 N; a mixed image is `others`' by a share of 1 - `own` (N)."""

    images: Tensor
    labels: Tensor
    others: Tensor | None = None
    own: Tensor | None = None


@dataclass(slots=True, kw_only=True)
class _Draws:
    """Random numbers for the images of this process, drawn for those of all."""

    rng: np.random.Generator
    shard: Shard
    count: int
    device: torch.device

    def uniform(self, low: float, high: float, *more: int) -> Tensor:
        """Float32, (images, *more)."""
        return self.tensor(self.rng.uniform(low, high, (self.count * self.shard.size, *more)).astype(np.float32))

    def integers(self, low: int, high: int, *more: int) -> Tensor:
        """Int64 from `low` up to below `high`, (images, *more)."""
        return self.tensor(self.rng.integers(low, high, (self.count * self.shard.size, *more)))

    def offsets(self, end: int) -> list[list[int]]:
        """Two numbers from 0 up to below `end` for each image."""
        drawn = self.rng.integers(0, end, (self.count * self.shard.size, 2))
        offsets: list[list[int]] = self.shard.of(drawn).tolist()
        return offsets

    def tensor(self, whole: np.ndarray) -> Tensor:
        """This process's part, on the device."""
        return torch.from_numpy(self.shard.of(whole)).to(self.device)


def augment(
    batch: Batch,
    how: Augmentation,
    rng: np.random.Generator,
    *,
    mirrored: np.ndarray | None = None,
    shard: Shard = ALONE,
) -> Batch:
    """Augment images that are normalised (mean 0, so that 0 is what an erased or empty place holds).

    `mirrored` says which images of the whole batch are mirrored where that is not drawn (`mirrored_by_epoch`).
    """
    draws = _Draws(rng=rng, shard=shard, count=len(batch.images), device=batch.images.device)
    images = batch.images
    if how.flip != "none":
        whole = draws.rng.random(draws.count * shard.size) < 0.5 if mirrored is None else mirrored
        images = torch.where(draws.tensor(whole)[:, None, None, None], images.flip(3), images)
    if how.operations:
        images = _rand_augment(images, how, draws)
    if reach := round(how.shift * images.shape[2]):
        images = _shifted(images, reach, draws)
    if how.erase:
        images = _erased(images, how.erase, draws)
    images = images.contiguous(memory_format=torch.channels_last)
    return _mixed(Batch(images=images, labels=batch.labels), how, draws)


def mirrored_by_epoch(indices: np.ndarray, epochs: np.ndarray, seed: int) -> np.ndarray:
    """Alternating flip: which images are mirrored, bool N.

    In its first epoch an image is as it is: nothing is gained by changing what was never seen. After that it is
    mirrored in every second epoch, half of the images in the odd ones. Every image is thus seen both ways as soon as
    can be (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds", section 3.4, which mirrors half of the first epoch too).
    """
    halves = (indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)) >> np.uint64(33)
    is_odd: np.ndarray = (halves + epochs.astype(np.uint64)) % np.uint64(2) == 1
    return is_odd & (epochs > 0)


def _shifted(images: Tensor, reach: int, draws: _Draws) -> Tensor:
    """Moved by up to `reach` pixels; what comes into view repeats the border."""
    side = images.shape[2]
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    moved = torch.empty_like(images)
    # One copy per image takes half to two thirds of the time of one indexed copy for all on a CPU.
    for index, (row, column) in enumerate(draws.offsets(2 * reach + 1)):
        moved[index] = padded[index, :, row : row + side, column : column + side]
    return moved


def _erased(images: Tensor, share: float, draws: _Draws) -> Tensor:
    """A rectangle of 2 to 33 % of the area, of aspect 0.3 to 3.3, becomes the mean, in a share of the images."""
    side = images.shape[2]
    area, aspect = draws.uniform(0.02, 0.33), torch.exp(draws.uniform(math.log(0.3), math.log(1 / 0.3)))
    sizes = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1) * side
    inside = _inside(sizes.clamp(max=side), draws.uniform(0, 1, 2), side)
    chosen = (draws.uniform(0, 1) < share)[:, None, None]
    return images.masked_fill((inside & chosen)[:, None], 0.0)


def _inside(sizes: Tensor, places: Tensor, side: int) -> Tensor:
    """Bool N x side x side: the pixels of a rectangle per image, of `sizes` (N x 2, px), at `places` (N x 2, 0-1)."""
    first = places * (side - sizes)
    pixels = torch.arange(side, device=sizes.device) + 0.5
    within = (pixels > first[:, :, None]) & (pixels < (first + sizes)[:, :, None])
    return within[:, 0, :, None] & within[:, 1, None, :]


# RandAugment's operations by number: the geometric ones become one affine map per image, the others one pass each.
_GEOMETRIC = ("rotate", "shear_x", "shear_y", "move_x", "move_y", "scale")
_PHOTOMETRIC = ("brightness", "contrast", "saturation", "solarize")


def _rand_augment(images: Tensor, how: Augmentation, draws: _Draws) -> Tensor:
    """So many operations per image, each with a random sign and up to `magnitude` of the greatest strength."""
    kinds = (*_GEOMETRIC, *_PHOTOMETRIC)
    chosen = draws.integers(0, len(kinds), how.operations)
    strengths = draws.uniform(-how.magnitude, how.magnitude, how.operations)
    amount = {
        name: torch.where(chosen == number, strengths, torch.zeros_like(strengths)).sum(1)
        for number, name in enumerate(kinds)
    }
    return _photometric(_geometric(images, amount), amount)


def _geometric(images: Tensor, amount: dict[str, Tensor]) -> Tensor:
    """Up to 90 degrees, a shear of 1, half of the side, and a scale of 1/2 or 2; what comes into view is the mean."""
    angle, scale = amount["rotate"] * (math.pi / 2), torch.exp2(amount["scale"])
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    one = torch.ones_like(angle)
    shear = torch.stack([torch.stack([one, amount["shear_x"]], 1), torch.stack([amount["shear_y"], one], 1)], 1)
    moved = torch.stack([amount["move_x"], amount["move_y"]], 1)  # in half sides, of which there are two
    maps = torch.cat([rotation @ shear, moved[:, :, None]], 2)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _photometric(images: Tensor, amount: dict[str, Tensor]) -> Tensor:
    """Brightness, contrast and saturation by factors from 0 to 2, and a bend of what is brightest."""
    each = {name: amount[name][:, None, None, None] for name in _PHOTOMETRIC}
    images = images + each["brightness"]
    centre = images.mean((1, 2, 3), keepdim=True)
    images = centre + (images - centre) * (1 + each["contrast"])
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (1 + each["saturation"])
    # Normalised values above the threshold are turned down; without strength it lies above all values.
    threshold = torch.where(each["solarize"] == 0, math.inf, 3.0 * (1 - each["solarize"].abs()))
    return torch.where(images > threshold, 2 * threshold - images, images)


def _mixed(batch: Batch, how: Augmentation, draws: _Draws) -> Batch:
    """Mixup, or a rectangle from another image; partners are those of the batch in reverse order."""
    if not how.mixup and not how.cutmix:
        return batch
    use_cutmix = bool(how.cutmix) and (not how.mixup or draws.rng.random() < 0.5)
    strength = how.cutmix if use_cutmix else how.mixup
    own = draws.tensor(draws.rng.beta(strength, strength, draws.count * draws.shard.size).astype(np.float32))
    partners, others = batch.images.flip(0), batch.labels.flip(0)
    if use_cutmix:
        side = batch.images.shape[2]
        sizes = ((1 - own).sqrt() * side)[:, None].expand(-1, 2)
        inside = _inside(sizes, draws.uniform(0, 1, 2), side)
        images = torch.where(inside[:, None], partners, batch.images)
        own = 1 - inside.float().mean((1, 2))
    else:
        images = torch.lerp(partners, batch.images, own[:, None, None, None])
    images = images.contiguous(memory_format=torch.channels_last)
    return Batch(images=images, labels=batch.labels, others=others, own=own)
