"""Rounding modes as ONNX operators on floats."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.backends.access.engine.builder import Builder
from dlaconv.ir.rounding import Rounding


def emit_rounding(
    build: Builder, x: ir.Value, mode: Rounding, *, double: bool, add_half: bool
) -> ir.Value:
    """Rounds a tensor to integers.

    Args:
        build: the graph.
        x: a float tensor.
        mode: the rounding mode.
        double: True if ``x`` is float64.
        add_half: True if ``floor(x + 0.5)`` is known to be exact for these values
            (`precision.adding_half_is_safe`); else the fraction is compared with 0.5.
    """
    half = build.constant(0.5, double=double)

    def up_from(value: ir.Value, compare: str) -> ir.Value:
        low = build.op("Floor", value)
        raised = build.op(compare, build.op("Sub", value, low), half)
        kind = ir.DataType.DOUBLE if double else ir.DataType.FLOAT
        return build.op("Add", low, build.op("Cast", raised, to=int(kind)))

    def half_up(value: ir.Value) -> ir.Value:
        if add_half:
            return build.op("Floor", build.op("Add", value, half))
        return up_from(value, "GreaterOrEqual")

    def half_down(value: ir.Value) -> ir.Value:
        if add_half:
            return build.op("Ceil", build.op("Sub", value, half))
        return up_from(value, "Greater")

    if mode is Rounding.HALF_EVEN:
        return build.op("Round", x)
    if mode is Rounding.HALF_UP:
        return half_up(x)
    if mode is Rounding.HALF_DPU:
        zero = build.constant(0.0, double=double)
        below, above = build.op("Min", x, zero), build.op("Max", x, zero)
        return build.op("Add", half_up(below), build.op("Round", above))
    if mode is Rounding.FLOOR:
        return build.op("Floor", x)
    if mode is Rounding.CEIL:
        return build.op("Ceil", x)
    magnitude = build.op("Abs", x)
    if mode is Rounding.HALF_AWAY:
        rounded = half_up(magnitude)
    elif mode is Rounding.HALF_ZERO:
        rounded = half_down(magnitude)
    else:
        rounded = build.op("Ceil" if mode is Rounding.UP else "Floor", magnitude)
    return build.op("Mul", build.op("Sign", x), rounded)
