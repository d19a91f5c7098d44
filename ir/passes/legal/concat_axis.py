"""CT-1: maps joined along another axis than that of the channels."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.ir.graph import attribute, is_constant, shape_of
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("Concat", rules=("CT-1",))
def concat_axis(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Maps that are joined along rows, columns or positions are turned, joined and turned back.

    Identity: With axes before the one in question merged into P, and it merged with those behind
    into D, a map is [1, P, D]. Transposed to [1, D, P], the maps are joined along axis 1, and what
    comes out is transposed back. Where P is 1 there is nothing to transpose.

    Conditions: None of the maps is a constant. The axis is not that of the samples, but that of the
    rows of matrices may be the first.

    Cost: None; values are moved.
    """
    del context
    result = shape_of(node.outputs[0])
    shapes = [shape_of(value) if value is not None else None for value in node.inputs]
    axis = int(attribute(node, "axis", 1))
    if result is None or axis in {1, 1 - len(result)}:
        return None
    axis = axis + len(result) if axis < 0 else axis
    if any(map(is_constant, node.inputs)):
        return Blocked("one of the maps is a constant")
    if axis == 0 and len(result) > 2:
        return Blocked("the hardware has no axis of samples to join maps along")
    if axis > 0 and result[0] != 1:
        return Blocked(f"the maps hold {result[0]} samples")
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    builder, parts = Builder(node), []
    before = math.prod(result[:axis])
    for value, shape in zip(node.inputs, shapes, strict=True):
        assert value is not None
        assert shape is not None
        behind = math.prod(shape[axis:])
        flat = builder.reshape(value, (1, behind) if before == 1 else (1, before, behind))
        parts.append(flat if before == 1 else builder.transpose(flat, (0, 2, 1)))
    joined = builder.concat(parts)
    joined = joined if before == 1 else builder.transpose(joined, (0, 2, 1))
    builder.reshape(joined, result)
    return builder.plan(f"{len(parts)} maps joined along axis {axis} as along axis 1")
