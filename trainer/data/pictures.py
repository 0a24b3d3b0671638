"""Picture files as people have them: the kind of each by its content, whatever its name, and its pixels, upright.

Everything here comes from outside: only the formats of an allow-list are decoded, sizes are capped, and of the
metadata nothing is read but the orientation.
"""

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from space.errors import DataError
from trainer.data.near import OUTLINE
from trainer.data.preprocess import MAX_PICTURE_PIXELS, Preprocess, fit

MAX_PICTURE_BYTES = 512 * 2**20
"""Of a file; a picture of the largest accepted size has half of that, uncompressed."""

NAMES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
"""The formats that are read, as Pillow calls them, and the suffixes that they come with."""

# Photos of cameras in a container that begins like TIFF, of which Pillow would read the thumbnail.
_RAW = frozenset((".arw", ".cr2", ".dng", ".erf", ".kdc", ".nef", ".nrw", ".orf", ".pef", ".raw", ".rw2", ".srw"))
_STARTS = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("TIFF", b"II*\0"),
    ("TIFF", b"MM\0*"),
    ("TIFF", b"II+\0"),
    ("TIFF", b"MM\0+"),
)
_AVIF, _HEIF = (
    {b"avif", b"avis"},
    {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"},
)
_BMP_HEADERS = {length.to_bytes(4, "little") for length in (12, 16, 40, 52, 56, 64, 108, 124)}
_HEAD = 64

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The chunks of a PNG file that make its pixels, and the one that turns them. What it says beside them (texts, colour
# profiles, times) is passed over, however long or damaged it is.
_PNG_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"))

# What Pillow finds odd about a file's metadata is none of a user's concern.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def kind_of(head: bytes) -> str | None:
    """The format of a picture by the first 64 bytes of its file, a key of `NAMES`; None is something else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        length = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[start : start + 4] for start in (8, *range(16, length, 4))}
        return "AVIF" if brands & _AVIF else "HEIF" if brands & _HEIF else None
    # Two letters are too few to know it by: four bytes that must be zero, and the length of a header that there is.
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:
        return "BMP"
    return next((kind for kind, start in _STARTS if head.startswith(start)), None)


def picture_or_kind(path: Path) -> tuple[bool, str]:
    """Whether a file is to be read as a picture, and what it is otherwise, in words.

    One that has a picture's name but not its content counts as a picture, which is damaged: only files with other names
    are looked into, since there may be a million.

    Raises:
        DataError: it cannot be read.
    """
    if not path.is_file():
        return False, "entries that are no files"
    suffix = path.suffix.lower()
    if suffix in _RAW:
        return False, f"raw photos of cameras ({suffix})"
    kind = next((name for name, suffixes in NAMES.items() if suffix in suffixes), None)
    if kind is None:
        try:
            with path.open("rb") as file:
                kind = kind_of(file.read(_HEAD))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if kind is None:
        return False, f"{suffix} files" if suffix else "files without a suffix that are no pictures"
    return can_read(kind), _missing(kind)


@cache
def can_read(kind: str) -> bool:
    """Whether pictures of a format can be decoded here."""
    if kind == "AVIF":
        return bool(features.check("avif"))
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
    return True


def _missing(kind: str) -> str:
    remedy = "install pillow-heif to use them" if kind == "HEIF" else "install a Pillow that reads them"
    return f"{kind} pictures ({remedy})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a picture file is: its format, its size in px as it is stored, and the SHA-256 of its bytes.

    `outline` is what is left of it at a few pixels, upright and in grey: uint8 8 x 9 (`trainer.data.near`).
    """

    kind: str
    width: int
    height: int
    digest: bytes
    outline: np.ndarray


def inspect_picture(path: Path) -> Picture:
    """What a file is, once its pixels have been decoded.

    Raises:
        DataError: as in `load_picture`.
    """
    with _opened(path) as (kind, image, content):
        outline = _upright(image).convert("L").resize(OUTLINE, Image.Resampling.BOX)
        return Picture(
            kind=kind,
            width=image.width,
            height=image.height,
            digest=sha256(content).digest(),
            outline=np.asarray(outline),
        )


def small_picture(path: Path, side: int) -> Image.Image:
    """A picture for people to see, upright, in RGB, as large as fits into a square.

    Raises:
        DataError: as in `load_picture`.
    """
    with _opened(path) as (_, image, _):
        seen = _upright(image).convert("RGB")
        seen.thumbnail((side, side))
        return seen


def load_picture(path: Path, preprocess: Preprocess) -> np.ndarray:
    """One picture file as uint8 C×R×R, upright by its EXIF orientation, fitted as `preprocess` says.

    Of files with several pictures it is the first one.

    Raises:
        DataError: the file is no readable picture, is too large, or has more than 8 bits per channel.
    """
    with _opened(path) as (_, image, _):
        return fit(_upright(image).convert(preprocess.channels), preprocess)


def _upright(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    # The colours below the transparency; palettes cannot go directly.
    return upright.convert("RGBA") if upright.has_transparency_data else upright


@contextmanager
def _opened(path: Path) -> Iterator[tuple[str, Image.Image, bytes]]:
    """The format of a picture, its decoded pixels, and the file's bytes; whatever goes wrong names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            kind, content = _read(path)
            with _decoded(kind, content) as image:
                yield kind, image, content
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} is too large ({error}); make it at most {MAX_PICTURE_PIXELS:,} pixels") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # Pillow's decoders raise many kinds on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path} cannot be read as a picture ({reason}); replace or remove it") from error


def _read(path: Path) -> tuple[str, bytes]:
    """The format of a file that can be decoded here, and its bytes."""
    if path.is_dir():
        raise DataError("this is a folder; give its pictures")
    if path.exists() and not path.is_file():
        raise DataError("this is no regular file; remove it")
    with path.open("rb") as file:
        content = file.read(MAX_PICTURE_BYTES + 1)
    if len(content) > MAX_PICTURE_BYTES:
        raise DataError(f"the file is larger than {MAX_PICTURE_BYTES >> 20} MiB; save it smaller")
    kind = kind_of(content[:_HEAD])
    if kind is None:
        raise ValueError("its content is that of no picture" if content else "the file is empty")
    if not can_read(kind):
        raise DataError(f"this is one of the {_missing(kind)}")
    return kind, content


def _decoded(kind: str, content: bytes) -> Image.Image:
    pixels = b"".join(_pixel_chunks(content)) if kind == "PNG" else content
    try:
        image = Image.open(io.BytesIO(pixels), formats=(kind,))
    except UnidentifiedImageError:
        raise ValueError(f"it begins like {kind}, but is damaged") from None
    if image.width * image.height > MAX_PICTURE_PIXELS:
        raise Image.DecompressionBombError(f"{image.width}×{image.height} px")
    if image.mode.startswith(("I", "F")):
        raise DataError(f"more than 8 bits per channel ({image.mode}); save it with 8")
    image.load()
    return image


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8 (EXIF 3.0, tag 0x0112); 1 is upright, as is what cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - whatever Pillow makes of damaged metadata, there are pixels
        return 1
    return value if isinstance(value, int) else 1


def _pixel_chunks(content: bytes) -> Iterator[bytes]:
    """A PNG file (PNG 1.2, 3.2) without what is not needed for its pixels."""
    start = 8
    yield content[:start]
    while start + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        chunk = content[start : start + 12 + length]
        if kind == b"eXIf":
            if zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big"):
                yield chunk
        elif kind in _PNG_CHUNKS or kind[:1].isupper():  # whoever does not know a critical chunk has to give up
            yield chunk
        start += 12 + length
