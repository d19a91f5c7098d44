"""Operators that end a layout: flattening before a fully connected layer, and full reductions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import attribute, consumers, is_constant, is_op, shape_of, unique_name
from dlaconv.ir.layout_names import Turned
from dlaconv.ir.passes.layout_ops import Perm, inverse, reduce_without_axes, transpose_axes
from dlaconv.ir.passes.linear_ops import set_weights, weights_of

_UNARY = ("HardSwish", "LeakyRelu", "Relu", "Sigmoid", "Tanh")


def absorbs_layout(node: ir.Node, perm: Perm, shape: tuple[int, ...]) -> bool:
    """True if ``node`` can read its first input in layout ``perm`` and still give its result.

    A reduction that drops all moved axes can, and so can a Reshape that moves nothing or that
    flattens a map for fully connected layers, whose weights are then permuted.

    Args:
        node: the node.
        perm: the layout.
        shape: the input's shape in the source's layout.
    """
    if is_op(node, "Reshape"):
        if _order_kept(shape, perm):
            return True
        result = shape_of(node.outputs[0]) or ()
        flattens = len(result) == 2 and result[0] == shape[0] and perm[0] == 0
        return flattens and _readers(node) is not None
    return reduce_without_axes(node, perm)


def take_layout(node: ir.Node, perm: Perm) -> None:
    """Makes ``node`` expect layout ``perm``; its first input has been exchanged already."""
    if not is_op(node, "Reshape"):
        transpose_axes(node, perm)
        return
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    assert shape is not None
    original = tuple(shape[axis] for axis in inverse(perm))
    if _order_kept(original, perm):
        return
    found = _readers(node)
    assert found is not None
    values, layers = found
    places = np.arange(int(np.prod(original[1:]))).reshape(original[1:])
    order = places.transpose([axis - 1 for axis in perm[1:]]).reshape(-1)
    for layer in layers:
        weights = weights_of(layer)
        assert weights is not None
        set_weights(layer, replace(weights, array=np.ascontiguousarray(weights.array[:, order])))
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for value in values:
        value.name = unique_name(graph, Turned(value.name or "", perm, original[1:]).name)


def _order_kept(shape: tuple[int, ...], perm: Perm) -> bool:
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


def _readers(node: ir.Node) -> tuple[list[ir.Value], list[ir.Node]] | None:
    """The fully connected layers behind a flattened map, and the maps on the way to them.

    None if anything else reads the columns in their order.
    """
    values: list[ir.Value] = []
    layers: list[ir.Node] = []
    queue = [node.outputs[0]]
    while queue:
        value = queue.pop()
        if value.is_graph_output():
            return None
        values.append(value)
        for reader in consumers(value):
            if is_op(reader, "Gemm") and _reads_columns(reader, value):
                layers.append(reader)
            elif reader.inputs[0] is value and _same_for_all_columns(reader):
                queue.append(reader.outputs[0])
            else:
                return None
    return values, layers


def _reads_columns(node: ir.Node, value: ir.Value) -> bool:
    form = (attribute(node, "transA", 0), attribute(node, "transB", 0))
    uses = sum(source is value for source in node.inputs)
    return uses == 1 and node.inputs[0] is value and form == (0, 1) and weights_of(node) is not None


def _same_for_all_columns(node: ir.Node) -> bool:
    if dialect.is_quantize(node):
        return dialect.quantisation_of(node).per_tensor
    if is_op(node, *_UNARY):
        return len(node.inputs) == 1
    if not is_op(node, "Add", "Clip", "Div", "Mul", "PRelu", "Sub"):
        return False
    others = [value for value in node.inputs[1:] if value is not None]
    return all(is_constant(value) and dialect.array_of(value).size == 1 for value in others)
