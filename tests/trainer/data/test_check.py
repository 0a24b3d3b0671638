"""What `check_folder` finds in a folder of photos."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.errors import DataError
from trainer.data.check import check_folder, quantiles


def noise(path: Path, seed: int, size: tuple[int, int] = (30, 20)) -> None:
    """A picture like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in train/ and val/, eight different pictures."""
    for number, (split, name) in enumerate((split, name) for split in ("train", "val") for name in ("cat", "dog")):
        for index in range(3 if split == "train" else 1):
            noise(tmp_path / split / name / f"{index}.png", 10 * number + index)
    return tmp_path


def test_a_sound_folder_has_no_faults(photos: Path) -> None:
    """Counts by class and split, kinds and sizes; val alone is the test split."""
    found = check_folder(photos)
    assert found.images == {"cat": {"train": 3, "test": 1}, "dog": {"train": 3, "test": 1}}
    assert found.splits == ["train", "test"]
    assert found.kinds == {"PNG": 8}
    assert set(found.sizes) == {(30, 20)}
    assert (found.across_splits, found.across_classes, found.repeated, found.damaged) == ([], [], 0, {})
    assert found.refusal is None


def test_equal_files_are_found_wherever_they_are(photos: Path) -> None:
    """Across splits, across classes, and within one class: byte for byte, whatever the name."""
    cats, dogs = photos / "train" / "cat", photos / "train" / "dog"
    shutil.copy(cats / "0.png", photos / "val" / "cat" / "other.png")
    shutil.copy(cats / "1.png", dogs / "mine.png")
    shutil.copy(cats / "2.png", cats / "again.jpg")
    found = check_folder(photos)
    assert found.across_splits == [[cats / "0.png", photos / "val" / "cat" / "other.png"]]
    assert found.across_classes == [[cats / "1.png", dogs / "mine.png"]]
    assert found.repeated == 1


def test_damaged_files_are_counted_out(photos: Path) -> None:
    """They are named with the reason, and what is left may be too little."""
    (photos / "val" / "cat" / "0.png").write_bytes(b"")
    (photos / "train" / "cat" / "notes.txt").write_text("x", encoding="utf-8")
    heard: list[tuple[int, int]] = []
    found = check_folder(photos, lambda done, total: heard.append((done, total)))
    assert list(found.damaged) == [photos / "val" / "cat" / "0.png"]
    assert "empty" in found.damaged[photos / "val" / "cat" / "0.png"]
    assert found.images["cat"] == {"train": 3, "test": 0}
    assert found.left_out == ("1 .txt files",)
    assert "'cat'" in str(found.refusal)
    assert heard == [(number, 8) for number in range(1, 9)]


def test_what_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    """A folder that is none."""
    with pytest.raises(DataError, match="is not a folder"):
        check_folder(tmp_path / "nowhere")


def test_quantiles_are_of_the_ordered_numbers() -> None:
    """The least, the middle, the largest."""
    assert quantiles([3, 1, 2]) == (1, 2, 3)
    assert quantiles([5]) == (5, 5, 5)
