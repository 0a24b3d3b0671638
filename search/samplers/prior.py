"""What trainings of a space that were published with it say of its networks, before any is trained here.

A linear model over the stages of a network: how deep and wide they are, how wide their blocks, which kernels, how many
blocks with squeeze-and-excite and h-swish. Fitted on the learning curves in `benchmarks/curves`, it orders networks of
one latency better than a first short training does (benchmarks/2026-11-30-prior.md).
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from space.arch import Architecture, Stage
from space.choices import SearchSpace
from space.preset import load_preset, preset_names

_FORMAT = "mobilenas-prior"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """`weights` by the names of `features_of`; `networks` is how many it was fitted on."""

    weights: Mapping[str, float]
    networks: int

    def scores(self, networks: Sequence[Architecture]) -> np.ndarray:
        """The larger, the more accurate a network is expected to be, shape (networks,).

        The unit is a standard deviation of what was fitted, whose zero is anywhere.
        """
        rows = [features_of(arch) for arch in networks]
        return np.array([sum(self.weights[name] * value for name, value in row.items()) for row in rows])

    def to_json(self) -> str:
        """As it is shipped."""
        content = {"format": _FORMAT, "networks": self.networks, "weights": dict(self.weights)}
        return json.dumps(content, indent=1) + "\n"


def features_of(arch: Architecture) -> dict[str, float]:
    """What a network's stages are, by name; widths as logarithms."""
    found: dict[str, float] = {}
    for number, stage in enumerate(arch.stages, start=1):
        found |= {f"stage{number}.{name}": value for name, value in _of_stage(stage).items()}
    return found


def _of_stage(stage: Stage) -> dict[str, float]:
    blocks = stage.blocks
    return {
        "depth": float(len(blocks)),
        "width": math.log(stage.out_channels),
        "expanded": math.log(_mean(block.expanded_channels or stage.out_channels for block in blocks)),
        "kernel": _mean(block.kernel_size for block in blocks),
        "se": _mean(block.use_se for block in blocks),
        "hswish": _mean(block.activation == "hswish" for block in blocks),
    }


def _mean(values: Iterable[float]) -> float:
    each = list(values)
    return sum(each) / len(each)


def prior_of(space: SearchSpace) -> Prior | None:
    """What is shipped for a space's preset, whatever its width and its images; None where nothing is."""
    name = space.preset.name
    path = files("search.samplers") / "priors" / f"{name}.json"
    # A user's own preset may have any name.
    if not path.is_file() or name not in preset_names() or load_preset(name) != space.preset:
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Prior(weights=content["weights"], networks=content["networks"])


def fitted(networks: Sequence[Architecture], targets: np.ndarray, *, ridge: float = 10.0) -> Prior:
    """By ridge regression on standardised features, the penalty being so many networks' worth.

    Features that do not differ have no weight.
    """
    rows = [features_of(arch) for arch in networks]
    names = list(rows[0])
    features = np.array([[row[name] for name in names] for row in rows])
    middle, spread = features.mean(axis=0), features.std(axis=0)
    differs = spread > 0
    scaled = (features[:, differs] - middle[differs]) / spread[differs]
    centred = (targets - targets.mean()) / targets.std()
    weights = np.linalg.solve(scaled.T @ scaled + ridge * np.eye(scaled.shape[1]), scaled.T @ centred) / spread[differs]
    found = dict.fromkeys(names, 0.0) | dict(zip(np.array(names)[differs].tolist(), weights.tolist(), strict=True))
    return Prior(weights={name: round(value, 6) for name, value in found.items()}, networks=len(networks))
