"""What data that were not seen will exceed, told from the largest values that were.

Excesses over a high threshold u of nearly every distribution follow a generalised Pareto
distribution (Pickands 1975), and with shape zero, which suits what layers compute, an exponential
one. With p the share of values above u and b their mean excess, clipping at T >= u adds to the
noise power

    E[(|x| - T)^2; |x| > T] = 2 p b^2 exp(-(T - u) / b)

Calibration data do not show it: their own values end at their largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tail:
    """The largest magnitudes of a map.

    Attributes:
        threshold: u, where the tail begins.
        share: p, the part of all values in the tail.
        excess: b, by how much values of the tail exceed u on average.
    """

    threshold: float
    share: float
    excess: float

    @classmethod
    def of(cls, values: np.ndarray, counts: np.ndarray | None = None) -> Tail:
        """Fits the tail: the largest 1.5 sqrt(n) magnitudes of n, which all samples agree on.

        Args:
            values: of any shape; with ``counts``, magnitudes in ascending order.
            counts: how often each magnitude occurs.
        """
        magnitudes = np.abs(values, dtype=np.float64).reshape(-1)
        total = magnitudes.size if counts is None else int(counts.sum())
        wanted = math.ceil(1.5 * math.sqrt(total))
        if counts is not None:
            first = int(np.searchsorted(np.cumsum(counts), total - wanted))
            often = counts[first:].copy()
            often[:1] -= often.sum() - wanted  # so many as are wanted, however many there are
            magnitudes = np.repeat(magnitudes[first:], often)
        wanted = min(magnitudes.size, wanted)
        if not wanted:
            return cls(0.0, 0.0, 0.0)
        largest = np.partition(magnitudes, magnitudes.size - wanted)[-wanted:]
        threshold = float(largest.min())
        return cls(threshold, wanted / total, float(largest.mean()) - threshold)

    def clipped_power(self, limit: float) -> float:
        """Expected square of what clipping at a magnitude cuts off, per value; 0 below the tail."""
        if not self.excess or limit < self.threshold:
            return 0.0
        away = (limit - self.threshold) / self.excess
        return 2 * self.share * self.excess**2 * math.exp(-away)
