"""Operators that end a layout: flattening before a fully connected layer, and full reductions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    consumers,
    is_constant,
    is_op,
    register_constants,
    shape_of,
    unique_name,
)
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
    places = np.arange(int(np.prod(original[1:]))).reshape(original[1:])
    order = places.transpose([axis - 1 for axis in perm[1:]]).reshape(-1)
    for layer, first in found.layers:
        weights = weights_of(layer)
        assert weights is not None
        set_weights(layer, replace(weights, array=_permuted(weights.array, first, order)))
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for reader, index, first in found.constants:
        value = reader.inputs[index]
        assert value is not None
        array = _permuted(dialect.array_of(value), first, order)
        reader.replace_input_with(index, dialect.constant(f"{value.name}/columns", array))
        register_constants(graph, [reader])
    for value in found.whole:
        value.name = unique_name(graph, Turned(value.name or "", perm, original[1:]).name)
    for value in found.joined:
        value.name = unique_name(graph, f"{value.name}/columns")


def _permuted(array: np.ndarray, first: int, order: np.ndarray) -> np.ndarray:
    """An array whose last axis has some columns, from ``first`` on, in another order."""
    found = np.array(array)
    found[..., first : first + len(order)] = array[..., first + order]
    return found


def _order_kept(shape: tuple[int, ...], perm: Perm) -> bool:
    moved = [axis for axis in perm if shape[axis] != 1]
    return moved == sorted(moved)


@dataclass
class _Readers:
    """What reads the columns of a flattened map.

    Attributes:
        whole: maps of these columns and no others.
        joined: maps that have other columns, too.
        layers: fully connected layers, each with the first of these columns.
        constants: constants with a value per column: the node, the input, and the first column.
    """

    whole: list[ir.Value] = field(default_factory=list)
    joined: list[ir.Value] = field(default_factory=list)
    layers: list[tuple[ir.Node, int]] = field(default_factory=list)
    constants: list[tuple[ir.Node, int, int]] = field(default_factory=list)


def _readers(node: ir.Node) -> _Readers | None:
    """The fully connected layers behind a flattened map, and what is on the way to them.

    None if anything else reads the columns in their order.
    """
    found = _Readers()
    size = _width(node.outputs[0])
    queue = [(node.outputs[0], 0)]
    while queue:
        value, first = queue.pop()
        if value.is_graph_output():
            return None
        (found.whole if _width(value) == size else found.joined).append(value)
        for reader in consumers(value):
            if is_op(reader, "Gemm") and _reads_columns(reader, value):
                found.layers.append((reader, first))
            elif (before := _columns_before(reader, value)) is not None:
                queue.append((reader.outputs[0], first + before))
            elif reader.inputs[0] is value and (own := _by_column(reader)) is not None:
                found.constants += [(reader, index, first) for index in own]
                queue.append((reader.outputs[0], first))
            else:
                return None
    return found


def _width(value: ir.Value) -> int | None:
    shape = shape_of(value)
    return shape[1] if shape is not None and len(shape) == 2 else None


def _columns_before(node: ir.Node, value: ir.Value) -> int | None:
    """The columns that a Concat puts before those of one of its operands; None for other nodes."""
    if not is_op(node, "Concat") or attribute(node, "axis", 0) not in {1, -1}:
        return None
    if sum(item is value for item in node.inputs) != 1:
        return None
    widths = [_width(item) for item in node.inputs[: node.inputs.index(value)] if item is not None]
    known = [width for width in widths if width is not None]
    return sum(known) if len(known) == len(widths) and _width(value) is not None else None


def _reads_columns(node: ir.Node, value: ir.Value) -> bool:
    form = (attribute(node, "transA", 0), attribute(node, "transB", 0))
    uses = sum(source is value for source in node.inputs)
    return uses == 1 and node.inputs[0] is value and form == (0, 1) and weights_of(node) is not None


def _by_column(node: ir.Node) -> list[int] | None:
    """The inputs of a node that hold a value for each column; None if it does more than that.

    Other constants are the same for all columns.
    """
    if dialect.is_quantize(node):
        return [] if dialect.quantisation_of(node).per_tensor else None
    if is_op(node, *_UNARY):
        return [] if len(node.inputs) == 1 else None
    if not is_op(node, "Add", "Clip", "Div", "Mul", "PRelu", "Sub"):
        return None
    width = _width(node.outputs[0])
    found = []
    for index, value in enumerate(node.inputs[1:], 1):
        if value is None:
            continue
        shape = shape_of(value)
        if not is_constant(value) or shape is None:
            return None
        if math.prod(shape) != 1:
            if width is None or math.prod(shape) != width or shape[-1] != width:
                return None
            found.append(index)
    return found
