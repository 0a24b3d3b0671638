"""The surrogate: what it learns, how sure it is, and its derivatives against numbers."""

from functools import lru_cache

import numpy as np
import pytest

from search.samplers.surrogate import FITTED_ROWS, KEPT_ROWS, Columns, Posterior, Surrogate, unwarped, warped
from space.encoding import Codes, Encoding
from tests.space.test_presets import shipped
from tests.strategies import minute_space, small_space


@lru_cache
def large() -> Encoding:
    """Around MobileNetV3-Large: 35 open choices."""
    return Encoding(shipped("mobilenet-v3-large"))


def costs_of(encoding: Encoding, codes: Codes) -> np.ndarray:
    """Multiply-adds and parameters, shape (networks, 2)."""
    cost = encoding.cost(codes)
    return np.stack([cost.madds, cost.params], axis=1).astype(np.float64)


def truth(encoding: Encoding, codes: Codes, *, pairs: float = 0.5) -> np.ndarray:
    """A top-1 around 0.7 by effects of choices and, half as strong, of pairs of them."""
    rng = np.random.default_rng(11)
    levels = int(codes.max()) + 2
    hot = (codes[:, :, None] == np.arange(-1, levels - 1)).reshape(len(codes), -1).astype(float)
    everywhere = encoding.sample(2000, np.random.default_rng(12))
    centred = hot - (everywhere[:, :, None] == np.arange(-1, levels - 1)).reshape(2000, -1).mean(axis=0)
    single = centred @ rng.standard_normal(hot.shape[1])
    weights = rng.standard_normal((hot.shape[1],) * 2) * (rng.random((hot.shape[1],) * 2) < 0.1)
    double = ((centred @ weights) * centred).sum(axis=1)
    return np.asarray(0.7 + 0.02 * single / 4.5 + pairs * 0.02 * double / 6.5)


def fitted(encoding: Encoding, codes: Codes, top1: np.ndarray) -> Surrogate:
    """A surrogate of these networks."""
    return Surrogate.fit(encoding, codes, top1, costs_of(encoding, codes), np.random.default_rng(0))


def correlation(surrogate: Surrogate, encoding: Encoding, codes: Codes, top1: np.ndarray) -> float:
    """Between what is predicted and what is true."""
    return float(np.corrcoef(surrogate.predict(codes, costs_of(encoding, codes))[0], top1)[0, 1])


def test_warping_is_undone() -> None:
    """Scores rise with top-1, and top-1 comes back; a perfect score is finite."""
    top1 = np.linspace(0, 0.999, 50)
    assert unwarped(warped(top1)) == pytest.approx(top1)
    assert (np.diff(warped(top1)) > 0).all()
    assert np.isfinite(warped(np.ones(1))).all()


def test_derivatives_are_those_of_the_posterior() -> None:
    """The gradient equals finite differences of the logarithm of the density, written down by the book."""
    encoding, rng = Encoding(small_space()), np.random.default_rng(1)
    codes = encoding.sample(25, rng)
    costs = costs_of(encoding, codes)
    columns, targets = Columns(encoding, costs), rng.standard_normal(25)
    features = columns.features(codes, costs)
    posterior = Posterior(columns, features, targets)
    point = posterior.mode + 0.3 * rng.standard_normal(len(posterior.mode))

    def density(at: np.ndarray) -> float:
        chosen = posterior.hyperparameters(at)
        relevances = chosen.relevances[columns.owners]
        differences = features[:, None] - features[None]
        covariance = chosen.additive * (features * relevances) @ features.T
        covariance += chosen.interacting * np.exp(-0.5 * (differences**2 @ relevances) / chosen.length)
        covariance += chosen.noise * np.eye(25)
        fit = -0.5 * targets @ np.linalg.solve(covariance, targets) - 0.5 * np.linalg.slogdet(covariance)[1]
        return float(fit - 0.5 * (((at - posterior.mode) / posterior.deviations) ** 2).sum())

    steps = 1e-5 * np.eye(len(point))
    expected = [(density(point + step) - density(point - step)) / 2e-5 for step in steps]
    assert posterior.gradient(point) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-6)


def test_what_was_seen_is_known() -> None:
    """Without noise in training the surrogate goes through what it saw, and is less sure of what it did not see."""
    encoding, rng = large(), np.random.default_rng(2)
    codes = encoding.sample(60, rng)
    top1 = truth(encoding, codes, pairs=0)
    surrogate = fitted(encoding, codes, top1)
    means, deviations = surrogate.predict(codes, costs_of(encoding, codes))
    others = encoding.sample(200, rng)
    assert np.abs(means - top1).mean() < 0.3 * top1.std()
    assert deviations.max() < surrogate.predict(others, costs_of(encoding, others))[1].min()


def test_the_surrogate_learns_effects_and_pairs() -> None:
    """Of 35 choices with effects of their own and in pairs, 300 noisy trials predict others; more trials, better."""
    encoding, rng = large(), np.random.default_rng(3)
    codes, others = encoding.sample(300, rng), encoding.sample(500, rng)
    top1 = truth(encoding, codes) + 0.003 * rng.standard_normal(300)
    found = [
        correlation(fitted(encoding, codes[:count], top1[:count]), encoding, others, truth(encoding, others))
        for count in (30, 100, 300)
    ]
    assert found[2] > 0.85
    assert found[0] + 0.05 < found[1] < found[2] - 0.05


