"""The grid values 2^n/a that the float32 weight scales of a file stand for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

_FLOAT32_ERROR = 2.0**-22


def exact_step(value: float) -> Fraction:
    """The grid value that a float32 weight scale stands for.

    2^n/a is inexact in float32 for most ``a``; the nearest grid value within 2^-22 is meant.
    A value on neither grid (2^n/a, a/2^n) stands for itself.

    Raises:
        ValueError: if the scale is not positive and finite.
    """
    return exact_steps(np.array([value]))[0]


def exact_steps(values: np.ndarray) -> tuple[Fraction, ...]:
    """The grid values that float32 weight scales stand for; see `exact_step`.

    Args:
        values: scales, one-dimensional.

    Raises:
        ValueError: if a scale is not positive and finite.
    """
    literal = np.asarray(values, np.float64)
    near = _on_grid(literal)
    return tuple(
        _dyadic_over(n, a) if on_grid else Fraction(value)
        for value, on_grid, n, a in zip(*(x.tolist() for x in (literal, *near)), strict=True)
    )


def grid_steps(values: np.ndarray) -> np.ndarray:
    """The grid values that float32 weight scales stand for, in float64; see `exact_step`.

    Args:
        values: scales, any shape.

    Raises:
        ValueError: if a scale is not positive and finite.
    """
    literal = np.asarray(values, np.float64)
    on_grid, n, a = _on_grid(literal)
    steps: np.ndarray = np.where(on_grid, np.ldexp(1 / a, n), literal)
    return steps


def _on_grid(literal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where scales stand for 2^n/a, the exponents n, and the divisors a (128 to 256)."""
    if not (np.isfinite(literal) & (literal > 0)).all():
        wrong = literal[~(np.isfinite(literal) & (literal > 0))].flat[0]
        raise ValueError(f"a weight step must be positive and finite, not {wrong}")
    mantissa, exponent = np.frexp(literal)
    dyadic = np.floor(mantissa * 256) == mantissa * 256  # a/2^n with a below 256: exact
    ideal = 128 / mantissa
    lower = np.floor(ideal)
    candidates = np.stack([lower, lower + 1])
    errors = np.abs(ideal / candidates - 1)
    divisor = np.where(errors[0] <= errors[1], *candidates)
    near = ~dyadic & (errors.min(axis=0) <= _FLOAT32_ERROR)
    return near, exponent + 7, divisor.astype(np.int64)


def _dyadic_over(n: int, a: int) -> Fraction:
    return Fraction(1 << n, a) if n >= 0 else Fraction(1, a << -n)
