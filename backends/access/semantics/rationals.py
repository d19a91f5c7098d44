"""Arrays of exact rationals, and the one rounding that ends a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dlaconv.ir.rounding import Rounding

IntArray = np.ndarray
"""An array of Python integers (dtype object) or of int64."""


def fractions(values: Iterable[float | Fraction] | np.ndarray) -> np.ndarray:
    """The exact values of numbers, as an array of `Fraction` of the same shape."""
    given = np.asarray(values, dtype=object)
    result = np.empty(given.shape, dtype=object)
    result.reshape(-1)[:] = [Fraction(value) for value in given.flat]
    return result


@dataclass(frozen=True, eq=False)
class Rationals:
    """Exact rational numbers.

    Attributes:
        top: numerators, Python integers.
        bottom: denominators, positive Python integers that broadcast against ``top``.
    """

    top: IntArray
    bottom: IntArray

    @classmethod
    def of(cls, integers: np.ndarray) -> Rationals:
        """Integers as rationals."""
        return cls(integers.astype(object), np.array(1, dtype=object))

    def times(self, factors: np.ndarray) -> Rationals:
        """The products with `Fraction` factors that broadcast against the numbers."""
        top = _each(factors, lambda factor: factor.numerator)
        bottom = _each(factors, lambda factor: factor.denominator)
        return Rationals(self.top * top, self.bottom * bottom)

    def where(self, condition: np.ndarray, other: Rationals) -> Rationals:
        """These numbers where ``condition`` holds, else ``other``."""
        return Rationals(
            np.where(condition, self.top, other.top),
            np.where(condition, self.bottom, other.bottom),
        )

    def rounded(self, mode: Rounding) -> IntArray:
        """Every number rounded to an integer."""
        low = self.top // self.bottom
        rest = self.top - low * self.bottom
        positive = self.top > 0
        twice = 2 * rest
        if mode is Rounding.FLOOR:
            raised = np.zeros(low.shape, dtype=bool)
        elif mode is Rounding.CEIL:
            raised = rest > 0
        elif mode is Rounding.UP:
            raised = (rest > 0) & positive
        elif mode is Rounding.DOWN:
            raised = (rest > 0) & np.logical_not(positive)
        else:
            to_high = {
                Rounding.HALF_EVEN: low % 2 == 1,
                Rounding.HALF_UP: np.ones(low.shape, dtype=bool),
                Rounding.HALF_AWAY: positive,
                Rounding.HALF_ZERO: np.logical_not(positive),
                Rounding.HALF_DPU: np.logical_not(positive) | (low % 2 == 1),
            }[mode]
            raised = (twice > self.bottom) | ((twice == self.bottom) & to_high)
        result: IntArray = low + np.where(raised, 1, 0)
        return result


def rectified(values: Rationals, slopes: np.ndarray | None) -> Rationals:
    """Relu (``slopes`` None) or LeakyRelu / PRelu of exact numbers."""
    factors = fractions([0])[0] if slopes is None else fractions(slopes)
    return values.where(values.top >= 0, values.times(np.asarray(factors, dtype=object)))


def _each(array: np.ndarray, part: Callable[[Fraction], int]) -> np.ndarray:
    result = np.empty(array.shape, dtype=object)
    result.reshape(-1)[:] = [part(item) for item in array.flat]
    return result
