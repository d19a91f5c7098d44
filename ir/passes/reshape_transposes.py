"""Finds the Transposes that move no value."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import ints_attribute, is_op, shape_of
from dlaconv.ir.passes.one_shape_op import make_reshape
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass()
def reshape_transposes(model: ir.Model, context: Context) -> None:
    """Replaces a Transpose that only moves axes of extent 1 with a Reshape.

    Not at the graph's border, where the Transpose says how the layout changes.
    """
    for node in model.graph:
        if is_op(node, "Transpose") and _moves_nothing(node):
            make_reshape(node)


def _moves_nothing(node: ir.Node) -> bool:
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    if source is None or shape is None:
        return False
    if source.is_graph_input() or node.outputs[0].is_graph_output():
        return False
    perm = ints_attribute(node, "perm") or tuple(reversed(range(len(shape))))
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)
