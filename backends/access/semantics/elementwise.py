"""Add and Div of two maps."""

from __future__ import annotations

import numpy as np

from dlaconv.backends.access.semantics.rationals import Rationals, fractions
from dlaconv.ir.layers import Layer


def add(layer: Layer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add: both operands shifted left to the finer step, then an integer sum."""
    left, right = layer.inputs
    finest = min(left.exponent, right.exponent)
    return np.asarray(
        a.astype(object) * 2 ** (left.exponent - finest)
        + b.astype(object) * 2 ** (right.exponent - finest)
    )


def divide(layer: Layer, a: np.ndarray, b: np.ndarray) -> Rationals:
    """Div: the exact quotient; x / 0 is the output's largest or smallest integer, 0 / 0 is 0."""
    a, b = np.broadcast_arrays(a.astype(object), b.astype(object))
    sign = np.where(b < 0, -1, 1)
    quotient = Rationals(a * sign, np.where(b == 0, 1, b * sign))
    extreme = np.where(a > 0, layer.output.qmax, np.where(a < 0, layer.output.qmin, 0))
    worth = quotient.times(fractions(layer.multipliers[:1]).reshape(()))
    return worth.where(b != 0, Rationals.of(extreme))
