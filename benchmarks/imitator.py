"""A network that imitates accuracies: learnt from the 6,561 trainings of NAS-Bench-Macro, asked of far larger spaces.

A network is a set of blocks, each known by where it stands, whether it begins a stage, its expansion and its kernel;
what they add up to says the odds of an error (Zaheer et al. 2017, deep sets), so that any number of blocks will do.
Widths count by the expansion that they give. Squeeze-and-excite and activations change nothing: the table does not know
them. It says nothing true about ImageNet; it is a large problem whose effects, and interactions, come from trainings.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from search.problems.nas_bench_macro import table
from space.arch import Architecture
from space.cost import cost_of
from space.preset import load_preset

WHERE = "MOBILENAS_IMITATOR"
"""The environment variable that names the file of the weights (.npz)."""

_STAGE_OF_LAYER = (0, 0, 1, 1, 1, 2, 2, 2)
_OPERATIONS = {"1": (3.0, 3), "2": (6.0, 5)}  # expansion, kernel
_FEATURES, _LEARNT, _HIDDEN = 4, 32, 32

Weights = Mapping[str, np.ndarray]


def block_features(position: float, expansion: float, kernel: int, *, is_first: bool) -> tuple[float, ...]:
    """What is known of a block; `position` runs from 0 at the stem to 1 at the head."""
    return (2 * position - 1, 2.0 * is_first - 1, np.log2(expansion) - 2, kernel / 2 - 2)


def features_of_name(name: str) -> np.ndarray:
    """Of a network of the table: shape (8 layers, features + 1), the last column says whether the layer has a block."""
    rows = np.zeros((len(name), _FEATURES + 1))
    for layer, operation in enumerate(name):
        if operation != "0":
            expansion, kernel = _OPERATIONS[operation]
            stage = _STAGE_OF_LAYER[layer]
            is_first = layer == _STAGE_OF_LAYER.index(stage)
            rows[layer] = (*block_features((stage + 0.5) / 3, expansion, kernel, is_first=is_first), 1)
    return rows


@cache
def _nominal_widths() -> tuple[int, ...]:
    return tuple(stage.channels for stage in load_preset("mobilenet-v3-large").stages)


def features_of(arch: Architecture) -> np.ndarray:
    """Of a network around MobileNetV3-Large: shape (blocks, features + 1)."""
    nominal = _nominal_widths()
    rows = []
    for number, stage in enumerate(arch.stages):
        for index, block in enumerate(stage.blocks):
            width = nominal[max(0, number - 1)] if index == 0 else nominal[number]
            expansion = (block.expanded_channels or width) / width
            position = (number + 0.5) / len(arch.stages)
            rows.append((*block_features(position, expansion, block.kernel_size, is_first=index == 0), 1))
    return np.array(rows)


def _log_odds(weights: Any, rows: Any, most: int, tanh: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - numpy's or torch's
    effects = tanh(rows[..., :-1] @ weights["block"] + weights["block_bias"]) * rows[..., -1:]
    hidden = tanh(effects.sum(-2) / most @ weights["mix"] + weights["mix_bias"])
    return (hidden @ weights["out"] + weights["out_bias"])[..., 0]


def imitated(weights: Weights, rows: np.ndarray, most: int) -> np.ndarray:
    """Top-1 (0-1) of networks by rows of shape (networks, blocks, features + 1); the largest has `most` blocks."""
    top1: np.ndarray = 1 / (1 + np.exp(_log_odds(weights, rows, most, np.tanh)))
    return top1


def learn(seed: int = 0, steps: int = 1500) -> tuple[Weights, dict[str, float]]:
    """Weights learnt from four fifths of the table, and how well they do on the rest."""
    import torch
    from scipy.stats import spearmanr

    torch.manual_seed(seed)
    names = sorted(table())
    top1 = np.array([table()[name]["mean_acc"] for name in names]) / 100
    rows = np.stack([features_of_name(name) for name in names])
    order = np.random.default_rng(seed).permutation(len(names))
    rest, part = order[: len(order) // 5], order[len(order) // 5 :]
    shapes = {
        "block": (_FEATURES, _LEARNT),
        "block_bias": (_LEARNT,),
        "mix": (_LEARNT, _HIDDEN),
        "mix_bias": (_HIDDEN,),
        "out": (_HIDDEN, 1),
        "out_bias": (1,),
    }
    learnt = {name: torch.randn(shape) / shape[0] ** 0.5 for name, shape in shapes.items()}
    log_odds = np.log((1 - top1[part]) / top1[part])  # of an error
    learnt["out_bias"] = torch.tensor([log_odds.mean()], dtype=torch.float32)
    for value in learnt.values():
        value.requires_grad_()
    inputs = torch.tensor(rows[part], dtype=torch.float32)
    targets = torch.tensor(log_odds, dtype=torch.float32)
    optimizer = torch.optim.Adam(learnt.values(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        found = _log_odds(learnt, inputs, rows.shape[1], torch.tanh)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(found, targets).backward()
        optimizer.step()
        schedule.step()
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in learnt.items()}
    guessed = imitated(weights, rows[rest], rows.shape[1])
    return weights, {
        "networks": len(rest),
        "error_points": float(100 * np.sqrt(np.mean((guessed - top1[rest]) ** 2))),
        "rank_correlation": float(spearmanr(guessed, top1[rest]).statistic),
    }


@cache
def _weights() -> Weights:
    with np.load(Path(os.environ[WHERE]), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


# Of the spaces around MobileNetV3-Large, by their number of blocks at most.
_MOST = 21


def top1(arch: Architecture) -> float:
    """The evaluator: imitated top-1 (0-1)."""
    return float(imitated(_weights(), features_of(arch)[None], _MOST)[0])


def madds_in_millions(arch: Architecture) -> float:
    """Multiply-adds in millions, which stand in for ms."""
    return cost_of(arch).madds / 1e6
