"""One form for averages over whole maps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    ints_attribute,
    is_op,
    is_optional_input_absent,
    rank_of,
    replace_node,
    shape_of,
)
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass(tolerance=1e-6)
def global_pooling(model: ir.Model, context: Context) -> None:
    """Replaces ``ReduceMean`` over all spatial axes with ``GlobalAveragePool`` (and a Reshape).

    The two add in different orders, so the last bit of a float may differ.
    """
    for node in model.graph:
        if not is_op(node, "ReduceMean") or not _over_space(node):
            continue
        source = node.inputs[0]
        shape = shape_of(source) if source is not None else None
        if source is None or shape is None:
            continue
        pooled = ir.node("GlobalAveragePool", [source], name=f"{stem(node)}/pool")
        pooled.outputs[0].dtype = source.dtype or ir.DataType.FLOAT
        pooled.outputs[0].shape = ir.Shape((*shape[:2], *(1 for _ in shape[2:])))
        if attribute(node, "keepdims", 1):
            pooled.name = node.name
            replace_node(node, pooled)
            continue
        pooled.outputs[0].name = pooled.name
        target = dialect.constant(f"{stem(node)}/shape", np.asarray(shape[:2], np.int64))
        replace_node(node, pooled, ir.node("Reshape", [pooled.outputs[0], target], name=node.name))


def _over_space(node: ir.Node) -> bool:
    rank = rank_of(node.inputs[0]) if node.inputs[0] is not None else None
    if rank is None or rank < 3:
        return False
    axes: tuple[int, ...] = ints_attribute(node, "axes")
    if not is_optional_input_absent(node, 1):
        constant = input_array(node, 1)
        if constant is None:
            return False
        axes = tuple(int(axis) for axis in constant)
    return sorted(axis % rank for axis in axes) == list(range(2, rank))
