"""Training and evaluating one network: the proxy task of a search, NetAdapt's short fine-tuning, the final training."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from space.arch import Architecture
from space.errors import DataError, RunError
from space.networks.modules import build_model, fused
from trainer.data.dataset import Dataset
from trainer.data.prepare import Progress

Weights = Mapping[str, Tensor]

DeviceKind = Literal["cpu", "cuda"]
"""Where torch computes; `cuda` is the first GPU that the process sees."""

EVALUATION_BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train: SGD with Nesterov momentum, linear warm-up, cosine decay to zero, label smoothing.

    `images` counts images seen, repeats included. `shift` is the largest random translation as a share of the
    resolution, `flip` mirrors half of the images. No weight decay on BatchNorm and biases.
    """

    images: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.1
    label_smoothing: float = 0.05
    shift: float = 1 / 16
    flip: bool = True

    @property
    def steps(self) -> int:
        """Optimiser steps; at least one."""
        return max(1, round(self.images / self.batch_size))

    def rate(self, step: int) -> float:
        """The learning rate of one step."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained network's weights (a state dict on the CPU) and what it took."""

    weights: dict[str, Tensor]
    images_seen: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Looks at a network in mid-training, after equal parts of its steps, and leaves it as it is.

    `look` is called with the network and the share of the training that is done.
    """

    times: int
    look: Callable[[nn.Module, float], None]

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to look after so many steps; never at the end."""
        parts = self.times + 1
        return step < steps and step * parts // steps > (step - 1) * parts // steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The part of one process in a training by several, which have joined a group of `torch.distributed`."""

    rank: int
    size: int

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Its part of what belongs to a batch."""
        return batch[self.rank :: self.size]


ALONE = Shard(rank=0, size=1)


class Images:
    """Batches of a data set as normalised NCHW float tensors, in the memory layout that convolutions prefer."""

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self._images, self._labels, self._device = dataset.images(), dataset.labels(), device
        self._mean = (torch.tensor(dataset.preprocess.mean)[:, None, None] * 255).to(device)
        self._scale = (1 / (torch.tensor(dataset.preprocess.std)[:, None, None] * 255)).to(device)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """N x C x R x R float32 and N int64."""
        pixels = torch.from_numpy(self._images[indices]).to(self._device).float()
        normal = ((pixels - self._mean) * self._scale).contiguous(memory_format=torch.channels_last)
        return normal, torch.from_numpy(self._labels[indices]).to(self._device)


def _order(indices: np.ndarray, recipe: Recipe, rng: np.random.Generator, shard: Shard = ALONE) -> Iterator[np.ndarray]:
    """Batches of indices, epoch after epoch, each epoch shuffled; they can be shared out evenly."""
    size = min(recipe.batch_size, len(indices))
    size = max(shard.size, size - size % shard.size)
    pool = np.empty(0, dtype=indices.dtype)
    for _ in range(recipe.steps):
        while len(pool) < size:
            pool = np.concatenate((pool, rng.permutation(indices)))
        yield pool[:size]
        pool = pool[size:]


def augment(images: Tensor, recipe: Recipe, rng: np.random.Generator, shard: Shard = ALONE) -> Tensor:
    """Mirror half of the images, and move each by up to `shift`; what comes into view repeats the border.

    Of a batch that several processes share, each draws for all of it, so that their generators stay in step.
    """
    side, device = images.shape[2], images.device
    count = len(images) * shard.size
    if recipe.flip:
        mirrored = torch.from_numpy(shard.of(rng.random(count) < 0.5)).to(device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    reach = round(recipe.shift * side)
    if reach:
        padded = functional.pad(images, (reach,) * 4, mode="replicate")
        down, right = (shard.of(rng.integers(0, 2 * reach + 1, count)) for _ in range(2))
        rows = (torch.from_numpy(down)[:, None] + torch.arange(side)).to(device)
        columns = (torch.from_numpy(right)[:, None] + torch.arange(side)).to(device)
        batch = torch.arange(len(images), device=device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images


def _set_averaging(model: nn.Module, step: int, steps: int) -> None:
    """Let BatchNorm's running statistics average over the last ten steps, or the last quarter of a shorter training.

    Torch's fixed momentum of 0.1 means ten steps too, but starts from 0 and 1: after a training of ten steps a third
    of the statistics would still be those made-up values, and the network would be judged by them.
    """
    window = min(step + 1, max(2, min(10, steps // 4)))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1 / window


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True)


def require_device(device: DeviceKind) -> None:
    """See that torch can compute there.

    Raises:
        RunError: it cannot.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError(
            f"torch {torch.__version__} sees no GPU here; install a CUDA build and its driver, or set ray.gpus to 0"
        )


