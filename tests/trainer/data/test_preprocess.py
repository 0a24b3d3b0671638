"""The preprocessing recipe."""

from dataclasses import replace

import pytest

from space.errors import DataError
from trainer.data.preprocess import Preprocess

FASHION = Preprocess(resolution=32, resize=28, crop=28, pad=2, channels="L", mean=(0.286,), std=(0.353,))


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
