"""Weights whose input channels are multiplied by factors, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from dlaconv.ir.passes.linear_ops import Weights

_SAME = 1e-6
"""Two factors closer than this (relative) are one: float32 steps differ by less."""
_LARGEST_DIVISOR = 1 << 14  # of two products with 8 bits each
_SMALLEST_EXPONENT = -32
_MOST = 1 << 40


@dataclass(frozen=True)
class Obstacle:
    """Why weights cannot take factors: two input channels of one row.

    Attributes:
        channels: the input channels.
        factors: their factors.
    """

    channels: tuple[int, int]
    factors: tuple[float, float]


def multiply_columns(
    weights: Weights, factors: np.ndarray, limits: tuple[int, int]
) -> Weights | Obstacle:
    """Weights times one positive factor per input channel.

    A row of integers has one step. So the factors of its non-zero weights must be as 1 : n : m for
    integers with which every product stays within the limits. A common factor, such as the only
    one of a depth-wise convolution, goes into the step and moves no integer.

    Args:
        weights: ``[O, I, ...]``, output channels first.
        factors: ``[O, I]``, the factor of each row's input channels.
        limits: smallest and largest integer of a weight.
    """
    shape = (*factors.shape, *(1,) * (weights.array.ndim - 2))
    if weights.steps is None:
        product = weights.array * factors.reshape(shape)
        return replace(weights, array=product.astype(weights.array.dtype))
    multipliers = np.ones(factors.shape, np.int64)
    divisors = np.ones(len(factors), np.int64)
    steps = np.array(weights.steps, np.float64)
    used = (weights.array != 0).reshape(*factors.shape, -1).any(axis=2)
    for row, present in enumerate(used):
        if not present.any():
            continue
        own = factors[row][present]
        largest = float(own.max())
        steps[row] *= largest
        if own.min() >= largest * (1 - _SAME):
            continue
        whole, denominator = _integers(own / largest)
        divisor = _divisor(weights.array[row][present], whole, limits)
        if divisor is None:
            return _obstacle(present, own)
        multipliers[row, present], divisors[row] = whole, divisor
        steps[row] *= divisor / denominator
    integers = weights.array.astype(np.int64) * multipliers.reshape(shape)
    integers //= divisors.reshape(-1, *(1,) * (integers.ndim - 1))
    return replace(weights, array=integers.astype(weights.array.dtype), steps=steps)


def _obstacle(present: np.ndarray, factors: np.ndarray) -> Obstacle:
    ends = int(factors.argmin()), int(factors.argmax())
    channels = np.flatnonzero(present)
    return Obstacle(
        (int(channels[ends[0]]), int(channels[ends[1]])),
        (float(factors[ends[0]]), float(factors[ends[1]])),
    )


def _integers(ratios: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers without a common divisor, and the number that they are to be divided by.

    The integers are empty if the ratios, at most one each, are no small fractions.
    """
    nothing = np.zeros(0, np.int64), 1
    levels, index = np.unique(ratios, return_inverse=True)
    fractions = []
    for level in levels:
        mantissa, exponent = math.frexp(level)
        near = Fraction(mantissa).limit_denominator(_LARGEST_DIVISOR)
        if abs(float(near) / mantissa - 1) > _SAME or exponent < _SMALLEST_EXPONENT:
            return nothing
        fractions.append(near * Fraction(2) ** exponent)
    denominator = math.lcm(*(fraction.denominator for fraction in fractions))
    if denominator > _MOST:
        return nothing
    whole = np.array([int(fraction * denominator) for fraction in fractions], np.int64)
    common = int(np.gcd.reduce(whole))
    return (whole // common)[index], denominator // common


def _divisor(row: np.ndarray, whole: np.ndarray, limits: tuple[int, int]) -> int | None:
    """What the products of a row must be divided by to fit, one if they do; None if they cannot.

    Args:
        row: integers ``[I, ...]``, none of the channels zero.
        whole: ``[I]``, what they are multiplied by.
        limits: smallest and largest integer.
    """
    if not whole.size:
        return None
    products = row.reshape(len(row), -1).astype(np.int64) * whole[:, None]
    low, high = int(products.min()), int(products.max())
    if limits[0] <= low and high <= limits[1]:
        return 1
    divisor = int(np.gcd.reduce(products, axis=None))
    fits = limits[0] <= low // divisor and high // divisor <= limits[1]
    return divisor if fits else None
