"""The prior: what published trainings of a space say of its networks, and that proposals follow it."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.samplers.feasible_first import propose
from search.samplers.prior import features_of, fitted, prior_of
from space.arch import Architecture
from space.choices import SearchSpace
from space.encoding import Codes, Encoding
from space.preset import load_preset
from tests.search.madds import objective_within

PRESET = "mobilenet-v3-small-32px"
CURVES = Path(__file__).parents[3] / "benchmarks" / "curves"


def space_of(width: float = 0.5) -> SearchSpace:
    """That of the default job."""
    return SearchSpace(preset=load_preset(PRESET), width=width, resolution=28, in_channels=1, num_classes=10)


def test_effects_of_stages_are_learnt() -> None:
    """Of networks that differ by what a linear model knows and by luck, unseen ones are put in order."""
    space, rng = space_of(), np.random.default_rng(3)
    networks = Encoding(space).decode_all(Encoding(space).sample(120, rng))
    names = list(features_of(networks[0]))
    effects = dict(zip(names, rng.standard_normal(len(names)), strict=True))
    truth = np.array([sum(effects[name] * value for name, value in features_of(arch).items()) for arch in networks])
    noisy = truth + 0.5 * truth.std() * rng.standard_normal(len(truth))
    prior = fitted(networks[:80], noisy[:80])
    assert np.corrcoef(prior.scores(networks[80:]), truth[80:])[0, 1] > 0.8


def table(data: str) -> tuple[list[Architecture], np.ndarray]:
    """The members that were trained to the end, and how they ended, in deviations of random ones near the target."""
    ends: dict[str, list[float]] = {}
    with (CURVES / f"{data}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["images"] == "60000" and not row["network"].startswith("width-"):
                ends.setdefault(row["network"], []).append(float(row["reward_ll"]))
    with (CURVES / f"{data}-networks.csv").open(encoding="utf-8", newline="") as file:
        specs = {row["network"]: row["spec"] for row in csv.DictReader(file) if row["network"] in ends}
    found = np.array([np.mean(ends[name]) for name in specs])
    near = found[[name.startswith("near-") for name in specs]]
    return [Architecture.from_json(spec) for spec in specs.values()], (found - near.mean()) / near.std()


def test_a_shipped_prior_is_that_of_the_published_curves() -> None:
    """The file's weights are those that its tables give, and name what the space's networks have."""
    (first, one), (second, other) = (table(data) for data in ("fashion-mnist", "cifar10"))
    expected = fitted([*first, *second], np.concatenate([one, other]))
    shipped = prior_of(space_of())
    assert shipped is not None
    assert shipped.networks == len(first) + len(second)
    assert shipped.weights == pytest.approx(expected.weights, abs=2e-6)
    assert set(shipped.weights) == set(features_of(space_of().reference))
    assert json.loads(shipped.to_json())["weights"] == shipped.weights


def test_a_prior_is_for_its_own_space() -> None:
    """At any width, but not for another preset, nor for one of a user's that is called alike."""
    assert prior_of(space_of(width=1.0)) == prior_of(space_of())
    space = space_of()
    own = replace(space, preset=replace(space.preset, stages=space.preset.stages[:-1]))
    assert prior_of(own) is None
    assert prior_of(replace(space, preset=load_preset("mobilenet-v3-small"))) is None


@pytest.mark.parametrize("least", [0.0, 0.97], ids=["below a limit", "near it"])
def test_proposals_follow_the_prior(least: float) -> None:
    """They meet the limits, are never the same, and the prior speaks for each more than for any random one within."""
    encoding = Encoding(space_of())
    prior = prior_of(encoding.space)
    assert prior is not None
    random = encoding.sample(1000, np.random.default_rng(0))
    limit = float(np.median(encoding.cost(random).madds)) / 1e6
    objective = replace(objective_within(encoding, limit), least_ms=least * limit)

    def scores(codes: Codes) -> np.ndarray:
        return prior.scores(encoding.decode_all(codes))

    rows = random[:0]
    for number in range(12):
        row = propose(
            objective,
            known=rows[: number // 2],
            top1=np.full(number // 2, 0.5),
            pending=rows[number // 2 :],
            excluded=rows[:0],
            rng=np.random.default_rng([1, number]),
            prior=scores,
        )
        rows = np.vstack([rows, row])
    assert (objective.violation(objective.costs(rows)) <= 0).all()
    assert len({bytes(row) for row in rows}) == 12
    within = random[objective.violation(objective.costs(random)) <= 0]
    assert len(within) > 5
    assert scores(rows).min() > scores(within).max()
