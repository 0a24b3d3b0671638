"""What a network says of images whose classes are known: more than right or wrong, and one byte per image to keep."""

from dataclasses import dataclass

import numpy as np

from space.errors import DataError
from trainer.training.metrics import balanced_accuracy

# A byte has one bit for right or wrong and seven for minus the log-likelihood of the right class: 0 for none, and else
# steps of equal ratio (10.6 %) from the least to the most, so that each value is kept to about 5 %.
_LEAST, _MOST, _CODES = 1e-4, 32.0, 127
_RATIO = np.log(_MOST / _LEAST) / (_CODES - 1)
_RIGHT = 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """What a network says of some images, in their order.

    `right` is whether the most probable class is the right one (bool N), `log_likelihoods` the natural logarithm of the
    right class's probability (float64 N, at most 0).
    """

    right: np.ndarray
    log_likelihoods: np.ndarray

    def __len__(self) -> int:
        return len(self.right)

    @property
    def top1(self) -> float:
        """The share of images classified right."""
        return float(self.right.mean())

    @property
    def log_likelihood(self) -> float:
        """The mean log-likelihood of the right class."""
        return float(self.log_likelihoods.mean())

    @property
    def probability(self) -> float:
        """The mean probability of the right class."""
        return float(np.exp(self.log_likelihoods).mean())

    def balanced(self, labels: np.ndarray) -> float:
        """The mean over classes of the share classified right; `labels` (int64 N) are the right classes."""
        images = np.bincount(labels)
        return balanced_accuracy(np.bincount(labels, weights=self.right, minlength=len(images)), images)

    def to_bytes(self) -> bytes:
        """One byte per image."""
        losses = -self.log_likelihoods
        with np.errstate(divide="ignore"):
            steps = np.round(np.log(losses / _LEAST) / _RATIO) + 1
        codes = np.clip(np.nan_to_num(steps, neginf=0.0), 0, _CODES).astype(np.uint8)
        kept: np.ndarray = codes + np.uint8(_RIGHT) * self.right.astype(np.uint8)
        return kept.tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Judgement":
        """What `to_bytes` kept: log-likelihoods to about 5 % of each.

        Raises:
            DataError: there are no images.
        """
        if not content:
            raise DataError("a judgement of no images says nothing; evaluate the network again")
        codes = np.frombuffer(content, dtype=np.uint8)
        steps = (codes & (_RIGHT - 1)).astype(np.float64)
        losses = np.where(steps == 0, 0.0, _LEAST * np.exp((steps - 1) * _RATIO))
        return cls(right=codes >= _RIGHT, log_likelihoods=-losses)
