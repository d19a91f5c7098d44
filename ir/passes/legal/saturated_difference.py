"""GR-3: differences of maps whose smallest integer has no negative."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import is_constant, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.diagonal import diagonal_layer
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("Sub", rules=("GR-3",), exact=False)
def saturated_difference(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """The difference of two maps becomes a sum with the negated second, which may saturate.

    Identity: a - b = a + (-b), as in subtract_maps; but the negative of -128 is stored as 127, or
    -b is rounded once more than b.

    Conditions: Both maps have one shape.

    Cost: One multiplication per value of b, C if the convolution is dense.
    """
    left, right = node.inputs
    if left is None or right is None or is_constant(left) or is_constant(right):
        return None
    shape = shape_of(left)
    if shape is None or shape != shape_of(right) or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    builder = Builder(node)
    ones = np.ones(shape[1] if len(shape) > 1 else 1)
    negated = diagonal_layer(builder, right, -ones, 0 * ones, context.target)
    if isinstance(negated, Blocked):
        return negated
    builder.add(left, builder.stored_like(negated, right))
    return builder.plan("an Add of the negated map, of which -128 becomes 127")
