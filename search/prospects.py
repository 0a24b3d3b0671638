"""What a sampler may ask of networks before any of them is trained."""

from typing import Protocol

import numpy as np

from space.encoding import Codes, Encoding


class Prospects(Protocol):
    """What is known of networks before they are trained: their exact costs, and what those are worth."""

    @property
    def encoding(self) -> Encoding:
        """The rows of the space."""
        ...

    def costs(self, codes: Codes) -> np.ndarray:
        """The exact costs of the networks of valid rows, shape (networks, figures), float64.

        Columns are latency_ms, madds, params, peak_bytes and perhaps further latencies. A latency may come from a
        user's function and be slow, so nobody asks twice for the same row.
        """
        ...

    def violation(self, costs: np.ndarray) -> np.ndarray:
        """How far costs of shape (networks, figures) lie over the limits, relative and summed; 0 where all are met."""
        ...

    def reward(self, top1: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """What the search maximises, shape (networks,), of top-1 (0–1) and costs; it increases with top-1."""
        ...
