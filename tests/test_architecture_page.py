"""docs/architecture.md is about this code: every room and file is on it, none that is not there, none too full."""

import re
from collections import Counter
from pathlib import Path

import pytest

from space.packages import PACKAGES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
MOST_FILES = 14

FILES = [
    path.relative_to(ROOT)
    for package in (*PACKAGES, "mobilenas")
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
]


def test_no_room_is_too_full() -> None:
    """A room that is full is cut before the next feature goes in."""
    counts = Counter(path.parent for path in FILES)
    assert {str(room): count for room, count in counts.items() if count > MOST_FILES} == {}


@pytest.mark.parametrize("package", ["search", "service"])
def test_every_room_is_on_the_page(package: str) -> None:
    """Whoever looks for a room finds its line."""
    for path in (ROOT / package).iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`{path.name}/`" in PAGE, path
        elif path.suffix == ".py" and path.name != "__init__.py":
            assert f"`{path.name}`" in PAGE, path


def test_every_file_on_the_page_is_there() -> None:
    """A file that has moved must move on the page, too."""
    for named in re.findall(r"`([a-z_/]+\.py)`", PAGE):
        assert any(str(path).endswith(named) for path in FILES) or (ROOT / named).exists(), named
    for named in re.findall(r"`((?:search|service|space|latency|tests|tools)/[a-z_/.]+\.(?:py|yaml))`", PAGE):
        assert (ROOT / named).exists(), named
