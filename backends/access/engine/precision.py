"""When float arithmetic gives the integer that exact arithmetic gives; see ``docs/simulator.md``.

A result is ``v = N f``: an integer accumulator times a rational factor, computed with one float
rounding. Its integer depends only on how ``v`` compares with the half-integers ``h/2``, where
``|h| <= H`` because everything beyond saturates. Write ``2 v = M / Q`` with integers. Rounding to
p bits is monotone and keeps every ``h`` that it can hold, so it can only spoil a comparison by
moving ``2 v`` onto some ``h != 2 v``. That needs ``|h| Q >= 2^p`` and ``|M| >= 2^p``. So the
integer is right in every rounding mode if ``|M| < 2^p`` or ``H Q < 2^p``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import numpy as np

from dlaconv.ir.layers import Map

SINGLE, DOUBLE = 24, 53
"""Bits of a float32 and of a float64 significand."""
_EXPONENTS = {SINGLE: 100, DOUBLE: 900}


@dataclass(frozen=True, eq=False)
class Factors:
    """Exact factors that broadcast against a tensor.

    Attributes:
        distinct: the different factors.
        which: the index of each factor among them; an array of int that broadcasts.
    """

    distinct: tuple[Fraction, ...]
    which: np.ndarray

    @classmethod
    def one(cls, factor: Fraction) -> Factors:
        """One factor for the whole tensor."""
        return cls((factor,), np.zeros((), np.int64))

    def over(self, divisor: int) -> Factors:
        """The factors divided by a positive integer."""
        if divisor == 1:
            return self
        return replace(self, distinct=tuple(factor / divisor for factor in self.distinct))

    def floats(self, of: Callable[[Fraction], float] = float) -> np.ndarray:
        """A float64 for each factor, in the shape that broadcasts."""
        found: np.ndarray = np.array([of(factor) for factor in self.distinct])[self.which]
        return found


@dataclass(frozen=True)
class Term:
    """What one channel (or window) hands to its final rounding.

    Attributes:
        bound: largest magnitude of the integer accumulator N, in any order of summation.
        factor: what one unit of N is worth in units of the output.
    """

    bound: int
    factor: Fraction

    def times(self, factor: Fraction) -> Term:
        """The term with another factor behind it."""
        return self if factor == 1 else replace(self, factor=self.factor * factor)

    @property
    def doubled(self) -> tuple[int, int]:
        """Bound of ``|M|``, and ``Q``, in ``2 N factor = M / Q``."""
        top, bottom = abs(self.factor.numerator), self.factor.denominator
        return (
            (self.bound * top, bottom // 2) if bottom % 2 == 0 else (2 * self.bound * top, bottom)
        )


def half_units(stored: Map) -> int:
    """H: no half-integer beyond ``H/2`` separates two integers of a map."""
    return 2 * max(abs(stored.qmin), abs(stored.qmax)) + 2


def rounds_right(term: Term, half: int, bits: int) -> bool:
    """True if one float operation on N gives the right integer in every rounding mode.

    Args:
        term: the accumulator and its factor.
        half: H of the output map.
        bits: `SINGLE` or `DOUBLE`.
    """
    magnitude, quotient = term.doubled
    return magnitude < 1 << bits or half * quotient < 1 << bits


def adding_half_is_safe(term: Term, half: int, bits: int) -> bool:
    """True if ``floor(v + 0.5)`` is half-up, although the sum is rounded to ``bits``.

    The two roundings move ``v`` by less than ``(H/2 + 1) 2^(1 - bits)``; the nearest half-integer
    is ``1 / (2 Q)`` away or hit exactly.
    """
    return half * term.doubled[1] < 1 << (bits - 2)


def holds(value: Fraction, bits: int) -> bool:
    """True if a float of ``bits`` bits holds a number exactly, far from its smallest exponents."""
    return holds_ratio(value.numerator, value.denominator, bits)


def holds_ratio(top: int, bottom: int, bits: int) -> bool:
    """`holds` of a reduced fraction; its denominator is positive."""
    if top == 0:
        return True
    return (
        bottom & (bottom - 1) == 0
        and odd_part(abs(top)) < 1 << bits
        and max(top.bit_length(), bottom.bit_length()) < _EXPONENTS[bits]
    )


def moderate(value: Fraction, bits: int) -> bool:
    """True if a number is far from the exponents where floats overflow or lose bits."""
    return max(value.numerator.bit_length(), value.denominator.bit_length()) < _EXPONENTS[bits]


def odd_part(number: int) -> int:
    """A positive integer without its factors of two."""
    return number // (number & -number)


def steps_right(compute: Callable[[np.ndarray], np.ndarray], term: Term, half: int) -> bool:
    """Proves ``compute`` by trying both sides of every threshold.

    ``compute`` maps integers N to floats near ``N factor`` and is monotone, as any chain of
    multiplications and divisions by positive constants is. It compares like the exact value with
    all half-integers if it does so at the last N before and the first N from each of them on.

    Args:
        compute: what the engine does, on float64 arrays.
        term: the accumulator and its positive factor.
        half: H of the output map.
    """
    thresholds = range(-half, half + 1)
    exact = [Fraction(h, 2) / term.factor for h in thresholds]
    first = [ceil(value) for value in exact]
    inside = [
        (h, n, value)
        for h, value, start in zip(thresholds, exact, first, strict=True)
        for n in (start - 1, start, start + 1)
        if abs(n) <= term.bound
    ]
    got = compute(np.array([float(n) for _, n, _ in inside]))
    return all(
        _sign(Fraction(float(v)) - Fraction(h, 2)) == _sign(n - value)
        for v, (h, n, value) in zip(got, inside, strict=True)
    )


def _sign(value: Fraction | int) -> int:
    return (value > 0) - (value < 0)
