"""`Integers`: what a quantiser makes of a constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_TYPES = (np.int8, np.int16, np.int32)


@dataclass(frozen=True)
class Integers:
    """Integers and what one of them is worth.

    Attributes:
        values: the integers, of whatever type holds them.
        step: real value of one unit, float32; broadcasts against the integers.
    """

    values: np.ndarray
    step: np.ndarray

    @property
    def reals(self) -> np.ndarray:
        """The real values, float32."""
        found: np.ndarray = self.values.astype(np.float32) * self.step
        return found

    def moved(self, change: Callable[[np.ndarray], np.ndarray]) -> Integers:
        """The same in another layout, in the smallest type of integers.

        Args:
            change: moves elements of an array of the integers' shape.

        Raises:
            OverflowError: if there are values that no such type holds, or that are no numbers.
        """
        low, high = float(self.values.min(initial=0)), float(self.values.max(initial=0))
        fits = [t for t in _TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max]
        if not fits or not (np.isfinite(self.step).all() and (self.step > 0).all()):
            raise OverflowError
        kind = fits[0]
        step = np.asarray(self.step, np.float32)
        if step.size > 1:
            step = _narrowed(change(np.broadcast_to(step, self.values.shape)))
        else:
            step = step.reshape(())
        return Integers(change(self.values.astype(kind)), step)


def on_grid(reals: np.ndarray, exponents: np.ndarray) -> Integers:
    """Powers of two as integers: the unit is the smallest one of each output channel.

    Args:
        reals: the values, each a power of two with a sign.
        exponents: their exponents.

    Raises:
        OverflowError: if the powers of a channel are too far apart for integers of 32 bits.
    """
    axes = tuple(range(exponents.ndim - 1)) if exponents.ndim > 1 else None
    least = exponents.min(axis=axes, keepdims=True)
    if exponents.size and (exponents - least).max() > 30:
        raise OverflowError
    values = np.sign(reals) * np.exp2(exponents - least)
    return Integers(values.astype(np.int64), np.exp2(least).astype(np.float32))


def smallest(values: np.ndarray, exponents: np.ndarray) -> Integers:
    """Integers on grids of their own, on the coarsest grid of each output channel that has all.

    Args:
        values: integers.
        exponents: of the power of two that one unit of each is worth.

    Raises:
        OverflowError: if the integers of a channel take more than 31 bits.
    """
    values = values.astype(np.int64)
    twos = np.where(values != 0, np.log2((values & -values).clip(1)), np.inf)
    axes = tuple(range(values.ndim - 1)) if values.ndim > 1 else None
    least = (exponents + twos).min(axis=axes, keepdims=True)
    least = np.where(np.isfinite(least), least, 0)
    shift = np.where(values != 0, exponents - least, 0)
    if (np.log2(np.abs(values).clip(1)) + shift).max(initial=0) >= 31:
        raise OverflowError
    return Integers(np.rint(values * np.exp2(shift)), np.exp2(least).astype(np.float32))


def dyadic(reals: np.ndarray, bits: int) -> Integers:
    """Values that were rounded to multiples of powers of two, as integers: see `smallest`.

    Args:
        reals: float32.
        bits: that the integers may take, sign included.

    Raises:
        OverflowError: if they take more, or there are values that are not finite.
    """
    if not np.isfinite(reals).all():
        raise OverflowError
    fractions, exponents = np.frexp(reals.astype(np.float64))
    found = smallest(np.rint(np.ldexp(fractions, 24)), exponents - 24.0)
    if np.abs(found.values).max(initial=0) >= 2 ** (bits - 1):
        raise OverflowError
    return found


def _narrowed(array: np.ndarray) -> np.ndarray:
    """An array without the axes along which it does not change."""
    for axis in range(array.ndim):
        first = np.take(array, [0], axis)
        if array.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return np.ascontiguousarray(array)
