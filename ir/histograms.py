"""How the values of a tensor lie on its grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_BINS = 128
_MARGIN = 64
"""Units beyond either end of the range that have bins of their own."""


@dataclass
class Histogram:
    """Counts of values in units of a step; what lies beyond all bins is in the outermost ones.

    Attributes:
        qmin: smallest integer of the grid.
        qmax: largest integer of the grid.
        unit: real value of one unit.
        least: least value in units.
        greatest: greatest value in units.
    """

    qmin: int
    qmax: int
    unit: float
    least: float = math.inf
    greatest: float = -math.inf
    _counts: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    @property
    def low(self) -> float:
        """Where the first bin begins."""
        return self.qmin - _MARGIN - 0.5

    @property
    def width(self) -> float:
        """Units that a bin is wide."""
        return (self.qmax - self.qmin + 1 + 2 * _MARGIN) / _BINS

    def add(self, values: np.ndarray) -> None:
        """Counts values, given in units."""
        flat = values.reshape(-1).astype(np.float64)
        if flat.size == 0:
            return
        self.least = min(self.least, float(flat.min()))
        self.greatest = max(self.greatest, float(flat.max()))
        places = np.clip((flat - self.low) / self.width, 0, _BINS - 1).astype(np.int64)
        self._counts += np.bincount(places, minlength=_BINS)

    def as_json(self) -> dict[str, Any]:
        """The histogram as JSON values; ``least`` and ``greatest`` are real."""
        empty = self.least > self.greatest
        return {
            "qmin": self.qmin,
            "qmax": self.qmax,
            "unit": self.unit,
            "least": None if empty else self.least * self.unit,
            "greatest": None if empty else self.greatest * self.unit,
            "low": self.low,
            "width": self.width,
            "counts": self._counts.tolist(),
        }
