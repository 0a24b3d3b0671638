"""The stripes, once for all tests of trainings."""

import pytest

from tests.trainer.training.stripes import prepared_stripes
from trainer.data.dataset import Dataset
from trainer.data.splits import Splits, split


@pytest.fixture(scope="module", autouse=True)
def always_one_thread(one_thread: None) -> None:
    """In every file here."""


@pytest.fixture(scope="package")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three hundred prepared pictures of three classes."""
    return prepared_stripes(tmp_path_factory.mktemp("stripes"), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="package")
def splits(stripes: Dataset) -> Splits:
    """The three splits of it."""
    return split(stripes)
