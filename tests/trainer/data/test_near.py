"""Pictures that look alike: found whatever was done to them, and few others with them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from trainer.data.near import look_alike
from trainer.data.pictures import inspect_picture


def scene(seed: int) -> Image.Image:
    """A smooth picture with large shapes, as photos have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


def saved_again(image: Image.Image, folder: Path) -> list[Path]:
    """The same picture in other formats and sizes, brighter, and with less contrast."""
    versions = {
        "quality.jpg": image,
        "small.png": image.resize((107, 80)),
        "other.webp": image,
        "bright.png": ImageEnhance.Brightness(image).enhance(0.8),
        "pale.png": ImageEnhance.Contrast(image).enhance(0.6),
        "grey.png": image.convert("L"),
    }
    for name, version in versions.items():
        version.save(folder / name, quality=40)
    return [folder / name for name in versions]


def outlines(paths: list[Path]) -> np.ndarray:
    """What is compared."""
    return np.stack([inspect_picture(path).outline for path in paths])


def test_a_picture_saved_again_is_found(tmp_path: Path) -> None:
    """Recompressed, shrunk, darker, paler or grey it is one group with the first; 40 other scenes are in none."""
    scene(0).save(tmp_path / "first.png")
    paths = [tmp_path / "first.png", *saved_again(scene(0), tmp_path)]
    for seed in range(1, 41):
        scene(seed).save(tmp_path / f"scene-{seed}.png")
        paths.append(tmp_path / f"scene-{seed}.png")
    assert look_alike(outlines(paths)) == [list(range(7))]


def test_upright_is_compared(tmp_path: Path) -> None:
    """A picture that is stored lying, with an orientation that says so, looks like the one that stands."""
    image = scene(3)
    image.save(tmp_path / "standing.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # the top row is the picture's right side
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.jpg", exif=exif, quality=95)
    assert look_alike(outlines([tmp_path / "standing.jpg", tmp_path / "lying.jpg"])) == [[0, 1]]


def test_plain_pictures_are_alike_only_in_the_same_shade() -> None:
    """Grey ones of levels 20 apart are different pictures; of the same level they are one."""
    plain = np.stack([np.full((8, 9), level, dtype=np.uint8) for level in (40, 60, 80, 40)])
    assert look_alike(plain) == [[0, 3]]


@pytest.mark.parametrize("count", [100, 5000])
def test_groups_are_those_that_were_made(count: int) -> None:
    """Of so many random outlines every tenth has a slightly noisy copy, and these pairs are what is found."""
    rng = np.random.default_rng(count)
    first = rng.integers(0, 256, (count, 8, 9))
    copies = np.clip(first[::10] + rng.integers(-1, 2, (len(first[::10]), 8, 9)), 0, 255)
    found = look_alike(np.concatenate([first, copies]).astype(np.uint8))
    expected = [[10 * at, count + at] for at in range(len(copies))]
    assert set(map(tuple, found)) <= set(map(tuple, expected)), "nothing else is"
    assert len(found) > 0.97 * len(expected), "a bit may flip in one of 64 places, hardly in four"


def test_a_crowd_does_not_take_forever() -> None:
    """Of 6,000 plain pictures, which share a hash, each is compared with its neighbours, and equal ones meet."""
    levels = np.random.default_rng(0).permutation(np.repeat(np.arange(0, 240, 4), 100)).astype(np.uint8)
    found = look_alike(np.broadcast_to(levels[:, None, None], (6000, 8, 9)).copy())
    assert len(found) == 60
    assert all(len(group) == 100 for group in found)


def test_nothing_is_nothing() -> None:
    """No picture has no group, and neither has one."""
    assert look_alike(np.zeros((0, 8, 9), dtype=np.uint8)) == []
    assert look_alike(np.zeros((1, 8, 9), dtype=np.uint8)) == []
