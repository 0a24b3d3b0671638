"""What a result on a finite number of images says, against scipy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest, norm, sem

from trainer.training.metrics import (
    calibration_error,
    confusion_matrix,
    fitted_temperature,
    paired_difference,
    paired_mean_difference,
    wilson_interval,
)

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60)


@given(st.integers(1, 5_000), st.data())
def test_wilson_interval_equals_scipy(total: int, data: st.DataObject) -> None:
    """The score interval is scipy's, for any number of right images."""
    correct = data.draw(st.integers(0, total))
    expected = binomtest(correct, total).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(correct, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_interval_of_a_published_result() -> None:
    """9,100 right of 10,000 is 90.4 to 91.5 %; no image at all says nothing."""
    assert wilson_interval(9_100, 10_000) == pytest.approx((0.9042, 0.9155), abs=5e-5)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80), st.integers(1, 20))
def test_calibration_error_is_the_mean_gap_of_bins(judged: list[tuple[float, bool]], bins: int) -> None:
    """As the paper writes it, bin by bin; one bin is the difference of accuracy and confidence."""
    confidences, right = np.array([each for each, _ in judged]), np.array([each for _, each in judged])
    expected = 0.0
    for number in range(bins):
        inside = (confidences > number / bins) & (confidences <= (number + 1) / bins)
        inside |= (number == 0) & (confidences == 0)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidences[inside].mean())
    # Where the edges of bins are rounded otherwise, an image may fall on the other side.
    on_edge = np.isclose(confidences * bins, np.round(confidences * bins), atol=1e-9).any()
    if not on_edge:
        assert calibration_error(confidences, right, bins) == pytest.approx(expected, abs=1e-9)
    assert calibration_error(confidences, right, 1) == pytest.approx(abs(right.mean() - confidences.mean()), abs=1e-9)
    assert 0 <= calibration_error(confidences, right, bins) <= 1


