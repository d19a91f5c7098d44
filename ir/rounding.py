"""Rounding to integers, one mode at a time; see ``docs/rounding.md`` for where each comes from."""

from __future__ import annotations

import enum
from fractions import Fraction
from math import ceil, floor

import numpy as np


class Rounding(enum.StrEnum):
    """How a real number becomes an integer.

    The half modes go to the nearest integer and differ at ties only. Sources differ in their
    choice, and in power-of-two networks 0.1 to 6 % of the values are ties.
    """

    HALF_EVEN = "half-even"
    """Ties to the even neighbour (IEEE 754, ONNX ``Round``, ``numpy.rint``)."""
    HALF_UP = "half-up"
    """Ties towards plus infinity: ``floor(x + 1/2)``, hardware's add-half-and-shift."""
    HALF_AWAY = "half-away"
    """Ties away from zero (C ``round``, QONNX ``HALF_UP``)."""
    HALF_ZERO = "half-to-zero"
    """Ties towards zero (QONNX ``HALF_DOWN``)."""
    HALF_DPU = "half-dpu"
    """Positive ties to the even neighbour, negative ones up (AMD's DPU, Brevitas ``dpu``)."""
    FLOOR = "floor"
    """Towards minus infinity: an arithmetic shift right."""
    CEIL = "ceil"
    """Towards plus infinity."""
    UP = "up"
    """Away from zero (QONNX ``UP``)."""
    DOWN = "down"
    """Towards zero, truncation (QONNX ``DOWN``)."""

    @property
    def nearest(self) -> bool:
        """True for the half modes, whose error is at most half a unit."""
        return self.value.startswith("half")


def round_exact(value: Fraction, mode: Rounding) -> int:
    """Rounds an exact rational; the definition that every other implementation is tested against.

    Args:
        value: any rational number.
        mode: the rounding mode.
    """
    low, high = floor(value), ceil(value)
    if low == high:
        return low
    to_zero, from_zero = (low, high) if value > 0 else (high, low)
    directed = {
        Rounding.FLOOR: low,
        Rounding.CEIL: high,
        Rounding.UP: from_zero,
        Rounding.DOWN: to_zero,
    }
    if mode in directed:
        return directed[mode]
    double = 2 * (value - low)
    if double != 1:
        return low if double < 1 else high
    ties = {
        Rounding.HALF_EVEN: low if low % 2 == 0 else high,
        Rounding.HALF_UP: high,
        Rounding.HALF_AWAY: from_zero,
        Rounding.HALF_ZERO: to_zero,
        Rounding.HALF_DPU: low if value > 0 and low % 2 == 0 else high,
    }
    return ties[mode]


def round_array(values: np.ndarray, mode: Rounding) -> np.ndarray:
    """Rounds floats elementwise, keeping their dtype.

    ``floor(x + 0.5)`` is not used: in float32 it is wrong at 0.49999997, where the sum rounds up
    to 1. The fraction ``x - floor(x)`` is exact below 2^23 (float32) or 2^52 (float64).

    Args:
        values: any shape.
        mode: the rounding mode.
    """
    result: np.ndarray
    if mode is Rounding.HALF_EVEN:
        result = np.rint(values)
    elif mode is Rounding.FLOOR:
        result = np.floor(values)
    elif mode is Rounding.CEIL:
        result = np.ceil(values)
    elif mode is Rounding.HALF_UP:
        result = _up_from(np.floor(values), values, np.greater_equal)
    elif mode is Rounding.HALF_DPU:
        upwards = round_array(values, Rounding.HALF_UP)
        result = np.where(values < 0, upwards, np.rint(values))
    else:
        magnitude = np.abs(values)
        low = np.floor(magnitude)
        if mode is Rounding.UP:
            low = np.ceil(magnitude)
        elif mode is Rounding.HALF_AWAY:
            low = _up_from(low, magnitude, np.greater_equal)
        elif mode is Rounding.HALF_ZERO:
            low = _up_from(low, magnitude, np.greater)
        result = np.copysign(low, values)
    return result


def _up_from(low: np.ndarray, values: np.ndarray, compare: np.ufunc) -> np.ndarray:
    raised: np.ndarray = low + compare(values - low, 0.5).astype(low.dtype)
    return raised
