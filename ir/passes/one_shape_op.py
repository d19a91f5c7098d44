"""One operator for every change of shape: Reshape with a constant static shape."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    bypass,
    input_array,
    is_op,
    producer,
    remove,
    replace_node,
    shape_of,
)
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass

SHAPE_OPS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


@ir_pass()
def one_shape_op(model: ir.Model, context: Context) -> None:
    """Replaces Flatten, Squeeze, Unsqueeze and computed Reshape with ``Reshape(x, constant)``.

    ``Reshape(Reshape(x))`` becomes one Reshape of x, and a Reshape to x's own shape goes away.
    """
    for node in model.graph:
        if is_op(node, *SHAPE_OPS):
            make_reshape(node)


def make_reshape(node: ir.Node) -> None:
    """Replaces a node that keeps the order of its input's values with a Reshape of static shape."""
    source, shape = node.inputs[0], shape_of(node.outputs[0])
    if source is None or shape is None or 0 in shape:
        return
    inner = producer(source)
    while inner is not None and is_op(inner, "Reshape") and shape_of(source) is not None:
        before = inner.inputs[0]
        assert before is not None
        source, inner = before, producer(before)
    first = node.inputs[0]
    if source is not first:
        node.replace_input_with(0, source)
        _drop(first)
    if shape_of(source) == shape and bypass(node):
        return
    if _in_form(node, shape):
        return
    target = dialect.constant(f"{stem(node)}/shape", np.asarray(shape, np.int64))
    new = ir.node("Reshape", [source, target], name=node.name)
    new.outputs[0].dtype = source.dtype or ir.DataType.FLOAT
    new.outputs[0].shape = ir.Shape(shape)
    replace_node(node, new)


def _drop(value: ir.Value | None) -> None:
    """Removes a Reshape that nothing reads any more."""
    node = producer(value)
    if value is None or node is None or value.uses() or value.is_graph_output():
        return
    before = node.inputs[0]
    remove(node)
    if is_op(producer(before), "Reshape"):
        _drop(before)


def _in_form(node: ir.Node, shape: tuple[int, ...]) -> bool:
    if not is_op(node, "Reshape") or "allowzero" in node.attributes:
        return False
    target = input_array(node, 1)
    return target is not None and target.tolist() == list(shape)
