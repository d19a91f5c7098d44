"""PL-5: padded max pools of maps in floating point that may be negative."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.identity import scaled_window, shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.pool_windows import indices_read, plain_pool
from dlaconv.ir.passes.non_negative import non_negative
from dlaconv.ir.pipeline import Context


@legalisation("MaxPool", rules=("PL-5",), exact=False)
def max_pool_shift(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A padded max pool works on values that are raised above zero, and lowered behind it.

    Identity: max(x + c) = max(x) + c. With c such that x + c is never negative, zeros never win, so
    that max_pool_padding can pad with them. Both additions are layers, which round.

    Conditions: The map is in floating point and nothing but its lowest value is known, as behind
    HardSwish. Maps that are quantised or never negative need no shift.

    Cost: Two multiplications per value.
    """
    window = plain_pool(node)
    x = node.inputs[0]
    if window is None or x is None or not any(window.pads[:2]) or indices_read(node):
        return None
    if stored_quantisation(x) is not None or non_negative(x):
        return None
    low = IntervalBounds().of(x)[0]
    if not math.isfinite(low):
        return None
    builder = Builder(node)
    raised = _moved(builder, context, x, -low)
    if isinstance(raised, Blocked):
        return raised
    pooled = builder.max_pool(builder.relu(raised), window.kernel, window.strides, window.pads)
    lowered = _moved(builder, context, pooled, low)
    if isinstance(lowered, Blocked):
        return lowered
    return builder.plan(f"the pool of the map raised by {-low:.6g}")


def _moved(builder: Builder, context: Context, x: ir.Value, offset: float) -> ir.Value | Blocked:
    """A map plus a number."""
    bias = np.full(shape(x)[1], offset)
    return scaled_window(builder, context, x, np.ones((1, 1), np.int8), bias=bias)
