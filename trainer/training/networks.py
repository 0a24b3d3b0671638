"""Networks to train and to judge, and where torch computes them."""

import os
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from space.arch import Architecture
from space.errors import DataError, RunError
from space.networks.modules import build_model

Weights = Mapping[str, Tensor]

DeviceKind = Literal["cpu", "cuda", "mps"]
"""Where torch computes; `cuda` is the first GPU that the process sees."""


def best_device() -> DeviceKind:
    """Where networks are trained unless somebody says: on a GPU that torch sees, else on the CPU.

    Not on Apple's GPU, where nobody has run this yet: several small networks at once may be faster on its cores.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use, by what `CUDA_VISIBLE_DEVICES` calls them; none where torch sees none."""
    if not torch.cuda.is_available():
        return ()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(named.split(",") if named else map(str, range(torch.cuda.device_count())))


def require_device(device: DeviceKind) -> None:
    """See that torch can compute there.

    Raises:
        RunError: it cannot.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError(
            f"torch {torch.__version__} sees no GPU here; install a CUDA build and a driver, or train on another device"
        )
    if device == "mps" and not torch.backends.mps.is_available():
        raise RunError(f"torch {torch.__version__} sees no Apple GPU here; train on another device")


def channels_last(model: nn.Module) -> nn.Module:
    """Channels last: convolutions train about 1.5 times as fast on a CPU."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def new_model(arch: Architecture, seed: int) -> nn.Sequential:
    """A freshly initialised network; the same seed gives the same weights, whatever else drew random numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(arch)


def shapes_of(arch: Architecture) -> dict[str, torch.Size]:
    """The shape of everything in the state dict of a network."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in build_model(arch).state_dict().items()}


def load_model(arch: Architecture, weights: Weights) -> nn.Sequential:
    """A network with given weights.

    Raises:
        DataError: the weights belong to another architecture.
    """
    model = build_model(arch)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"the weights do not fit architecture {arch.arch_id}: {reason}; give those of the same network and classes"
        ) from error
    return model
