"""The pictures that tests of single trainings share."""

import pytest

from tests.tiny import dark_and_bright
from trainer.data.dataset import Dataset
from trainer.data.prepare import prepare


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two classes of 60 small pictures, dark and bright."""
    folder = dark_and_bright(tmp_path_factory.mktemp("pictures"), each=60, pixels=16)
    return prepare(f"imagefolder:{folder}", resolution=16, data_dir=None, cache=tmp_path_factory.mktemp("cache"))
