"""Predicting many networks at once, from rows of integers (see `space.encoding`)."""

import numpy as np

from latency.measurement import Clock
from latency.table import LatencyTable
from space.encoding import Codes, Encoding, Prices


class Predictor:
    """What `LatencyTable.estimate` says, for hundreds of thousands of networks of one space per second."""

    def __init__(self, table: LatencyTable, encoding: Encoding, clock: Clock = "wall") -> None:
        """Look up every block of the space.

        Raises:
            MissingBlock: the table lacks one of them.
        """
        self._prices = Prices(encoding, lambda key: (table.block_ms(key, clock),))
        self._constant_ms = table.fit(clock).constant_ms

    def estimate(self, codes: Codes) -> np.ndarray:
        """Predicted ms of the networks of valid rows, shape (networks,)."""
        latencies: np.ndarray = self._prices.of(codes)[:, 0] + self._constant_ms
        return latencies
