"""The preprocessing recipe and the reading of single pictures, fit and unfit."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from space.errors import DataError
from trainer.preprocess import Preprocess, load_picture

PLAIN = Preprocess(resolution=16, resize=16, crop=16, pad=0, channels="RGB", mean=(0.0,) * 3, std=(1.0,) * 3)
FASHION = Preprocess(resolution=32, resize=28, crop=28, pad=2, channels="L", mean=(0.286,), std=(0.353,))


def test_photos_are_turned_upright_and_cropped_in_the_middle(tmp_path: Path) -> None:
    """EXIF orientation 6 turns a picture clockwise; the crop takes the middle of the longer side."""
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, 8:24, 0] = 200
    pixels[8:, 8:24, 1] = 100
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    loaded = load_picture(tmp_path / "photo.png", PLAIN)
    assert (loaded[0] == 200).all()
    np.testing.assert_array_equal(loaded[1] == 100, np.tile(np.arange(16) < 8, (16, 1)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_common_mode_loads(mode: str, tmp_path: Path) -> None:
    """Grey, palette, transparent and CMYK pictures become C×R×R in the channels asked for."""
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.new("RGB", (40, 30), (255, 255, 255)).convert("RGB" if mode == "LA" else mode).convert(mode).save(path)
    assert (load_picture(path, PLAIN) == 255).all()
    assert load_picture(path, FASHION).shape == (1, 32, 32)


def test_transparent_palettes_load(tmp_path: Path) -> None:
    """A GIF and a palette PNG with transparent entries load without a warning."""
    picture = Image.new("P", (20, 20), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    picture.save(tmp_path / "a.gif", transparency=0)
    for name in ("a.png", "a.gif"):
        assert (load_picture(tmp_path / name, PLAIN)[0] == 255).all()


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IDAT"


@pytest.mark.parametrize("size", [(100_000, 100_000), (10_000, 10_000)])
def test_pictures_of_a_huge_announced_size_are_refused(size: tuple[int, int], tmp_path: Path) -> None:
    """A decompression bomb is refused by its header, above Pillow's warning limit and above its error limit."""
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(DataError, match=r"bomb\.png is too large"):
        load_picture(tmp_path / "bomb.png", PLAIN)


def test_other_unfit_pictures_are_named(tmp_path: Path) -> None:
    """Cut files, 16-bit pictures, needle-thin ones and other formats under a picture's name are refused."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:1000])
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    Image.new("L", (1_000_000, 1)).save(tmp_path / "thin.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png", "TIFF")
    messages = {"cut.jpg": "cannot be read", "deep.png": "8 bits", "thin.png": "too narrow", "other.png": "cannot be"}
    for name, message in messages.items():
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            load_picture(tmp_path / name, PLAIN)


def test_preprocess_survives_json() -> None:
    """The exported recipe reads back equal; a broken one is refused."""
    assert Preprocess.from_json(FASHION.to_json()) == FASHION
    for text in ("{", "[]", "{}", FASHION.to_json().replace("28", "29"), FASHION.to_json().replace("0.353", "0")):
        with pytest.raises(DataError):
            Preprocess.from_json(text)
    with pytest.raises(DataError, match="must be L or RGB"):
        Preprocess.from_json(FASHION.to_json().replace('"L"', '"CMYK"'))
    with pytest.raises(DataError, match="one value per channel"):
        replace(FASHION, channels="RGB")
