"""Moves activations in front of the operators that only move what they read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    attribute,
    input_array,
    insert_before,
    ints_attribute,
    is_op,
    producer,
    remove,
    shape_of,
    sole_consumer,
    take_over,
    unique_name,
)
from dlaconv.ir.layers import ACTIVATIONS, ROUNDING
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass()
def moved_activated(model: ir.Model, context: Context) -> None:
    """Replaces ``Relu(Reshape(x))`` with ``Reshape(Relu(x))``; other activations alike.

    Reshape, Transpose and Concat only move values. In front of them the activation is part of the
    layer that computes x, before that layer's one rounding. Slopes of a PRelu move along where they
    are one number per channel of x, too. Only where nothing else reads what is moved, and in front
    of a Concat only where layers compute all its operands for nothing else.
    """
    del context
    queue = [node for node in model.graph if is_op(node, *ACTIVATIONS)]
    while queue:
        node = queue.pop()
        move = producer(node.inputs[0])
        if move is None or sole_consumer(move.outputs[0]) is not node:
            continue
        parts = _parts(move, node)
        if parts is not None:
            queue += _swap(move, node, parts, model.graph)


def _parts(move: ir.Node, activation: ir.Node) -> list[np.ndarray | None] | None:
    """The slopes for each operand of ``move``, none but for PRelu; None if it has to stay."""
    result = shape_of(move.outputs[0])
    shapes = [shape_of(x) if x is not None else None for x in move.inputs]
    if result is None or shapes[0] is None or not is_op(move, "Reshape", "Transpose", "Concat"):
        return None
    joins = is_op(move, "Concat")
    if joins and not all(_layer_result(value) for value in move.inputs):
        return None
    if not is_op(activation, "PRelu"):
        return [None] * (len(move.inputs) if joins else 1)
    slopes = input_array(activation, 1)
    if slopes is None or slopes.ndim > len(result):
        return None
    full = np.broadcast_to(slopes, result)
    if joins:
        axis = int(attribute(move, "axis", 0))
        ends = np.cumsum([shape[axis] for shape in shapes if shape is not None])
        pieces = np.split(full, ends[:-1], axis)
    elif is_op(move, "Reshape"):
        pieces = [full.reshape(shapes[0])]
    else:
        order = ints_attribute(move, "perm", range(len(result))[::-1])
        pieces = [full.transpose(np.argsort(order))]
    found = [_per_channel(piece) for piece in pieces]
    return None if any(part is None for part in found) else found


def _per_channel(slopes: np.ndarray) -> np.ndarray | None:
    """Slopes of every value as one per channel ``[C, 1, ...]``, None if they differ within one."""
    if slopes.ndim < 2:
        return None
    rows = np.moveaxis(slopes, 1, 0).reshape(slopes.shape[1], -1)
    if (rows != rows[:, :1]).any():
        return None
    return np.ascontiguousarray(rows[:, 0]).reshape(-1, *(1,) * (slopes.ndim - 2))


def _layer_result(value: ir.Value | None) -> bool:
    """True for what a layer computes for one reader, and for what moves or rounds that."""
    while value is not None and sole_consumer(value) is not None:
        maker = producer(value)
        if maker is None or not (
            is_op(maker, "Reshape", "Transpose") or dialect.is_quantize(maker)
        ):
            return is_op(maker, *ROUNDING)
        value = maker.inputs[0]
    return False


def _swap(
    move: ir.Node, activation: ir.Node, slopes: list[np.ndarray | None], graph: ir.Graph
) -> list[ir.Node]:
    """Activates the operands of ``move`` instead of its result; returns the new nodes."""
    made: dict[tuple[ir.Value, int], ir.Value] = {}  # one operand may have slopes of both halves
    nodes = []
    for index, part in enumerate(slopes):
        x = move.inputs[index]
        assert x is not None
        key = (x, 0 if part is None else index)
        if key not in made:
            inputs = [x, *activation.inputs[1:]]
            if part is not None:
                inputs[1] = dialect.constant(f"{stem(activation)}/slopes", part)
            name = stem(activation) if len(slopes) == 1 else f"{stem(activation)}/{index}"
            node = ir.node(activation.op_type, inputs, dict(activation.attributes), name=name)
            made[key] = node.outputs[0]
            made[key].name = unique_name(graph, f"{x.name}/activated")
            made[key].shape, made[key].dtype = x.shape, ir.DataType.FLOAT
            provenance.inherit(node, activation)
            nodes.append(node)
    insert_before(move, *nodes)
    for index, part in enumerate(slopes):
        x = move.inputs[index]
        assert x is not None
        move.replace_input_with(index, made[x, 0 if part is None else index])
    take_over(activation.outputs[0], move.outputs[0])
    remove(activation)
    return nodes
