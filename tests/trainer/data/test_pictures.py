"""The reading of single pictures, fit and unfit."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from space.errors import DataError
from tests.trainer.data.photos import ODD, ORIENTED, PLAIN, exif, is_one_line, jpeg, read_or_told
from trainer.data import pictures
from trainer.data.pictures import can_read, kind_of, load_picture, picture_or_kind
from trainer.data.preprocess import Preprocess

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
    (tmp_path / "other.png").write_bytes(b"8BPS\0\1")
    messages = {"cut.jpg": "cannot be read", "deep.png": "8 bits", "thin.png": "too narrow", "other.png": "cannot be"}
    for name, message in messages.items():
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            load_picture(tmp_path / name, PLAIN)


def turned() -> np.ndarray:
    """A picture of 16×16 px that has no symmetry, 16×16×3."""
    return np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)


@pytest.mark.parametrize("app1", ODD.values(), ids=ODD.keys())
def test_orientation_is_obeyed_whatever_the_other_tags_are(app1: bytes, tmp_path: Path) -> None:
    """A picture is turned as EXIF's tag 0x0112 says, pixel for pixel, and nothing else of it is looked at."""
    (tmp_path / "plain.jpg").write_bytes(jpeg(turned()))
    (tmp_path / "odd.jpg").write_bytes(jpeg(turned(), app1))
    upright = np.rot90(load_picture(tmp_path / "plain.jpg", PLAIN), -1, axes=(1, 2))
    np.testing.assert_array_equal(load_picture(tmp_path / "odd.jpg", PLAIN), upright)


@pytest.mark.parametrize("value", range(10))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_orientation_is_that_of_pillow(suffix: str, value: int, tmp_path: Path) -> None:
    """The eight orientations as Pillow turns them, in each format that has any; what is none of them is upright."""
    block = Image.Exif()
    block[0x0112] = value
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(turned()).save(path, exif=block, lossless=True)  # which only WebP knows
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(load_picture(path, PLAIN), expected)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(app1=st.binary(max_size=200).map(lambda tail: b"Exif\0\0II*\0\x08\0\0\0" + tail) | st.binary(max_size=100))
def test_no_metadata_make_a_sound_picture_unreadable(
    app1: bytes, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in the metadata of a JPEG, there are pixels, perhaps turned, and no warning on the screen."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "picture.jpg").write_bytes(jpeg(turned(), app1))
    (folder / "plain.jpg").write_bytes(jpeg(turned()))
    loaded, plain = (load_picture(folder / name, PLAIN) for name in ("picture.jpg", "plain.jpg"))
    turns = [np.rot90(plain, times, axes=(1, 2)) for times in range(4)]
    assert any((loaded == each).all() or (loaded == each[:, :, ::-1]).all() for each in turns)
    assert capfd.readouterr() == ("", "")


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    """A chunk of a PNG file."""
    return (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) if crc is None else crc)
    )


LONG = zlib.compress(b"a" * (2 << 20))
BESIDE = {
    "text": chunk(b"zTXt", b"parameters\0\0" + LONG),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
    "profile": chunk(b"iCCP", b"ICC Profile\0\0" + LONG),
    "damaged text": chunk(b"tEXt", b"Comment\0hello", 0),
    "damaged orientation": chunk(b"eXIf", exif(ORIENTED)[6:], 0),
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE.keys())
def test_pixels_of_a_png_are_read_whatever_stands_beside_them(beside: bytes, tmp_path: Path) -> None:
    """Texts and profiles of any length, and damaged ones."""
    (tmp_path / "picture.png").write_bytes(png(turned(), beside))
    np.testing.assert_array_equal(load_picture(tmp_path / "picture.png", PLAIN), turned().transpose(2, 0, 1))


def png(pixels: np.ndarray, beside: bytes = b"") -> bytes:
    """A PNG file, with further chunks behind its header."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    content = file.getvalue()
    return content[:33] + beside + content[33:]


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_damaged_picture_is_read_or_named_in_one_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files of every format with some bytes changed or cut off: pixels, or one line that names the file."""
    folder = tmp_path_factory.mktemp("damaged")
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF"]))
    file = io.BytesIO()
    Image.fromarray(turned()).save(file, kind)
    content = bytearray(file.getvalue())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=8)
    ):
        content[place] = value
    path = folder / "picture.x"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    found = read_or_told(path)
    if isinstance(found, str):
        assert str(path) in found
        assert is_one_line(found)
    else:
        assert found.shape == (3, 16, 16)


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 60) | st.sampled_from([999, 20_000]),
    height=st.integers(1, 60) | st.sampled_from([999, 20_000]),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]),
    kind=st.sampled_from(["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "AVIF"]),
)
def test_every_mode_and_size_is_read_or_named(
    width: int, height: int, mode: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """From 1×1 px to needles of 20,000 px and to 400 million pixels."""
    path = tmp_path_factory.mktemp("modes") / "picture"
    if width * height > 10**7:
        path.write_bytes(png_header(width, height))
    else:
        try:
            Image.new(mode, (width, height)).save(path, kind)
        except (OSError, KeyError, ValueError, RuntimeError):  # this format has no such pictures
            return
    found = read_or_told(path)
    assert is_one_line(found) if isinstance(found, str) else found.shape == (3, 16, 16)


def test_pictures_of_newer_formats_are_read(tmp_path: Path) -> None:
    """AVIF where Pillow has it, HEIF where pillow-heif is installed, in any name."""
    heif = pytest.importorskip("pillow_heif", reason="HEIF NOT TESTED: pillow-heif is not installed")
    picture = Image.new("RGB", (64, 64), (200, 40, 90))
    heif.from_pillow(picture).save(tmp_path / "photo.jpg", quality=-1)
    assert kind_of((tmp_path / "photo.jpg").read_bytes()[:64]) == "HEIF"
    assert abs(load_picture(tmp_path / "photo.jpg", PLAIN).astype(int)[:, 8, 8] - (200, 40, 90)).max() < 6
    if can_read("AVIF"):
        picture.save(tmp_path / "a.jpg", "AVIF")
        assert abs(load_picture(tmp_path / "a.jpg", PLAIN).astype(int)[:, 8, 8] - (200, 40, 90)).max() < 6


def test_without_pillow_heif_its_pictures_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted with what to do, and one that is asked for is refused with that."""
    monkeypatch.setattr(pictures, "can_read", lambda kind: kind != "HEIF")
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    assert picture_or_kind(tmp_path / "a.HEIC") == (False, "HEIF pictures (install pillow-heif to use them)")
    with pytest.raises(DataError, match="install pillow-heif"):
        load_picture(tmp_path / "a.HEIC", PLAIN)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0", b"\xd7\xcd\xc6\x9a", b"8BPS", b"%PDF", b"\0" * 64, b""]
)
def test_nothing_outside_the_allow_list_is_opened(content: bytes, tmp_path: Path) -> None:
    """EPS, WMF, PSD and PDF are never given to a decoder, whatever they are called."""
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.jpg cannot be read as a picture"):
        load_picture(tmp_path / "a.jpg", PLAIN)


def test_a_text_that_begins_with_bm_is_no_picture(tmp_path: Path) -> None:
    """Two letters do not make a BMP; one without a suffix is known by its header."""
    (tmp_path / "notes.txt").write_text("BMW list: one, two, three", encoding="utf-8")
    assert picture_or_kind(tmp_path / "notes.txt") == (False, ".txt files")
    for mode in ("1", "L", "RGB"):
        Image.new(mode, (20, 20)).save(tmp_path / mode, "BMP")
        assert picture_or_kind(tmp_path / mode)[0]
