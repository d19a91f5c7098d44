"""`ElementGrids`: what quantises a map whose elements have grids of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlaconv.ir.quantisation import FloatArray, Quantisation
from dlaconv.ir.rounding import Rounding, round_array

_MOST_BITS = 24
"""Of the grid that all elements get: more than any hardware keeps, and exact in float32."""


@dataclass(frozen=True, eq=False)
class ElementGrids:
    """Each element is rounded to multiples of its step, and saturates or wraps at its ends.

    Attributes:
        step: real value of one unit, a power of two; float32 of the tensor's rank, or ``[]``.
        low: smallest real value, of the same shape.
        high: largest real value, of the same shape; an element whose ends are both zero is zero.
        rounding: how ``x / step`` becomes an integer.
        wraps: True if a value beyond one end comes in again at the other.
    """

    step: FloatArray
    low: FloatArray
    high: FloatArray
    rounding: Rounding
    wraps: bool = False

    @property
    def live(self) -> np.ndarray:
        """Where an element can be anything but zero."""
        found: np.ndarray = self.low < self.high
        return found

    @property
    def same_step(self) -> bool:
        """True if all elements that are not zero have one step."""
        return _same(self.step[self.live])

    @property
    def same_range(self) -> bool:
        """True if all elements that are not zero have the same ends."""
        return _same(self.low[self.live]) and _same(self.high[self.live])

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest real value of all elements."""
        return float(self.low.min()), float(self.high.max())

    def one_grid(self) -> Quantisation | None:
        """The grid for all elements: as fine as the finest, as wide as the widest.

        Ends are filled up to whole bits, but a format without its smallest number stays one. It is
        coarser where it would take more than 24 bits. None if every element is zero.
        """
        live = self.live
        if not live.any():
            return None
        arrays = (self.step, self.low, self.high)
        step, low, high = (array[live].astype(np.float64) for array in arrays)
        reach = 2.0 ** np.ceil(np.log2(max(-low.min(), high.max())))
        unit = max(float(step.min()), reach / 2**_MOST_BITS)
        size = round(reach / unit)
        lowest = 0
        if (low < 0).any():
            lowest = -size if (low == -(high + step)).any() else 1 - size
        zero = np.zeros((), np.float32)
        return Quantisation(np.asarray(unit, np.float32), zero, lowest, size - 1, self.rounding)

    def on_grid(self, values: FloatArray) -> FloatArray:
        """What becomes of values, float32; the reference of the operator's body."""
        real = round_array(np.asarray(values / self.step, np.float32), self.rounding) * self.step
        if self.wraps:
            span = self.high - self.low + self.step
            above = real - self.low
            real = above - np.floor(above / span) * span + self.low
        else:
            real = np.maximum(np.minimum(real, self.high), self.low)
        return np.asarray(real, np.float32)


def _same(array: np.ndarray) -> bool:
    return not array.size or bool(array.min() == array.max())
