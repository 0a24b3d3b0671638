"""Weights in torch's own files: pickles, of which tensors alone are read, and no code is run (`weights_only`)."""

import argparse
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from space.errors import DataError

MAX_BYTES = 512 * 2**20
"""The largest published one of a mobile network has some 45 MB."""

# What torch raises of a file that is none: of pickles it reads each word itself.
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, struct.error),
    *(ValueError, LookupError, AttributeError, TypeError),
)


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """The state dict in a file that `torch.save` wrote: tensors by name, alone or under "state_dict" or "model".

    Raises:
        DataError: it cannot be read, is too large, or holds more than tensors.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _unfit(path, f"it has {size:,} bytes, more than {MAX_BYTES:,}")
        # The options of a training, which timm's and torchvision's keep beside their weights, are words and numbers.
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # of what it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(
            f"weights {path} cannot be read ({error.strerror or error}); give a file that can be"
        ) from error
    except _UNREADABLE as error:
        # Torch's own words advise to let the file run its code.
        raise _unfit(
            path, "it is no file of torch's, or holds objects that only running its code would make"
        ) from error
    for name in ("state_dict", "model"):  # as timm's and torchvision's trainings keep it
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in content.items()
    ):
        raise _unfit(path, "it holds something else than tensors by name")
    return dict(content)


def _unfit(path: Path, why: str) -> DataError:
    return DataError(f"{path} is no file of weights: {why}; give a state dict")
