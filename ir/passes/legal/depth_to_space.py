"""GR-3: DepthToSpace by operators of the hardware."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import attribute, shape_of
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import depth_to_space as moved
from dlaconv.ir.pipeline import Context


@legalisation("DepthToSpace", rules=("GR-3",))
def depth_to_space(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """DepthToSpace (pixel shuffle) becomes Reshape, Transpose and Reshape.

    Identity: Its definition: the channels are split into blocks of b x b and others, which are
    moved behind rows and columns. Mode DCR numbers channels (row, column, channel), CRD (channel,
    row, column).

    Conditions: Where the result is rounded, it is rounded in one way with one step; then the
    rounding is done before.

    Cost: None.
    """
    del context
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None or len(shape) != 4:
        return Blocked("the map has no rows and columns")
    size, mode = int(attribute(node, "blocksize", 1)), str(attribute(node, "mode", "DCR"))
    if size < 1 or shape[1] % size**2:
        return Blocked(f"{shape[1]} channels are no multiple of {size}x{size}")
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    builder = Builder(node)
    moved(builder, builder.x, (size, size), mode)
    return builder.plan(f"DepthToSpace of {size}x{size} blocks as Reshape, Transpose and Reshape")