def test_uncertainty_is_honest() -> None:
    """Deviations from the truth are about as large as the surrogate says, within a factor of two."""
    encoding, rng = large(), np.random.default_rng(4)
    codes, others = encoding.sample(100, rng), encoding.sample(500, rng)
    top1 = truth(encoding, codes) + 0.003 * rng.standard_normal(100)
    means, deviations = fitted(encoding, codes, top1).predict(others, costs_of(encoding, others))
    assert 0.5 < np.std((means - truth(encoding, others)) / deviations) < 2


def test_costs_tell_top1_by_themselves() -> None:
    """Where top-1 follows the multiply-adds, 15 trials suffice, since those of all networks are known."""
    encoding, rng = large(), np.random.default_rng(5)
    codes, others = encoding.sample(15, rng), encoding.sample(300, rng)

    def follows(codes: Codes) -> np.ndarray:
        return np.asarray(0.7 + 0.05 * np.log(encoding.cost(codes).madds / 2e8))

    surrogate = fitted(encoding, codes, follows(codes))
    assert correlation(surrogate, encoding, others, follows(others)) > 0.9


def test_believing_changes_what_is_known_not_what_is_expected() -> None:
    """Of running networks, and less so of similar ones, the surrogate becomes sure; its means stay."""
    encoding, rng = large(), np.random.default_rng(6)
    codes, running, others = encoding.sample(80, rng), encoding.sample(5, rng), encoding.sample(100, rng)
    surrogate = fitted(encoding, codes, truth(encoding, codes))
    believing = surrogate.believing(running, costs_of(encoding, running))
    before, after = (each.predict(running, costs_of(encoding, running)) for each in (surrogate, believing))
    assert after[0] == pytest.approx(before[0], abs=1e-4)
    assert (after[1] < 0.7 * before[1]).all()
    before, after = (each.predict(others, costs_of(encoding, others)) for each in (surrogate, believing))
    assert after[0] == pytest.approx(before[0], abs=1e-4)
    assert (after[1] < before[1]).all()


def test_collapsed_trainings_do_not_mislead() -> None:
    """Three trainings at chance level among 100 leave the predictions of others as they were."""
    encoding, rng = large(), np.random.default_rng(7)
    codes, others = encoding.sample(100, rng), encoding.sample(500, rng)
    top1 = truth(encoding, codes)
    collapsed = top1.copy()
    collapsed[:3] = 0.001
    good, bad = (
        correlation(fitted(encoding, codes, y), encoding, others, truth(encoding, others)) for y in (top1, collapsed)
    )
    assert bad > good - 0.15


def test_optimism_is_ordered() -> None:
    """More standard deviations hope for more, by what `predict` says; it stays below 1."""
    encoding, rng = large(), np.random.default_rng(8)
    codes = encoding.sample(50, rng)
    surrogate = fitted(encoding, codes, truth(encoding, codes))
    others = encoding.sample(50, rng)
    costs = costs_of(encoding, others)
    means, deviations = surrogate.predict(others, costs)
    assert surrogate.optimistic(others, costs, 0.0) == pytest.approx(means)
    assert surrogate.optimistic(others, costs, 0.01) == pytest.approx(means + 0.01 * deviations, abs=1e-5)
    assert (surrogate.optimistic(others, costs, 50.0) < 1).all()


def test_fitting_follows_the_generator() -> None:
    """Equal generators fit alike, also where only a part of the trials is kept."""
    encoding, rng = large(), np.random.default_rng(9)
    codes = encoding.sample(KEPT_ROWS + FITTED_ROWS, rng)
    one, again = (
        fitted(encoding, codes, truth(encoding, codes)).predict(codes, costs_of(encoding, codes)) for _ in "12"
    )
    assert (one[0] == again[0]).all()
    assert (one[1] == again[1]).all()


def test_long_searches_predict_their_best() -> None:
    """Of a thousand trials a part is kept, which tells the best tenth from the rest."""
    encoding, rng = large(), np.random.default_rng(10)
    codes, others = encoding.sample(1000, rng), encoding.sample(1000, rng)
    surrogate = fitted(encoding, codes, truth(encoding, codes) + 0.003 * rng.standard_normal(1000))
    assert len(surrogate.targets) == KEPT_ROWS
    top1 = truth(encoding, others)
    means = surrogate.predict(others, costs_of(encoding, others))[0]
    assert np.isin(np.argsort(-means)[:100], np.argsort(-top1)[:200]).mean() > 0.85


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_and_equal_trials_give_numbers(count: int) -> None:
    """One trial, or trials that are all alike, make no nonsense."""
    encoding = Encoding(minute_space())
    codes = encoding.sample(count, np.random.default_rng(0))
    surrogate = fitted(encoding, codes, np.full(count, 0.5))
    everyone = encoding.sample(50, np.random.default_rng(1))
    means, deviations = surrogate.predict(everyone, costs_of(encoding, everyone))
    assert means == pytest.approx(np.full(50, 0.5))
    assert np.isfinite(deviations).all()
    assert (deviations > 0).all()


def test_a_cost_of_zero_is_taken() -> None:
    """Older records have no peak memory; a column of zeros says nothing."""
    encoding, rng = large(), np.random.default_rng(0)
    codes = encoding.sample(30, rng)
    costs = np.hstack([costs_of(encoding, codes), np.zeros((30, 1))])
    surrogate = Surrogate.fit(encoding, codes, truth(encoding, codes), costs, rng)
    assert np.isfinite(surrogate.predict(codes, costs)[0]).all()
