"""Networks: specs, their modules, and how long they take on a device."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from service.settings import load_settings
from space.arch import Architecture
from space.errors import MissingBlock
from space.formats import published_or_read
from space.keys import keys_of

if TYPE_CHECKING:
    from torch import nn


def load_spec(source: str | Path, *, width: float | None = None, resolution: int | None = None) -> Architecture:
    """A published network by its name, such as "mobilenet_v3_small", or the one of a spec file.

    `width` is the width multiplier of a published one, `resolution` the side of its input in pixels.

    Raises:
        InvalidArchitecture: there is neither, or the file is no spec.

    >>> load_spec("mobilenet_v3_large").resolution
    224
    """
    return published_or_read(str(source), width=width, resolution=resolution)


def build_model(arch: Architecture, weights: str | Path | None = None) -> "nn.Module":
    """The network in torch: images N x C x R x R (float32, as its preprocess.json says) to logits N x classes.

    It has random weights and is in training mode, or those of a safetensors file, and is in evaluation mode.

    Raises:
        DataError: the file cannot be read.
        InvalidArchitecture: its weights are another network's.

    >>> import torch
    >>> model = build_model(load_spec("mobilenet_v3_small", width=0.5)).eval()
    >>> model(torch.zeros(2, 3, 224, 224)).shape
    torch.Size([2, 1000])
    """
    from space.networks.modules import build_model as build

    if weights is None:
        return build(arch)
    from trainer.training.networks import load_model
    from trainer.training.weight_files import read_weights

    return load_model(arch, read_weights(Path(weights))).eval()


def predict_latency(arch: Architecture, *, device: str = "local", database: str | None = None) -> float:
    """How long a network takes on a device, in ms: batch 1, 10 % quantile of wall time in the steady state.

    It is read from the newest recorded latency table of the device that knows all of the network's blocks; nothing is
    measured.

    Raises:
        MissingBlock: no table of the device has all blocks.
        StoreError: the record cannot be opened.
    """
    from search.record.store import Store

    keys, fewest = keys_of(arch), ""
    with closing(Store.open(database or load_settings().database_url)) as store:
        for row in store.tables.rows(device):
            table = store.tables.load(row["id"])
            missing = table.missing(keys)
            if not missing:
                return table.estimate(arch)
            fewest = (
                fewest or f"; its newest table lacks {len(missing)} of the network's blocks, such as '{missing[0]}'"
            )
    raise MissingBlock(
        f"no latency table of device '{device}' has all blocks of this network{fewest}; run: mobilenas latency collect "
        f"--device {device} --enqueue SPEC.json"
    )
