"""What tests of stages share."""

from pathlib import Path

import pytest

from tests.search.inline import InlineExecutor, use_inline
from tests.tiny import dark_and_bright


@pytest.fixture
def executors(monkeypatch: pytest.MonkeyPatch) -> list[InlineExecutor]:
    """Those of the searches of a test."""
    return use_inline(monkeypatch)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of small pictures."""
    return dark_and_bright(tmp_path_factory.mktemp("photos"), each=60, pixels=16)
