"""Torch's own files come from anywhere: tensors are read, code is not run."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from space.errors import DataError
from trainer.training.torch_files import read_torch_file


class Evil:
    """Something that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code was run",)


def test_tensors_are_read_alone_or_as_a_state_dict(tmp_path: Path) -> None:
    """As `torch.save` writes them."""
    tensors, path = {"a": torch.arange(3.0)}, tmp_path / "weights.pth"
    for content in (tensors, {"state_dict": tensors, "epoch": 3}):
        torch.save(content, path)
        assert torch.equal(read_torch_file(path)["a"], tensors["a"])


@pytest.mark.parametrize("content", [{"state_dict": [1, 2]}, {"state_dict": {7: torch.zeros(1)}}, [torch.zeros(1)]])
def test_what_is_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    """A list, tensors without names."""
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(DataError, match="holds something else than tensors by name"):
        read_torch_file(path)


def test_what_is_no_file_of_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pickle with code in it, saved by torch or plain, a text, an empty file, none, one too large: one line each."""
    path = tmp_path / "weights.pth"
    torch.save(Evil(), path)
    for content in (path.read_bytes(), pickle.dumps(Evil()), b"no weights", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"is no file of weights: it is no file of torch's") as caught:
            read_torch_file(path)
        assert "\n" not in str(caught.value)
    assert "code was run" not in capsys.readouterr().out
    with pytest.raises(DataError, match="cannot be read"):
        read_torch_file(tmp_path / "none.pth")
    monkeypatch.setattr("trainer.training.torch_files.MAX_BYTES", 4)
    path.write_bytes(b"12345")
    with pytest.raises(DataError, match="5 bytes, more than 4"):
        read_torch_file(path)
