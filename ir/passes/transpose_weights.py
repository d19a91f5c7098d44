"""Layout operators behind the quantisation of a constant move to the constant itself."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    consumers,
    is_constant,
    is_op,
    producer,
    replace_node,
)
from dlaconv.ir.passes.constant_ops import evaluate
from dlaconv.ir.pipeline import Context, ir_pass

_LAYOUT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast")


@ir_pass()
def transpose_weights(model: ir.Model, context: Context) -> None:
    """``Transpose(Quantize(W))`` becomes ``Quantize(W transposed)`` for a constant W.

    The same for Dequantize and Bipolar, and for Reshape, Squeeze, Unsqueeze, Flatten, Identity and
    a Cast to the type that is there already. Per-channel steps and zero points turn along. A
    weight that is also read as it is keeps its own quantise node.
    """
    for node in model.graph:  # behind one another they are met in this order
        if is_op(node, *_LAYOUT) and all(is_constant(value) for value in node.inputs[1:]):
            _move(node)


def _move(node: ir.Node) -> None:
    quantise = producer(node.inputs[0])
    if quantise is None or quantise.domain != dialect.DOMAIN or node.outputs[0].is_graph_output():
        return
    if not all(is_constant(value) for value in quantise.inputs):
        return
    if is_op(node, "Cast") and node.attributes["to"].as_int() != ir.DataType.FLOAT:
        return
    weights, *parameters = [dialect.array_of(value) for value in quantise.inputs]
    try:
        moved = _apply(node, weights)
        turned = [_turn(node, parameter, weights.shape) for parameter in parameters]
    except (ValueError, IndexError, TypeError):
        return  # an invalid node: shape inference names what is wrong with it
    inputs = [dialect.constant(f"{node.name}/weights", moved)]
    inputs += [dialect.constant(f"{node.name}/parameter", array) for array in turned]
    new = ir.node(
        quantise.op_type,
        inputs,
        dict(quantise.attributes),
        domain=dialect.DOMAIN,
        name=node.name,
    )
    new.metadata_props.update(quantise.metadata_props)
    new.outputs[0].type = quantise.outputs[0].type
    new.outputs[0].shape = ir.Shape(moved.shape)
    replace_node(node, new)
    result = quantise.outputs[0]
    unread = not (consumers(result) or result.is_graph_output())
    if unread and isinstance(quantise.graph, ir.Graph):
        _remove(quantise.graph, quantise)


def _apply(node: ir.Node, array: np.ndarray) -> np.ndarray:
    if is_op(node, "Identity", "Cast"):
        return array
    constants = [dialect.array_of(value) for value in node.inputs[1:] if value is not None]
    return evaluate(node, [array, *constants])[0]


def _turn(node: ir.Node, parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A per-channel parameter in the new layout, no larger than it has to be."""
    if parameter.size == 1:
        return parameter.reshape(())
    result = _apply(node, np.broadcast_to(parameter, shape))
    for axis in range(result.ndim):
        first = np.take(result, [0], axis)
        if result.shape[axis] > 1 and np.array_equal(np.broadcast_to(first, result.shape), result):
            result = first
    return np.ascontiguousarray(result)


def _remove(graph: ir.Graph, node: ir.Node) -> None:
    sources = [value for value in node.inputs if value is not None]
    graph.remove(node, safe=True)
    for value in sources:
        if value.is_initializer() and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name or "", None)
