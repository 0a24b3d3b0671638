"""How fast networks are trained here, by as many processes at once as will train them."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from search.evaluation.processes import start_context
from space.arch import Architecture
from trainer.training.networks import DeviceKind
from trainer.training.recipe import Recipe

_SAMPLE_BATCHES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A training of which some batches are timed."""

    architecture: Architecture
    data_folder: Path
    reward_fraction: float
    split_seed: int
    recipe: Recipe
    device: DeviceKind


def images_per_second(sample: Sample, processes: int) -> float:
    """What one of so many processes trains while the others do the same, the mean of them."""
    with ProcessPoolExecutor(processes, mp_context=start_context(trains=True)) as pool:
        return sum(pool.map(_timed, [sample] * processes)) / processes


def _timed(sample: Sample) -> float:
    import torch

    from trainer.data.dataset import Dataset
    from trainer.data.splits import split
    from trainer.training.train import train

    torch.set_num_threads(1)
    dataset = Dataset.open(sample.data_folder)
    images = split(dataset, reward_fraction=sample.reward_fraction, seed=sample.split_seed).train
    # Without weights; statistics that stay cost no more.
    recipe = replace(sample.recipe, images=sample.recipe.batch_size * _SAMPLE_BATCHES, frozen_statistics=False)
    # The first call pays for the kernels' set-up; a run pays for that once.
    for attempt in (replace(recipe, images=1), recipe):
        trained = train(sample.architecture, dataset, images, attempt, seed=0, device=sample.device)
    return trained.images_seen / trained.seconds
