"""How the values of a map are spread, gathered piece by piece in bounded memory."""

from __future__ import annotations

import math

import numpy as np

BINS = 2048
_COUNTED = 1 << 15
_MOST_COUNTED = 1 << 48
"""Sums of so many stay exact in float64."""
_BLOCK = 1 << 17
"""Values that stay in a processor's cache while they are looked at in several ways."""


class Histogram:
    """Exact ends of the values seen so far, and a histogram of their magnitudes.

    Attributes:
        low: smallest value.
        high: largest value.
        limit: end of the last bin, zero or a power of two; it doubles when it is exceeded, and the
            bins are joined by twos.
        counts: int64 ``[BINS]``, how many of the counted values other than zero are in each bin.
        zeros: how many are zero.
        seen: how many values there were, counted or not.
        least: smallest magnitude, where it was looked for; infinite else.
        fine: int64 ``[N]``, how many of all values are in each of N equal bins up to the largest
            magnitude; None unless the values were gone through a second time for it.
    """

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.limit = 0.0
        self.counts = np.zeros(BINS, np.int64)
        self.zeros = self.seen = 0
        self.least = math.inf
        self.fine: np.ndarray | None = None

    @property
    def largest(self) -> float:
        """The largest magnitude; zero if there are no values."""
        return max(0.0, self.high, -self.low)

    @property
    def centres(self) -> np.ndarray:
        """The middle of each bin."""
        middles: np.ndarray = (np.arange(BINS) + 0.5) * (self.limit / BINS)
        return middles

    def is_possible(self) -> bool:
        """False if no values could be counted like this; a file may say anything."""
        if not (self.low <= self.high and 0 <= self.limit < math.inf):
            return False
        if min(self.zeros, self.seen) < 0 or not _are_counts(self.counts):
            return False
        if self.fine is not None and not (_are_counts(self.fine) and self.fine.any()):
            return False
        if not self.limit:
            return not self.counts.any()
        within = self.largest <= self.limit or not math.isfinite(self.largest)
        return within and math.frexp(self.limit)[0] == 0.5  # a power of two

    def add(self, values: np.ndarray, counted: int = _COUNTED) -> None:
        """Adds values of any shape; what is not a number counts as infinite.

        Args:
            values: all of them count for the ends.
            counted: about how many of them are counted, evenly spread.
        """
        if not values.size:
            return
        low, high, some = _looked_at(values.reshape(-1), counted)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.seen += values.size
        self._cover(self.largest)
        if not self.limit:
            self.zeros += some.size
            return
        zeros = some.size - int(np.count_nonzero(some))
        # exact, since both are powers of two
        places = np.multiply(some, BINS / self.limit, dtype=np.float64)
        if not math.isfinite(self.largest):
            places = np.fmin(places, BINS)
        counts = np.bincount(places.astype(np.intp), minlength=BINS + 1)
        counts[0] -= zeros
        counts[BINS - 1] += counts[BINS]  # what lies at the limit itself
        self.zeros += zeros
        self.counts += counts[:BINS]

    def merge(self, other: Histogram) -> None:
        """Adds what another histogram has counted; the order of merging does not matter."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        self.seen += other.seen
        self.least = min(self.least, other.least)
        self._cover(other.limit)
        if self.limit:
            joined = round(self.limit / other.limit) if other.limit else 1
            counts = other.counts.reshape(-1, min(joined, BINS)).sum(axis=1)
            self.counts[: counts.size] += counts

    def _cover(self, largest: float) -> None:
        if largest <= self.limit or not math.isfinite(largest):
            return
        if not self.limit:
            self.limit = 2.0 ** math.ceil(math.log2(largest))
        while self.limit < largest:
            joined = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([joined, np.zeros(BINS // 2, np.int64)])
            self.limit *= 2


def _are_counts(array: np.ndarray) -> bool:
    return bool(array.size and array.min() >= 0 and array.max() <= _MOST_COUNTED)


def _looked_at(flat: np.ndarray, wanted: int) -> tuple[float, float, np.ndarray]:
    """Smallest and largest value, and the magnitudes of about ``wanted`` of them.

    The ends are infinite if something is not a number.
    """
    step = stride(flat.size, wanted)
    lows, highs, parts = [], [], []
    for begin in range(0, flat.size, _BLOCK):
        block = flat[begin : begin + _BLOCK]
        lows.append(block.min())
        highs.append(block.max())
        parts.append(np.abs(block[-begin % step :: step]))
    low, high = float(np.min(lows)), float(np.max(highs))
    ends = (-math.inf, math.inf) if math.isnan(low) else (low, high)
    return *ends, np.concatenate(parts)


def stride(size: int, wanted: int) -> int:
    """A step that picks about ``wanted`` of ``size`` values and has no common factor with it.

    So it walks through rows and channels evenly, whatever their sizes.
    """
    step = max(1, size // wanted)
    while math.gcd(step, size) > 1:
        step += 1
    return step
