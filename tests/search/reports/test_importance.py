"""Importance: what an analysis of variance says, and where chance begins."""

import numpy as np
import pytest
from scipy import stats

from search.reports.importance import FEWEST, Value, importances


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
