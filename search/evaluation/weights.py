"""Files of weights: safetensors, each with the key of the evaluation that made it."""

import errno
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from space.errors import DataError


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights {path} cannot be read ({error}); train the network again") from error


def write_weights(weights: dict[str, Tensor], path: Path, *, evaluation_key: str | None = None) -> None:
    """Write a state dict, with the key of the evaluation that made it; a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(weights, draft, metadata={"evaluation": evaluation_key} if evaluation_key else None)
        with draft.open("rb") as written:
            os.fsync(written.fileno())  # the record must not be ahead of the file after a power cut
        draft.replace(path)
    except SafetensorError as error:
        # Its own words for what every other writer reports as an OSError.
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def evaluation_of_weights(path: Path) -> str | None:
    """The key of the evaluation that wrote a file of weights, or None where there is no such file or key."""
    try:
        with safe_open(path, framework="pt") as opened:
            key: str | None = (opened.metadata() or {}).get("evaluation")
            return key
    except (OSError, SafetensorError):
        return None
