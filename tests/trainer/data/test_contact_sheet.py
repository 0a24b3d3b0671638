"""The contact sheet: a row for each class, with pictures of that class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.errors import DataError
from trainer.data.contact_sheet import EACH, MAX_CLASSES, SIDE, draw_contact_sheet

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def plain(folder: Path, colours: dict[str, tuple[int, int, int]], counts: dict[str, int]) -> dict[str, list[Path]]:
    """Pictures of one colour for each class."""
    found: dict[str, list[Path]] = {}
    for name, colour in colours.items():
        (folder / name).mkdir()
        found[name] = [folder / name / f"{number}.png" for number in range(counts[name])]
        for number, path in enumerate(found[name]):
            Image.new("RGB", (100, 50 + number), colour).save(path)
    return found


def pixels(path: Path) -> np.ndarray:
    """Of a page, int64 H x W x 3."""
    with Image.open(path) as page:
        return np.asarray(page).astype(np.int64)


def test_each_row_is_of_its_class(tmp_path: Path) -> None:
    """As many pictures as there are, at most ten, each in its row and nowhere else."""
    pictures = plain(tmp_path, COLOURS, {"blue": 30, "green": 2, "red": 10})
    assert draw_contact_sheet(pictures, tmp_path / "sheet.png") == 3
    page = pixels(tmp_path / "sheet.png")
    third = len(page) // 3
    for row, (name, colour) in enumerate(COLOURS.items()):
        is_it = (page == colour).all(2)
        inside = is_it[row * third : (row + 1) * third + 4].sum()
        assert inside == is_it.sum() > 0
        width = min(EACH, len(pictures[name])) * SIDE
        assert np.isclose(is_it.any(0).sum(), width, rtol=0.02)


def test_many_classes_show_the_rarest(tmp_path: Path) -> None:
    """Of 80 classes the 60 with the fewest pictures are shown."""
    names = {f"class-{number:02}": (number, number, number) for number in range(80)}
    counts = {name: 1 + (number >= 60) for number, name in enumerate(names)}
    assert draw_contact_sheet(plain(tmp_path, names, counts), tmp_path / "sheet.png") == MAX_CLASSES
    shown = {tuple(colour) for colour in pixels(tmp_path / "sheet.png").reshape(-1, 3).tolist()}
    assert {(number, number, number) for number in range(60)} <= shown


def test_a_sheet_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    """Another suffix, and a folder that is not there."""
    with pytest.raises(DataError, match=r"must end in \.png"):
        draw_contact_sheet({}, tmp_path / "sheet.jpg")
    with pytest.raises(DataError, match="cannot be written"):
        draw_contact_sheet({}, tmp_path / "nowhere" / "sheet.png")
