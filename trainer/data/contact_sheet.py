"""Contact sheets: some pictures of each class, or those that a network is wrong about, on one page for a person."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from space.errors import DataError
from trainer.data.pictures import small_picture

SIDE, EACH, MAX_CLASSES = 72, 10, 60
_LABEL, _GAP, _IN_ROW = 18, 4, 5


def check_sheet_name(path: Path) -> None:
    """See that a sheet can have this name.

    Raises:
        DataError: it does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise DataError(f"contact sheet {path} must end in .png")


def draw_contact_sheet(pictures: Mapping[str, Sequence[Path]], path: Path, *, seed: int = 0) -> int:
    """Write a PNG with up to ten pictures of each class, drawn at random, a row each; returns how many rows.

    Of more than sixty classes it shows those with the fewest pictures, which need looking at most.

    Raises:
        DataError: it cannot be written, or its name does not end in .png.
    """
    check_sheet_name(path)
    rarest = sorted(pictures, key=lambda name: (len(pictures[name]), name))[:MAX_CLASSES]
    rows = [name for name in pictures if name in set(rarest)]
    rng = np.random.default_rng(seed)
    page = Image.new("RGB", (EACH * (SIDE + _GAP) + _GAP, len(rows) * (SIDE + _LABEL + _GAP) + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for row, name in enumerate(rows):
        top = _GAP + row * (SIDE + _LABEL + _GAP)
        draw.text((_GAP, top), f"{name} ({len(pictures[name]):,})", fill="black", font=font)
        files = list(pictures[name])
        chosen = sorted(rng.choice(len(files), min(EACH, len(files)), replace=False)) if files else []
        for column, index in enumerate(chosen):
            thumbnail = small_picture(files[index], SIDE)
            left = _GAP + column * (SIDE + _GAP) + (SIDE - thumbnail.width) // 2
            page.paste(thumbnail, (left, top + _LABEL + (SIDE - thumbnail.height) // 2))
    _save(page, path)
    return len(rows)


def draw_captioned(pictures: Sequence[tuple[Image.Image, str]], path: Path) -> None:
    """Write a PNG with some pictures in their order, each with its caption of one or two lines, five in a row.

    Raises:
        DataError: it cannot be written, or its name does not end in .png.
    """
    check_sheet_name(path)
    side, rows = 2 * SIDE, -(-len(pictures) // _IN_ROW)
    height = side + 2 * _LABEL + _GAP
    page = Image.new("RGB", (_IN_ROW * (side + _GAP) + _GAP, max(1, rows) * height + _GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=13)
    for number, (picture, caption) in enumerate(pictures):
        left, top = _GAP + number % _IN_ROW * (side + _GAP), _GAP + number // _IN_ROW * height
        for line, text in enumerate(caption.splitlines()[:2]):
            draw.text((left, top + line * _LABEL), _fitting(text, side, font), fill="black", font=font)
        scale = side / max(picture.size)
        shown = picture.convert("RGB").resize([max(1, round(scale * each)) for each in picture.size])
        page.paste(shown, (left + (side - shown.width) // 2, top + 2 * _LABEL + (side - shown.height) // 2))
    _save(page, path)


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """As much of a text as fits, with dots where it does not."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _save(page: Image.Image, path: Path) -> None:
    try:
        page.save(path)
    except OSError as error:
        raise DataError(
            f"contact sheet {path} cannot be written ({error.strerror or error}); choose another"
        ) from error
