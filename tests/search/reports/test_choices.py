"""What networks chose, read from their architectures; what of it an analysis of variance says, and what is chance."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from search.reports.choices import FEWEST, Value, choice_shares, described, importances
from space.arch import Architecture, Block, Head, Stage, Stem


def network(kernels: tuple[int, ...], width: int = 24, expanded: int | None = 48) -> Architecture:
    """One stage behind a stem of 16 channels."""
    blocks = tuple(
        Block(kernel_size=kernel, expanded_channels=expanded, use_se=kernel == 5, activation="relu")  # type: ignore[arg-type]
        for kernel in kernels
    )
    return Architecture(
        resolution=32,
        in_channels=1,
        num_classes=10,
        stem=Stem(out_channels=16, stride=1, activation="hswish"),
        stages=(Stage(out_channels=width, stride=2, blocks=blocks),),
        head=Head(conv_channels=96, hidden_channels=128, activation="hswish"),
    )


def test_description_names_what_differs_within_a_stage() -> None:
    """48 channels are 3.0 times the stem's 16 and 2.0 times the stage's own 24."""
    assert described(network((3, 5))) == ["2 × k3/5, e3.0/2.0, w24, SE no/yes, relu"]
    assert described(network((5,), expanded=None)) == ["1 × k5, e1.0, w24, SE, relu"]


def test_shares_count_blocks_and_stages() -> None:
    """Kernels count once for each block, depths and widths once for each network."""
    shares = choice_shares([network((3, 5)), network((5,))], [network((3,), width=8)] * 4)[0]
    assert [(one.choice, one.chosen, one.all) for one in shares["depth"]] == [("1", 0.5, 1.0), ("2", 0.5, 0.0)]
    assert [(one.choice, one.chosen) for one in shares["kernel"]] == [("3", 1 / 3), ("5", 2 / 3)]
    assert [(one.choice, one.all) for one in shares["width"]] == [("8", 1.0), ("24", 0.0)], "in the order of numbers"


def test_networks_of_other_shapes_are_left_out() -> None:
    """A network with another number of stages has no stage to compare with."""
    other = network((3,))
    longer = replace(other, stages=other.stages * 2)
    shares = choice_shares([other], [other, longer])
    assert len(shares) == 1
    assert shares[0]["kernel"][0].all == 1
    assert choice_shares([], [other]) == []


def random_params(rng: np.random.Generator, networks: int, parameters: int = 8) -> list[dict[str, Value]]:
    """Parameters with two to four choices."""
    return [{f"p{number}": int(rng.integers(2 + number % 3)) for number in range(parameters)} for _ in range(networks)]


def test_share_is_epsilon_squared() -> None:
    """The share follows from F of SciPy's analysis of variance: df (F - 1) / (df F + df within)."""
    rng = np.random.default_rng(1)
    params = random_params(rng, 60)
    outcome = [rng.normal() + 0.7 * float(each["p4"] or 0) for each in params]
    found = importances(params, outcome)
    assert found is not None
    for one in found.ranked:
        values = sorted({each[one.parameter] for each in params}, key=str)
        groups = [[y for each, y in zip(params, outcome, strict=True) if each[one.parameter] == v] for v in values]
        ratio, between = stats.f_oneway(*groups).statistic, len(groups) - 1
        within = len(outcome) - len(groups)
        assert one.share == pytest.approx(between * (ratio - 1) / (between * ratio + within))


def test_what_decides_stands_out() -> None:
    """A parameter that decides nearly everything comes first and alone is clear."""
    rng = np.random.default_rng(2)
    params = random_params(rng, 40)
    found = importances(params, [float(each["p3"] or 0) + rng.normal(0, 0.05) for each in params])
    assert found is not None
    assert [one.parameter for one in found.clear] == ["p3"]
    assert found.ranked[0].share > 0.9


def test_noise_seldom_stands_out() -> None:
    """Where nothing matters, something is called clear in about one of twenty searches."""
    rng = np.random.default_rng(3)
    called = 0
    for seed in range(150):
        found = importances(random_params(rng, 24), rng.normal(size=24).tolist(), seed=seed)
        assert found is not None
        called += bool(found.clear)
    assert called <= 15


def test_too_few_to_tell() -> None:
    """Few networks, equal outcomes, no parameters, or parameters that never vary: there is no answer."""
    rng = np.random.default_rng(4)
    params = random_params(rng, FEWEST)
    outcome = rng.normal(size=FEWEST).tolist()
    assert importances(params, outcome) is not None
    assert importances(params[1:], outcome[1:]) is None
    assert importances(params, [0.5] * FEWEST) is None
    assert importances([], []) is None
    assert importances([{"p": 1} for _ in range(FEWEST)], outcome) is None


def test_is_the_same_each_time() -> None:
    """Shuffles come from a seed, and only parameters that all networks have are judged."""
    rng = np.random.default_rng(5)
    params = random_params(rng, 20)
    params[7]["extra"] = 1
    outcome = rng.normal(size=20).tolist()
    found = importances(params, outcome)
    assert found == importances(params, outcome)
    assert found is not None
    assert "extra" not in {one.parameter for one in found.ranked}
