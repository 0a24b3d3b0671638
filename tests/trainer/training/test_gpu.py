"""Trainings on a GPU, where there is one; everywhere else this file says loudly that nothing of it was run."""

from dataclasses import replace

import pytest
import torch

from tests.trainer.training.stripes import ARCH
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits
from trainer.training.judging import judge
from trainer.training.networks import DeviceKind, load_model
from trainer.training.recipe import load_recipe
from trainer.training.train import train

HERE: dict[DeviceKind, bool] = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}


@pytest.mark.parametrize("device", HERE)
@pytest.mark.parametrize("name", ["proxy", "final", "sgd-cosine"])
def test_a_gpu_trains_as_well(device: DeviceKind, name: str, stripes: Dataset, splits: Splits) -> None:
    """Stripes are told apart after the same training there, which goes on from its state, and weights come back."""
    if not HERE[device]:
        pytest.skip(f"NO GPU: training on {device} was not run")
    recipe = replace(load_recipe(name), images=960, batch_size=32)
    trained = train(ARCH, stripes, splits.train, recipe, seed=0, device=device)
    assert {tensor.device.type for tensor in trained.weights.values()} == {"cpu"}
    assert judge(load_model(ARCH, trained.weights).to(device), stripes, splits.test).top1 > 0.85
    assert trained.state is not None
    again = train(ARCH, stripes, splits.train, recipe, seed=0, device=device, state=trained.state)
    assert all(torch.equal(tensor, again.weights[key]) for key, tensor in trained.weights.items())
