"""Add, Div, standing activations and tables in the engine."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.engine.builder import Builder, Signal
from dlaconv.backends.access.engine.precision import DOUBLE, SINGLE, Factors, half_units
from dlaconv.backends.access.engine.requantise import Accumulator
from dlaconv.backends.access.semantics.problems import beyond_double
from dlaconv.backends.access.semantics.tables import approximate_table, table
from dlaconv.ir.layers import Layer
from dlaconv.ir.rounding import Rounding

_EXACT = 1 << SINGLE
_FINE = 256
"""Table entries per unit where a table is fed real numbers."""


def add(build: Builder, layer: Layer, a: Signal, b: Signal) -> Accumulator:
    """Add: both operands in units of the finer step."""
    exponents = [source.exponent for source in layer.inputs]
    finest = min(exponents)
    parts = max(a.parts, b.parts)
    shifts = [
        2 ** (exponent - finest) * (parts // x.parts)
        for x, exponent in zip((a, b), exponents, strict=True)
    ]
    bound = sum(x.magnitude * shift for x, shift in zip((a, b), shifts, strict=True))
    double = bound > _EXACT
    operands = [
        _shifted(build, x.value, shift, double=double)
        for x, shift in zip((a, b), shifts, strict=True)
    ]
    return Accumulator(
        build.op("Add", *operands),
        np.array(bound, dtype=object),
        Factors.one(layer.multipliers[0] / parts),
        parts,
        double=double,
        exact=a.exact and b.exact,
    )


def divide(
    build: Builder, layer: Layer, a: Signal, b: Signal, slopes: np.ndarray | None
) -> Accumulator:
    """Div: one correctly rounded division of integers; x / 0 saturates by sign, 0 / 0 is 0.

    Args:
        build: the graph.
        layer: a Div.
        a: the dividend.
        b: the divisor.
        slopes: slopes of an activation to apply before the division.

    Raises:
        ConversionError: if the steps are too far apart for double precision.
    """
    worth = layer.multipliers[0] * b.parts / a.parts
    half = half_units(layer.output)
    given = [Fraction(float(slope)) for slope in np.ravel(slopes)] if slopes is not None else []
    digits = max([1, *(abs(slope.numerator) for slope in given)])
    finest = max([1, *(slope.denominator for slope in given)])
    # In 2 v = M / Q: |M| is at most 2 |a| worth, Q at most |b| / worth (see `precision`).
    fits = [
        2 * a.magnitude * worth.numerator * digits < 1 << bits
        or (slopes is None and half * b.magnitude * worth.denominator < 1 << bits)
        for bits in (SINGLE, DOUBLE)
    ]
    if not any(fits):
        raise beyond_double(layer)
    double = slopes is not None or not fits[0]
    x, y = (build.to_double(s.value) if double else s.value for s in (a, b))

    def number(value: float | Fraction) -> ir.Value:
        return build.constant(float(value), double=double)

    by_zero = build.op("Equal", y, number(0.0))
    ends = (number(end) for end in (layer.output.qmin, layer.output.qmax))
    extreme = build.op("Clip", build.op("Mul", x, number(half)), *ends)
    if slopes is not None:
        slope = build.constant(slopes, double=True)
        falling = build.op("Less", build.op("Mul", x, y), number(0.0))
        x = build.op("Where", falling, build.op("Mul", x, slope), x)
        low = build.op("Mul", build.op("Min", extreme, number(0.0)), slope)
        extreme = build.op("Add", build.op("Max", extreme, number(0.0)), low)
    divisor = build.op("Where", by_zero, number(1.0), build.op("Mul", y, number(1 / worth)))
    value = build.op("Where", by_zero, extreme, build.op("Div", x, divisor))
    return Accumulator(
        value,
        np.array(a.magnitude, dtype=object),
        Factors.one(worth / ((2 * b.magnitude + 1) * finest)),  # finer than any quotient
        double=double,
        folded=True,
        exact=a.exact and b.exact,
    )


def look_up(build: Builder, layer: Layer, x: Signal, rounding: Rounding) -> ir.Value:
    """Tanh, Sigmoid, HardSwish: one entry of the table for every content of the tensor."""
    source = layer.inputs[0]
    value, parts = x.value, x.parts
    if x.exact:
        entries = build.constant(table(layer, rounding, parts=parts))
    else:
        parts = _FINE
        value = build.op("Round", build.op("Mul", value, build.constant(float(parts))))
        entries = build.constant(approximate_table(layer, rounding, parts=parts))
    ends = (build.constant(end * parts) for end in (source.qmin, source.qmax))
    inside = value if x.exact and parts == 1 else build.op("Clip", value, *ends)
    offset = build.op("Sub", inside, build.constant(source.qmin * parts))
    return build.op("Gather", entries, build.op("Cast", offset, to=int(ir.DataType.INT64)))


def _shifted(build: Builder, x: ir.Value, shift: int, *, double: bool) -> ir.Value:
    if double:
        x = build.to_double(x)
    return x if shift == 1 else build.op("Mul", x, build.constant(float(shift), double=double))
