"""Guesses of dear latencies: right where layers add up, and better than nothing where they nearly do."""

import csv
from pathlib import Path

import numpy as np
import pytest

from search.bench.curves import CurvesProblem
from search.objective.guess import guess_from, layer_prices
from space.arch import Architecture
from space.cost import cost_of
from space.encoding import Encoding
from tests.space.test_presets import shipped

CURVES = Path(__file__).parents[3] / "benchmarks" / "curves"


@pytest.mark.parametrize("name", ["mobilenet-v3-small", "mobilenet-v3-small-32px", "mobilenet-v2"])
def test_what_adds_up_is_guessed(name: str) -> None:
    """Where each layer and each multiply-add has its time, other networks are guessed within half a per cent."""
    encoding = Encoding(shipped(name))
    codes = encoding.sample(400, np.random.default_rng(1))
    layers = [sum(len(stage.blocks) for stage in arch.stages) for arch in encoding.decode_all(codes)]
    latencies = 0.01 * np.array(layers) + encoding.cost(codes).madds / 1e8
    guess = guess_from(layer_prices(encoding), codes[:200], latencies[:200])
    assert np.abs(guess(codes[200:]) / latencies[200:] - 1).max() < 5e-3


def test_measured_networks_are_guessed() -> None:
    """Of the published table's networks, on a real CPU, three quarters say what the others take, to some per cent."""
    with (CURVES / "fashion-mnist-networks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    known = [(Architecture.from_json(row["spec"]), float(row["predicted_ms"])) for row in rows]
    encoding = CurvesProblem.read(CURVES / "fashion-mnist.csv").encoding
    members = [(arch, ms) for arch, ms in known if arch in encoding.space]
    assert len(members) >= 64
    codes, latencies = np.vstack([encoding.encode(arch) for arch, _ in members]), np.array([ms for _, ms in members])
    parts = np.arange(len(members)) % 4
    errors, madds = [], np.array([cost_of(arch).madds for arch, _ in members])
    by_madds = []
    for part in range(4):
        seen, left = parts != part, parts == part
        guess = guess_from(layer_prices(encoding), codes[seen], latencies[seen])
        errors += np.abs(guess(codes[left]) / latencies[left] - 1).tolist()
        rate = np.median(latencies[seen] / madds[seen])
        by_madds += np.abs(rate * madds[left] / latencies[left] - 1).tolist()
    assert np.mean(errors) < 0.06
    assert np.mean(errors) < np.mean(by_madds) / 2, "better than by multiply-adds alone"
