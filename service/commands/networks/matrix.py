"""A whole confusion matrix as a file."""

import csv
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from space.errors import RunError


def check_matrix_name(path: Path) -> None:
    """Whether a file's name says what kind it is to be.

    Raises:
        RunError: it does not.
    """
    if path.suffix.lower() not in _MAKERS:
        raise RunError(f"{path} names no kind of file that a matrix is written to; end it in {', '.join(_MAKERS)}")


def write_matrix(counts: np.ndarray, labels: list[str], path: Path) -> None:
    """The whole confusion matrix, rows the true classes: CSV, JSON or PNG, as the file's name says."""
    try:
        path.write_bytes(_MAKERS[path.suffix.lower()](counts, labels))
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}; choose another --matrix") from error


def _matrix_csv(counts: np.ndarray, labels: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true class", *labels])
    writer.writerows([label, *row] for label, row in zip(labels, counts.tolist(), strict=True))
    return text.getvalue().encode()


def _matrix_json(counts: np.ndarray, labels: list[str]) -> bytes:
    return f"{json.dumps({'classes': labels, 'counts': counts.tolist()}, ensure_ascii=False)}\n".encode()


def _matrix_png(counts: np.ndarray, labels: list[str]) -> bytes:
    """A cell per pair of classes, darker the larger its share of the true class; numbers where there is room."""
    cell = max(6, min(48, 1200 // len(labels)))
    names = [label if len(label) <= 24 else f"{label[:23]}…" for label in labels]
    margin = 170 if cell >= 12 else 20
    side = margin + cell * len(labels) + 10
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    for true, taken in np.ndindex(*counts.shape):
        left, top, share = margin + cell * int(taken), margin + cell * int(true), float(shares[true, taken])
        shade = tuple(round(255 + share * (end - 255)) for end in (8, 48, 107))
        draw.rectangle(
            (left, top, left + cell - 1, top + cell - 1), fill=shade, outline="#dddddd" if cell >= 12 else None
        )
        if cell >= 30 and counts[true, taken]:
            draw.text(
                (left + cell / 2, top + cell / 2),
                str(counts[true, taken]),
                fill="white" if share > 0.5 else "black",
                anchor="mm",
            )
    if cell >= 12:
        for index, name in enumerate(names):
            middle = margin + cell * index + cell // 2
            draw.text((margin - 6, middle), name, fill="black", anchor="rm")
            _draw_upwards(picture, name, middle, margin - 6)
    draw.text((6, 6), "rows: true class, columns: predicted class", fill="black")
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def _draw_upwards(picture: Image.Image, text: str, middle: int, bottom: int) -> None:
    label = Image.new("RGB", (bottom - 20, 16), "white")
    ImageDraw.Draw(label).text((0, 8), text, fill="black", anchor="lm")
    upwards = label.rotate(90, expand=True)
    picture.paste(upwards, (middle - 8, bottom - upwards.height))


_MAKERS = {".csv": _matrix_csv, ".json": _matrix_json, ".png": _matrix_png}
