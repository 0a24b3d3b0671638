"""Files of supernets: they come back, and what comes from outside is checked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from space.errors import DataError
from tests.trainer.supernet.test_sharing import SPACE, supernet
from trainer.data.preprocess import Preprocess
from trainer.supernet.files import SupernetFile
from trainer.training.weight_files import metadata_of

PREPROCESS = Preprocess(resolution=16, resize=16, crop=16, pad=0, channels="L", mean=(0.3,), std=(0.4,))
KERNEL = "stage2_block1.depthwise.conv.weight"
FILE = SupernetFile(
    supernet=supernet(),
    preprocess=PREPROCESS,
    classes=tuple("abcdefghij"),
    data="0123456789abcdef",
    images="fedcba9876543210",
)


def test_a_supernet_comes_back(tmp_path: Path) -> None:
    """With its space, weights and kernel transformations; its hash tells it from any other."""
    transformed = replace(FILE.supernet, transforms={f"{KERNEL} 7to5": 2 * torch.eye(25)})
    for file in (FILE, replace(FILE, supernet=transformed, classes=None, data=None, images=None)):
        file.write(tmp_path / "a.safetensors")
        again = SupernetFile.read(tmp_path / "a.safetensors")
        assert again.supernet.space == SPACE
        assert replace(again, supernet=FILE.supernet) == replace(file, supernet=FILE.supernet)
        assert again.content_hash == file.content_hash
    assert again.content_hash != FILE.content_hash


def changed(path: Path, **words: Any) -> Path:  # noqa: ANN401 - what a file may say
    """The file with other words beside the weights."""
    FILE.write(path)
    said = json.loads(metadata_of(path)["supernet"])
    save_file(load_file(path), path, metadata={"supernet": json.dumps({**said, **words})})
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"version": 2}, "has version 2, not 1; train it anew"),
        ({"classes": [1, 2]}, "a class has no name"),
        ({"data": 7}, "its data set or images have no hash"),
        ({"preprocess": {}}, "preprocessing is not readable"),
        ({"space": {}}, "no search space"),
        ({"space": replace(SPACE, width=2.0).to_plain()}, "weights do not fit space 'small'"),
    ],
)
def test_other_words_are_refused(words: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Each in one line that names the file or what is wrong with it."""
    with pytest.raises(DataError, match=message) as caught:
        SupernetFile.read(changed(tmp_path / "a.safetensors", **words))
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cut off, one without words, one with a tensor too many, a transformation of nothing, none, one too large."""
    path = tmp_path / "a.safetensors"
    FILE.write(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"supernet .*a\.safetensors cannot be read"):
        SupernetFile.read(path)
    save_file(FILE.supernet.weights, path)
    with pytest.raises(DataError, match="cannot be read"):
        SupernetFile.read(path)
    FILE.write(path)
    words = metadata_of(path)
    save_file({**load_file(path), "more": torch.zeros(1)}, path, metadata=words)
    with pytest.raises(DataError, match="tensors that are no supernet's"):
        SupernetFile.read(path)
    FILE.write(path)
    save_file({**load_file(path), f"transforms/{KERNEL} 7to6": torch.zeros(25, 25)}, path, metadata=words)
    with pytest.raises(DataError, match="transforms a kernel that it does not have"):
        SupernetFile.read(path)
    with pytest.raises(DataError, match="cannot be read"):
        SupernetFile.read(tmp_path / "none.safetensors")
    monkeypatch.setattr("trainer.supernet.files.MAX_BYTES", 100)
    with pytest.raises(DataError, match="more than 100 bytes"):
        SupernetFile.read(path)
