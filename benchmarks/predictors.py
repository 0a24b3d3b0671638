"""Compares ways to predict a network's latency from its blocks: python benchmarks/predictors.py --help.

Everything is measured in one run of the engine, blocks interleaved with blocks and networks with networks: blocks
alone, blocks inside a carrier (a block before and one after), and whole networks. Each model is fitted on 40 of the
networks, twenty times over, and judged on the others; networks with NetAdapt widths are never fitted on.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from latency.calibration import fit_linear, terms
from latency.probe import Measuring, Model, Protocol, Runtime, Samples, low_quantile
from space.arch import Activation, Architecture, Block
from space.choices import SearchSpace
from space.cost import cost_of
from space.keys import BlockKey, StageBlockKey, halved, keys_of, named_keys
from space.layers import layers_of
from space.narrowing import narrowed_at_random
from space.networks.onnx_graph import build_graph, random_weights
from space.preset import load_preset

FITTED, REPEATS = 40, 20
PROTOCOL = Protocol(rounds=16, most_rounds=16)


def _carrier(resolution: int, in_channels: int, out_channels: int) -> StageBlockKey:
    activation: Activation = "relu"
    block = Block(kernel_size=3, expanded_channels=None, use_se=False, activation=activation)
    return StageBlockKey(
        resolution=resolution, in_channels=in_channels, out_channels=out_channels, stride=1, block=block
    )


def _before(side: int, channels: int) -> StageBlockKey:
    return _carrier(side, channels, channels)


def _after(side: int, channels: int) -> StageBlockKey:
    return _carrier(side, channels, 8)


def carried(keys: Sequence[BlockKey]) -> dict[tuple[object, ...], dict[str, BlockKey]]:
    """Graphs that show what a block costs between two others, and what those cost without it."""
    graphs: dict[tuple[object, ...], dict[str, BlockKey]] = {}
    for key in keys:
        if isinstance(key, StageBlockKey):
            side, channels = key.resolution, key.in_channels
            out_side, out_channels = halved(side, key.stride), key.out_channels
            before, after = _before(side, channels), _after(out_side, out_channels)
            graphs["carried", key] = {"a": before, "b": key, "c": after}
            graphs["both", side, channels] = {"a": before, "c": _after(side, channels)}
            graphs["after", side, channels] = {"c": _after(side, channels)}
            graphs["after", out_side, out_channels] = {"c": after}
    return graphs


@dataclass(frozen=True)
class Data:
    """What was measured, in ms of thread CPU time: per block alone (warm, cold) and carried; networks by wall time."""

    alone: dict[BlockKey, tuple[float, float]]
    carried: dict[BlockKey, float]
    networks: list[Architecture]
    measured: np.ndarray
    narrowed: np.ndarray

    def summed(self, price: Callable[[BlockKey], float]) -> np.ndarray:
        """A price, summed over each network's blocks."""
        return np.array([sum(price(key) for key in keys_of(arch)) for arch in self.networks])


def _warm(samples: Samples, clock: str) -> float:
    return low_quantile(np.array([getattr(each, clock) for each in samples.warm], dtype=float)) / 1e6


def _cold(samples: Samples) -> float:
    return low_quantile(np.array([each.cpu for each in samples.cold], dtype=float)) / 1e6


def measure(space: SearchSpace, random_networks: int, narrowed_networks: int) -> Data:
    """Draw networks, and measure them, their blocks and the space's."""
    rng = random.Random(5)
    networks = [space.reference, *(space.sample(rng) for _ in range(random_networks))]
    narrowed = [narrowed_at_random(space.sample(rng), rng, rng.randint(2, 6)) for _ in range(narrowed_networks)]
    keys = list(
        dict.fromkeys([*space.reachable_keys(), *(key for arch in networks + narrowed for key in keys_of(arch))])
    )

    def run(graphs: dict[tuple[object, ...], dict[str, BlockKey]]) -> dict[tuple[object, ...], Samples]:
        built = {name: build_graph(units, random_weights(0)) for name, units in graphs.items()}
        models = {str(name): Model(graph, 2 * len(graph) + 4_000_000) for name, graph in built.items()}
        found = Measuring(models, Runtime(), PROTOCOL).run()
        print(
            f"{len(models)} models, {found.seconds:.0f} s, {found.seconds_inside / found.seconds:.0%} inside of kernels"
        )
        return {name: found.samples[str(name)] for name in graphs}

    graphs = {("alone", key): {"block": key} for key in keys} | carried(keys)
    blocks = run(graphs)
    whole = run({("network", number): named_keys(arch) for number, arch in enumerate([*networks, *narrowed])})

    def inside(key: BlockKey) -> float:
        if not isinstance(key, StageBlockKey):
            return _warm(blocks["alone", key], "cpu")
        side, channels = key.resolution, key.in_channels
        out = (halved(side, key.stride), key.out_channels)
        before = _warm(blocks["both", side, channels], "cpu") - _warm(blocks["after", side, channels], "cpu")
        return _warm(blocks["carried", key], "cpu") - before - _warm(blocks["after", *out], "cpu")

    return Data(
        alone={key: (_warm(blocks["alone", key], "cpu"), _cold(blocks["alone", key])) for key in keys},
        carried={key: inside(key) for key in keys},
        networks=[*networks, *narrowed],
        measured=np.array([_warm(samples, "wall") for samples in whole.values()]),
        narrowed=np.arange(len(networks) + narrowed_networks) >= len(networks),
    )