def _channels_last(model: nn.Module) -> nn.Module:
    """Channels last: convolutions train about 1.5 times as fast on a CPU."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def new_model(arch: Architecture, seed: int) -> nn.Sequential:
    """A freshly initialised network; the same seed gives the same weights, whatever else drew random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(arch)


def load_model(arch: Architecture, weights: Weights) -> nn.Sequential:
    """A network with given weights.

    Raises:
        DataError: the weights belong to another architecture.
    """
    model = build_model(arch)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise DataError(f"the weights do not fit architecture {arch.arch_id}: {str(error).splitlines()[-1]}") from error
    return model


def train(
    arch: Architecture,
    dataset: Dataset,
    indices: np.ndarray,
    recipe: Recipe,
    *,
    seed: int,
    weights: Weights | None = None,
    progress: Progress | None = None,
    check: Check | None = None,
    device: DeviceKind = "cpu",
    shard: Shard = ALONE,
) -> Trained:
    """Train on the images at `indices`, from given weights or from scratch.

    On a CPU the result is a function of the arguments (and of torch's thread count, through the order of sums). Of a
    `shard` each process computes the gradient of its part of every batch, and BatchNorm's statistics are of the first
    one's parts.

    Raises:
        DataError: the loss became infinite or not a number.
        RunError: there is no such device.
    """
    started = time.monotonic()
    require_device(device)
    network: nn.Module = new_model(arch, seed) if weights is None else load_model(arch, weights)
    network = _channels_last(network).to(device).train()
    model = network if shard.size == 1 else DistributedDataParallel(network)
    images = Images(dataset, device)
    optimizer = _optimizer(network, recipe)
    rng = np.random.default_rng(seed)
    seen = 0
    for step, chosen in enumerate(_order(indices, recipe, rng, shard)):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step)
        _set_averaging(network, step, recipe.steps)
        inputs, labels = images.batch(shard.of(chosen))
        logits = model(augment(inputs, recipe, rng, shard).contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        if not torch.isfinite(loss):
            raise DataError(f"training diverged at step {step} (loss {loss.item()}); lower the learning rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen += len(chosen)
        if progress:
            progress(seen, recipe.steps * len(chosen))
        if check and check.is_due(step + 1, recipe.steps):
            check.look(network, (step + 1) / recipe.steps)
    with torch.inference_mode():
        if not bool(torch.isfinite(network.eval()(inputs)).all()):
            raise DataError("training diverged at its last step; lower the learning rate")
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    return Trained(weights=state, images_seen=seen, seconds=time.monotonic() - started)


@torch.inference_mode()
def predict(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> np.ndarray:
    """The predicted class of every image at `indices`, with BatchNorm's running statistics, where the network is."""
    model = _channels_last(fused(model))
    images = Images(dataset, next(model.parameters()).device)
    parts = [
        model(images.batch(indices[start : start + EVALUATION_BATCH])[0]).argmax(1).cpu().numpy()
        for start in range(0, len(indices), EVALUATION_BATCH)
    ]
    return np.concatenate(parts)


def top1(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> float:
    """The share of images classified right."""
    return float((predict(model, dataset, indices) == dataset.labels()[indices]).mean())
