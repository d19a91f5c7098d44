"""Tanh, Sigmoid and HardSwish: a table of the exact function, every entry rounded once."""

from __future__ import annotations

import decimal
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from dlaconv.ir.layers import Layer
from dlaconv.ir.rounding import Rounding, round_array, round_exact

_FLAT = 400
"""exp(-400) stands for anything smaller: no step is fine enough to tell them from 0."""
_FIRST_DIGITS = 40


def table(layer: Layer, rounding: Rounding, *, parts: int = 1) -> np.ndarray:
    """The output for every input integer, saturated.

    Args:
        layer: a Tanh, Sigmoid or HardSwish, perhaps with a Relu behind it.
        rounding: the one rounding.
        parts: entries per unit of the input (2 for a table that half units can be looked up in).

    Returns:
        int64, one entry for each of ``qmin * parts .. qmax * parts``.
    """
    source, stored = layer.inputs[0], layer.output
    low = max(stored.qmin, 0) if layer.activation is not None else stored.qmin
    numbers = range(source.qmin * parts, source.qmax * parts + 1)
    entries = _entries(layer.op, numbers, source.step / parts, stored.step, rounding)
    return np.asarray(np.clip(np.array(entries, dtype=object), low, stored.qmax), np.int64)


@lru_cache(maxsize=256)
def _entries(
    function: str, numbers: range, step_in: Fraction, step: Fraction, rounding: Rounding
) -> tuple[int, ...]:
    """``f(n * step_in) / step``, rounded; layers with the same steps have the same table."""
    return tuple(rounded_function(function, n * step_in, step, rounding) for n in numbers)


def approximate_table(layer: Layer, rounding: Rounding, *, parts: int) -> np.ndarray:
    """`table` in double precision: quick for many parts, not proven at ties."""
    source, stored = layer.inputs[0], layer.output
    x = np.arange(source.qmin * parts, source.qmax * parts + 1) * (float(source.step) / parts)
    with np.errstate(over="ignore"):
        if layer.op == "Tanh":
            value = np.tanh(x)
        elif layer.op == "Sigmoid":
            value = 1 / (1 + np.exp(-x))
        else:
            value = x * np.clip(x / 6 + 0.5, 0, 1)
    low = max(stored.qmin, 0) if layer.activation is not None else stored.qmin
    return np.asarray(np.clip(round_array(value / float(stored.step), rounding), low, stored.qmax))


def look_up(layer: Layer, x: np.ndarray, rounding: Rounding) -> np.ndarray:
    """The table's entries for the integers of a map."""
    return np.asarray(table(layer, rounding)[x - layer.inputs[0].qmin])


def rounded_function(function: str, x: Fraction, step: Fraction, mode: Rounding) -> int:
    """``f(x) / step`` rounded once, for any rational ``x``.

    tanh and sigmoid of a rational other than 0 are irrational (Lindemann-Weierstrass), so they are
    never ties: the precision is raised until both ends of an enclosure round to one integer.

    Args:
        function: ``Tanh``, ``Sigmoid`` or ``HardSwish``.
        x: the argument.
        step: real value of one unit of the result.
        mode: the rounding mode.
    """
    if function == "HardSwish":
        return round_exact(
            x * min(Fraction(1), max(Fraction(0), x / 6 + Fraction(1, 2))) / step, mode
        )
    if x == 0:
        return 0 if function == "Tanh" else round_exact(Fraction(1, 2) / step, mode)
    digits = _FIRST_DIGITS
    while True:
        low, high = (round_exact(end / step, mode) for end in _enclosure(function, x, digits))
        if low == high:
            return low
        digits *= 2


def _enclosure(function: str, x: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Rationals below and above tanh(x) or sigmoid(x), apart by about 10^-digits."""
    magnitude = abs(x)
    near, far = _exp_minus(2 * magnitude if function == "Tanh" else magnitude, digits)
    if function == "Tanh":
        low, high = (1 - far) / (1 + far), (1 - near) / (1 + near)
        return (low, high) if x > 0 else (-high, -low)
    if x > 0:
        return 1 / (1 + far), 1 / (1 + near)
    return near / (1 + near), far / (1 + far)


def _exp_minus(x: Fraction, digits: int) -> tuple[Fraction, Fraction]:
    """Rationals below and above exp(-x) for x > 0."""
    if x > _FLAT:
        x = Fraction(_FLAT)
    with decimal.localcontext(decimal.Context(prec=digits + 5)):
        value = Fraction((-(Decimal(x.numerator) / Decimal(x.denominator))).exp())
    slack = Fraction(1, 10**digits) * (1 + x)
    return value * (1 - slack), min(value * (1 + slack), Fraction(1))
