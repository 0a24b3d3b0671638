"""The stripes, once for all tests of trainings."""

from collections.abc import Iterator

import pytest
import torch

from tests.trainer.training.stripes import prepared_stripes
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits, split


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small train fastest on one thread, and threads waiting for each other stall on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three hundred prepared pictures of three classes."""
    return prepared_stripes(tmp_path_factory.mktemp("stripes"), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="package")
def splits(stripes: Dataset) -> Splits:
    """The three splits of it."""
    return split(stripes)
