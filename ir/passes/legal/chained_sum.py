"""EL-1: sums of many maps as sums of two."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import is_constant, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("Sum", rules=("EL-1", "GR-3"), exact=False)
def chained_sum(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A sum of several maps that are not on one grid becomes a chain of Adds.

    Identity: a + b + c = (a + b) + c. Each sum in between is rounded to a step of its own; where
    weighted_sum can do it, one rounding is enough.

    Conditions: All maps have one shape, and none is a constant.

    Cost: None.
    """
    del context
    shapes = {shape_of(value) for value in node.inputs if value is not None}
    if any(map(is_constant, node.inputs)) or shapes != {shape_of(node.outputs[0])}:
        return Blocked("its maps are not all of one shape, or one is a constant")
    builder = Builder(node)
    total, *others = [value for value in node.inputs if value is not None]
    for value in others:
        total = builder.add(total, value)
    return builder.plan(f"a chain of {len(others)} Adds")