def votes(both: int, first: int, second: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Paired results with the given counts."""
    table = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return [a for a, _ in table], [b for _, b in table]


@given(st.lists(st.tuples(st.floats(-9, 0), st.floats(-9, 0)), min_size=2, max_size=50))
def test_a_paired_mean_is_scipys(pairs: list[tuple[float, float]]) -> None:
    """The interval is that of scipy's standard error of the differences; of one network with itself it is a point."""
    first, second = np.array(pairs).T
    found, error = paired_mean_difference(first, second), float(sem(first - second))
    assert found.difference == pytest.approx(float(first.mean() - second.mean()), abs=1e-9)
    assert found.high - found.low == pytest.approx(2 * norm.ppf(0.975) * error, abs=1e-9)
    same = paired_mean_difference(first, first)
    assert (same.low, same.high) == (0, 0)


def test_pairing_tells_apart_what_is_apart_on_every_image() -> None:
    """Images differ by far more than networks do: paired, 200 of them show what separate means would not."""
    rng = np.random.default_rng(0)
    images = rng.exponential(1.0, 200)
    first, second = -images, -images - 0.02 + rng.normal(0, 0.05, 200)
    assert paired_mean_difference(first, second).is_clear
    assert abs(first.mean() - second.mean()) < 1.96 * float(np.hypot(sem(first), sem(second)))
    assert not paired_mean_difference(first[:1], second[:1]).is_clear


def test_approval_ratings() -> None:
    """Agresti's 1,600 voters (794, 150, 86, 570): approval fell by 4.0 points, 95 % interval 2.1 to 5.9."""
    found = paired_difference(*votes(794, 150, 86, 570))
    assert found.difference == pytest.approx(0.040, abs=5e-4)
    assert (found.low, found.high) == pytest.approx((0.0208, 0.0591), abs=5e-4)
    assert found.is_clear


def test_the_adjusted_wald_formula() -> None:
    """Agresti and Min 2005 add 0.5 to each of the four cells, then take Wald's interval of paired proportions."""
    both, first, second, neither = 30.5, 12.5, 5.5, 2.5
    total = both + first + second + neither
    difference = first / total - second / total
    error = math.sqrt((first + second) / total - difference**2) / math.sqrt(total)
    found = paired_difference(*votes(30, 12, 5, 2))
    assert found.difference == pytest.approx((12 - 5) / 49)
    assert (found.low, found.high) == pytest.approx((difference - 1.96 * error, difference + 1.96 * error), abs=1e-5)
    assert not found.is_clear


def test_shared_results_say_little() -> None:
    """Networks that differ on few images are told apart by a difference that separate intervals could not resolve."""
    first, second = votes(9_000, 60, 20, 920)
    assert paired_difference(first, second).is_clear
    assert wilson_interval(sum(first), 10_000)[0] < wilson_interval(sum(second), 10_000)[1]


@given(PAIRS)
def test_the_difference_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    """Exchanging the networks changes the sign; equal ones differ by nothing, and not clearly."""
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found, reverse = paired_difference(first, second), paired_difference(second, first)
    assert (found.difference, found.low, found.high) == (-reverse.difference, -reverse.high, -reverse.low)
    assert found.low <= found.difference <= found.high
    same = paired_difference(first, first)
    assert same.difference == 0
    assert not same.is_clear


@pytest.mark.parametrize(("gained", "lost", "images"), [(0.05, 0.03, 300), (0.02, 0.02, 300), (0.2, 0.1, 60)])
def test_the_interval_covers_the_true_difference(gained: float, lost: float, images: int) -> None:
    """Of 2,000 simulated comparisons 93 to 99 % have the true difference in their interval."""
    rng = np.random.default_rng(0)
    covered = []
    for draw in rng.random((2_000, images)):
        first, second = draw < gained, (draw >= gained) & (draw < gained + lost)
        found = paired_difference(first.tolist(), second.tolist())
        covered.append(found.low <= gained - lost <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.99


def test_so_many_more_images_would_show_a_difference() -> None:
    """Two networks of which one is 1 point better: on as many images as that says the interval ends at zero."""
    first = np.repeat([True, False, True, False], [300, 40, 36, 24])
    second = np.repeat([True, False, False, True], [300, 40, 36, 24])
    few = paired_difference(first, second)
    assert not few.is_clear
    times = few.images_to_see(few.difference) / few.images
    for more, is_clear in ((int(times * 0.9), False), (int(times * 1.1) + 1, True)):
        assert paired_difference(np.tile(first, more), np.tile(second, more)).is_clear == is_clear


@given(st.integers(1, 6), st.data())
def test_confusion_matrix_equals_a_loop(classes: int, data: st.DataObject) -> None:
    """Rows are true classes and columns predicted ones, counted one by one."""
    pairs = data.draw(st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), max_size=50))
    expected = np.zeros((classes, classes), dtype=int)
    for label, predicted in pairs:
        expected[label, predicted] += 1
    labels, predictions = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    found = confusion_matrix(labels, predictions, classes)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.floats(0.2, 5.0), st.integers(0, 1000))
def test_the_fitted_temperature_has_the_largest_likelihood(classes: int, scale: float, seed: int) -> None:
    """Of all that scipy looks at; and it undoes what logits were multiplied by."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((400, classes))
    labels = np.array([rng.choice(classes, p=softmax(row)) for row in logits])
    found = fitted_temperature(scale * logits, labels)
    sought = minimize_scalar(
        lambda log: -log_softmax(scale * logits / np.exp(log), axis=1)[np.arange(400), labels].mean(),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found == pytest.approx(np.exp(sought.x), rel=1e-4)
    assert found == pytest.approx(scale * fitted_temperature(logits, labels), rel=1e-4)


def test_a_network_that_is_never_wrong_has_no_temperature() -> None:
    """Any lower one would be likelier."""
    assert fitted_temperature(np.eye(3), np.arange(3)) == 1.0
