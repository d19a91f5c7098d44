"""How the values of a map are spread, gathered piece by piece in bounded memory."""

from __future__ import annotations

import math

import numpy as np

BINS = 2048
_COUNTED = 1 << 15
"""Values of one piece that are counted: of more every n-th, though all count for the ends."""


class Histogram:
    """Exact ends of the values seen so far, and a histogram of their magnitudes.

    Attributes:
        low: smallest value.
        high: largest value.
        limit: end of the last bin, zero or a power of two; it doubles when it is exceeded, and the
            bins are joined by twos.
        counts: int64 ``[BINS]``, how many of the counted values other than zero are in each bin.
        zeros: how many are zero.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.limit = 0.0
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = 0

    @property
    def largest(self) -> float:
        """The largest magnitude; zero if there are no values."""
        return max(0.0, self.high, -self.low)

    @property
    def centres(self) -> np.ndarray:
        """The middle of each bin."""
        middles: np.ndarray = (np.arange(BINS) + 0.5) * (self.limit / BINS)
        return middles

    def add(self, values: np.ndarray) -> None:
        """Adds finite values of any shape."""
        if not values.size:
            return
        flat = values.reshape(-1)
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        self._cover(self.largest)
        counted = flat[:: stride(flat.size, _COUNTED)]
        if not self.limit or not math.isfinite(self.limit):
            self.zeros += counted.size
            return
        other = counted[counted != 0]
        self.zeros += counted.size - other.size
        places = np.abs(other, dtype=np.float64) * (BINS / self.limit)
        bins = np.minimum(places, BINS - 1).astype(np.int64)
        self.counts += np.bincount(bins, minlength=BINS)

    def _cover(self, largest: float) -> None:
        if largest <= self.limit or not math.isfinite(largest):
            return
        if not self.limit:
            self.limit = 2.0 ** math.ceil(math.log2(largest))
        while self.limit < largest:
            joined = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([joined, np.zeros(BINS // 2, np.int64)])
            self.limit *= 2


def stride(size: int, wanted: int) -> int:
    """A step that picks about ``wanted`` of ``size`` values and has no common factor with it.

    So it walks through rows and channels evenly, whatever their sizes.
    """
    step = max(1, size // wanted)
    while math.gcd(step, size) > 1:
        step += 1
    return step
