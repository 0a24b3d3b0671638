"""What a result on a finite number of images says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = correct / total, Z_95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A figure of a network minus that of another on the same images, with its 95 % interval; 0 images: not counted."""

    difference: float
    low: float
    high: float
    images: int = 0

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def images_to_see(self, difference: float) -> int:
        """On how many such images an interval around this difference would just leave out zero."""
        return math.ceil(self.images * ((self.high - self.low) / 2 / difference) ** 2)


def paired_difference(first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray) -> Difference:
    """The difference of two proportions on paired images (Wald interval with Agresti and Min's half-count correction).

    Pairs where both are right or both wrong say nothing, so this is much narrower than two separate intervals.
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    total = len(a) + 2
    gained, lost = np.count_nonzero(a & ~b) + 0.5, np.count_nonzero(~a & b) + 0.5
    centre = (gained - lost) / total
    margin = Z_95 * math.sqrt(max(0.0, gained + lost - (gained - lost) ** 2 / total)) / total
    return Difference(
        difference=(int(a.sum()) - int(b.sum())) / max(1, len(a)),
        low=centre - margin,
        high=centre + margin,
        images=len(a),
    )


def paired_mean_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of the means of a figure per image (float64 N), such as the log-likelihood, on paired images.

    A normal interval: the standard error is that of the images' own differences, so what makes an image hard for both
    cancels. One image says nothing of its error.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) if len(differences) > 1 else math.inf
    return Difference(difference=mean, low=mean - Z_95 * error, high=mean + Z_95 * error, images=len(differences))


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, rows the true classes, columns the predicted ones: int64 classes x classes."""
    counts = np.bincount(labels * classes + predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def calibration_error(confidences: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """The expected calibration error (Guo et al. 2017, equation 5): how far a network is from being right as it says.

    Images fall into bins of equal width by the confidence of what they are taken for (0-1); per bin the share that is
    right is held against the mean confidence, and bins weigh by their images.
    """
    places = np.clip(np.ceil(np.asarray(confidences) * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=np.asarray(right, dtype=np.float64) - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / max(1, len(places)))


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What logits are to be divided by for probabilities that the images bear out (Guo et al. 2017, equation 9).

    The one of largest likelihood on these images, between 0.05 and 20; float N x classes, int N. Where a network is
    never wrong the lower the likelier, so that it says nothing: it is 1.
    """

    def excess(sharpness: float) -> float:
        scaled = sharpness * shifted
        weights = np.exp(scaled)
        expected = (weights * shifted).sum(1) / weights.sum(1)
        return float((expected - of_right).mean())  # the slope of the mean log-likelihood, downwards

    exact = np.asarray(logits, dtype=np.float64)
    shifted = exact - exact.max(1, keepdims=True)
    of_right = np.take_along_axis(shifted, np.asarray(labels)[:, None], axis=1)[:, 0]
    if not of_right.any():
        return 1.0
    low, high = 1 / 20, 20.0  # the likelihood has one maximum, as it is concave in what logits are multiplied by
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def balanced_accuracy(right: np.ndarray, images: np.ndarray) -> float:
    """The mean recall of the classes that have images, by how many of each were right: two arrays, int64 classes."""
    there = images > 0
    return float((right[there] / images[there]).mean())