def models(data: Data) -> dict[str, np.ndarray]:
    """The features of each linear model, shape (networks, terms)."""
    warm, cold, count, inputs, weights = np.array(
        [np.sum([terms(key, *data.alone[key]) for key in keys_of(arch)], axis=0) for arch in data.networks]
    ).T
    one = np.ones(len(data.networks))
    carried_sum = data.summed(lambda key: data.carried[key])
    operators = data.summed(lambda key: len(layers_of(key)))
    madds = np.array([cost_of(arch).madds for arch in data.networks], dtype=float)
    columns = {
        "multiply-adds, constant": (madds, one),
        "scaled sum of warm estimates": (warm,),
        "cold sum, blocks, constant": (cold, count, one),
        "warm sum, constant": (warm, one),
        "warm sum, blocks, constant": (warm, count, one),
        "warm and cold sum, blocks, constant": (warm, cold, count, one),
        "warm and cold sum, operators, constant": (warm, cold, operators, one),
        "in a carrier, scaled": (carried_sum,),
        "in a carrier, constant": (carried_sum, one),
        "warm and cold sum, blocks, input, weights, constant": (warm, cold, count, inputs, weights, one),
    }
    return {name: np.stack(column, axis=1) for name, column in columns.items()}


def judge(features: np.ndarray, data: Data, correction: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors on networks that were not fitted on: random ones, and those with NetAdapt widths."""
    rng = np.random.default_rng(1)
    random_ones = np.flatnonzero(~data.narrowed)
    errors, narrowed = [], []
    for _ in range(REPEATS):
        order = rng.permutation(random_ones)
        fitted, left = order[:FITTED], order[FITTED:]
        predicted = features @ fit_linear(features[fitted], data.measured[fitted])
        if correction is not None:
            predicted = predicted + _regressed(correction, data.measured, predicted, fitted)
        error = predicted / data.measured - 1
        errors.append(error[left])
        narrowed.append(error[data.narrowed])
    return np.concatenate(errors), np.concatenate(narrowed)


def _regressed(costs: np.ndarray, measured: np.ndarray, predicted: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """What ridge regression of every block's cost, around the model's, makes of the residuals (10 % off, 1 % noise)."""
    scaled = costs / measured[:, None]
    residual = ((measured - predicted) / measured)[fitted]
    kernel = scaled[fitted] @ scaled[fitted].T + 0.1**2 * np.eye(len(fitted))
    correction: np.ndarray = scaled @ (scaled[fitted].T @ np.linalg.solve(kernel, residual)) * measured
    return correction


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-v3-large")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--in-channels", type=int, default=3)
    asked = parser.parse_args()
    space = SearchSpace(
        preset=load_preset(asked.space),
        width=asked.width,
        resolution=asked.resolution,
        in_channels=asked.in_channels,
        num_classes=asked.classes,
    )
    data = measure(space, 160, 60)
    print("| model | error | within 5 % | NetAdapt widths: error | within 5 % | bias |")
    print(f"|{' --- |' * 6}")

    def row(name: str, found: tuple[np.ndarray, np.ndarray]) -> None:
        error, narrow = found
        shares = [f"{np.abs(each).mean():.2%} | {(np.abs(each) <= 0.05).mean():.1%}" for each in (error, narrow)]
        print(f"| {name} | {shares[0]} | {shares[1]} | {narrow.mean():+.2%} |")

    candidates = models(data)
    for name, features in candidates.items():
        row(name, judge(features, data))
    keys = list(data.alone)
    counts = np.array([[keys_of(arch).count(key) for key in keys] for arch in data.networks], dtype=float)
    costs = counts * np.array([data.alone[key][0] for key in keys])
    name = "warm sum, blocks, constant"
    row(f"{name}, then regression of each block's cost", judge(candidates[name], data, costs))


if __name__ == "__main__":
    main()
