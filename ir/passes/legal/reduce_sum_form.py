"""RS-1: sums that drop their axes, or count the batch among them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.averages import reduced_axes
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("ReduceSum", rules=("RS-1",))
def reduce_sum_form(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A sum over axes of one sample keeps its axes; a Reshape drops them.

    Identity: An axis of one element holds what the dropped axis left. The batch has one sample, the
    sum over which is the sample.

    Conditions: The axes are constants, and the batch holds one sample.

    Cost: None.
    """
    del context
    axes = reduced_axes(node)
    x = node.inputs[0]
    if axes is None or x is None or x.dtype != ir.DataType.FLOAT:
        return None
    dropped, batch = not attribute(node, "keepdims", 1), 0 in axes
    if not axes or not (dropped or batch):
        return None
    before, after = shape(x), shape(node.outputs[0])
    if batch and before[0] != 1:
        return Blocked(f"it sums over a batch of {before[0]} samples")
    builder = Builder(node)
    wanted = [axis for axis in axes if axis]
    kept = tuple(1 if axis in wanted else extent for axis, extent in enumerate(before))
    value = x
    if wanted:
        constant = builder.constant("axes", np.asarray(wanted, np.int64))
        value = builder.op("ReduceSum", [x, constant], kept, keepdims=1)
    if kept != after or not wanted:
        builder.reshape(value, after)
    return builder.plan("a sum that keeps its axes, and a Reshape" if wanted else "a Reshape")
