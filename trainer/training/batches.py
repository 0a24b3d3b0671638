"""Which images a step sees, and how they get to the network: a function of the seed and the step alone."""

import hashlib
import os
import signal
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from trainer.data.dataset import Dataset

# The purposes that random numbers are drawn for; each has its own stream.
ORDER, AUGMENTATION, DROPOUT, MEMBERS = 0, 1, 2, 3


def generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    """The random numbers for one epoch or step: they depend on nothing that came before, so there is none to keep."""
    return np.random.default_rng([seed, purpose, number])


def images_hash(indices: np.ndarray) -> str:
    """16 hexadecimal digits that tell which images of a data set these are, in this order."""
    return hashlib.sha256(indices.astype(np.int64).tobytes()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The part of one process in a training by several, which have joined a group of `torch.distributed`."""

    rank: int
    size: int

    def of(self, batch: np.ndarray) -> np.ndarray:
        """Its part of what belongs to a batch."""
        return batch[self.rank :: self.size]


ALONE = Shard(rank=0, size=1)


@dataclass(slots=True, kw_only=True)
class Order:
    """The images of each step: epoch after epoch, each shuffled anew, in batches that can be shared out evenly.

    `weights` (one per index) draw the images of an epoch with replacement instead, the likelier the heavier.
    """

    indices: np.ndarray
    batch_size: int
    seed: int
    shard: Shard = ALONE
    weights: np.ndarray | None = None
    _epochs: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Images in a batch: no more than there are."""
        size = min(self.batch_size, len(self.indices))
        return max(self.shard.size, size - size % self.shard.size)

    @property
    def epoch_steps(self) -> float:
        """Steps in an epoch."""
        return len(self.indices) / self.size

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Two arrays, int64 of `size`: the images of a step, and the epochs that they belong to."""
        places = np.arange(step * self.size, (step + 1) * self.size)
        epochs, positions = np.divmod(places, len(self.indices))
        chosen = [self._epoch(int(epoch))[positions[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(chosen), epochs

    def _epoch(self, epoch: int) -> np.ndarray:
        if epoch not in self._epochs:
            rng = generator(self.seed, ORDER, epoch)
            if self.weights is None:
                drawn = rng.permutation(self.indices)
            else:
                drawn = rng.choice(self.indices, len(self.indices), p=self.weights / self.weights.sum())
            self._epochs = {known: order for known, order in self._epochs.items() if known == epoch - 1}
            self._epochs[epoch] = drawn
        return self._epochs[epoch]


class Images:
    """Batches of a data set as normalised NCHW float tensors, in the memory layout that convolutions prefer."""

    def __init__(self, dataset: Dataset, device: torch.device | str = "cpu") -> None:
        self._images, self._labels, self._device = dataset.images(), dataset.labels(), device
        self._mean = (torch.tensor(dataset.preprocess.mean)[:, None, None] * 255).to(device)
        self._scale = (1 / (torch.tensor(dataset.preprocess.std)[:, None, None] * 255)).to(device)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """N x C x R x R float32 and N int64."""
        return self.normalised(torch.from_numpy(self._images[indices]), torch.from_numpy(self._labels[indices]))

    def normalised(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """From uint8 N x C x R x R and int64 N as they are stored."""
        values = pixels.to(self._device, non_blocking=True).float()
        normal = ((values - self._mean) * self._scale).contiguous(memory_format=torch.channels_last)
        return normal, labels.to(self._device, non_blocking=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What is read for a step: uint8 N x C x R x R and int64 N of this process, and the order's images and epochs."""

    pixels: Tensor
    labels: Tensor
    indices: np.ndarray
    epochs: np.ndarray


class _Reader(torch.utils.data.Dataset[Read]):
    """Reads the images of a step; in another process it opens the data set anew."""

    def __init__(self, dataset: Dataset, order: Order) -> None:
        self._dataset, self._order = dataset, order
        self._arrays: tuple[np.ndarray, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_arrays": None}  # a memory map would travel as all that it maps

    def __getitem__(self, step: int) -> Read:
        if self._arrays is None:
            self._arrays = self._dataset.images(), self._dataset.labels()
        images, labels = self._arrays
        chosen, epochs = self._order.batch(step)
        own = self._order.shard.of(chosen)
        return Read(
            pixels=torch.from_numpy(images[own]),
            labels=torch.from_numpy(labels[own]),
            indices=chosen,
            epochs=epochs,
        )


def read_steps(
    dataset: Dataset, order: Order, first: int, last: int, *, device: str, readers: int
) -> Generator[Read, None, None]:
    """The images of the steps from `first` up to before `last`, by so many processes that read ahead (0: by none)."""
    reader = _Reader(dataset, order)
    if readers == 0:
        yield from map(reader.__getitem__, range(first, last))
        return
    loader = torch.utils.data.DataLoader(
        reader,
        batch_size=None,
        sampler=range(first, last),
        num_workers=readers,
        prefetch_factor=4,
        worker_init_fn=_ignore_interrupts,
        multiprocessing_context="spawn",  # this process may have threads
        pin_memory=device == "cuda",
        generator=torch.Generator(),  # else it draws from the one that trainings leave alone
    )
    yield from loader


def _ignore_interrupts(_number: int) -> None:
    """Ctrl-C reaches all processes; what it means is for the one that trains to say."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def readers_for(dataset: Dataset) -> int:
    """How many processes read ahead: none where all images fit into half of the memory, from which they come faster."""
    return 0 if dataset.images().nbytes <= _memory_bytes() / 2 else 2


def _memory_bytes() -> float:
    """What this machine, or the container, has."""
    whole = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        return min(whole, float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or "max"
        return whole
