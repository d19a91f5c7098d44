"""Brings signs to the layer whose result they are taken of."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    attribute,
    drop_unread,
    input_array,
    insert_before,
    is_constant,
    is_op,
    is_optional_input_absent,
    producer,
    take_over,
    unique_name,
)
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass

_MOVES = ("MaxPool", "Reshape", "Transpose", "Concat")


@ir_pass()
def hoist_signs(model: ir.Model, context: Context) -> None:
    """Replaces ``sign(f(x))`` with ``f(sign(x))``, or with ``sign(x)`` where f keeps signs.

    MaxPool, Reshape, Transpose and Concat only move values (the largest of some values is not
    negative exactly where the largest of their signs is +1). Tanh, leaky ReLUs of positive slope,
    clips around zero and positive factors keep signs and zero. Then the sign stands right behind
    the layer that computes x, whose integers decide it. Equal signs of one value become one.
    """
    del context
    queue = [node for node in model.graph if dialect.is_bipolar(node)]
    while queue:
        node = queue.pop()
        if dialect.step_of(node).size != 1:
            continue
        while (source := _with_the_same_sign(node.inputs[0])) is not None:
            node.replace_input_with(0, source)
        queue.extend(_hoist(node, model.graph))
    _merge(model.graph)
    drop_unread(model.graph)


def _with_the_same_sign(x: ir.Value | None) -> ir.Value | None:
    """What a value is computed from, if that has the same sign everywhere and counts as zero."""
    node = producer(x)
    if node is None:
        return None
    source = node.inputs[0]
    if is_op(node, "Tanh"):
        return source
    if is_op(node, "LeakyRelu"):
        return source if float(attribute(node, "alpha", 0.01)) > 0 else None
    if is_op(node, "PRelu"):
        slopes = input_array(node, 1)
        return source if slopes is not None and (slopes > 0).all() else None
    if is_op(node, "Clip"):
        low, high = (input_array(node, index) for index in (1, 2))
        open_low = is_optional_input_absent(node, 1) or (low is not None and (low < 0).all())
        open_high = is_optional_input_absent(node, 2) or (high is not None and (high >= 0).all())
        return source if open_low and open_high else None
    return _without_factor(node)


def _without_factor(node: ir.Node) -> ir.Value | None:
    if not is_op(node, "Mul", "Div") or len(node.inputs) != 2:
        return None
    for index in (1, 0) if is_op(node, "Mul") else (1,):
        factors, other = input_array(node, index), node.inputs[1 - index]
        if factors is None or other is None or is_constant(other):
            continue
        same_shape = other.shape is not None and other.shape == node.outputs[0].shape
        usual = (factors > 1e-30).all() and (factors < 1e30).all()
        return other if usual and same_shape else None
    return None


def _hoist(node: ir.Node, graph: ir.Graph) -> list[ir.Node]:
    """Moves a sign before the operator that moves its values; returns the signs made for it."""
    value = node.inputs[0]
    moved = producer(value)
    if value is None or moved is None or not is_op(moved, *_MOVES):
        return []
    if len(value.uses()) != 1 or value.is_graph_output():
        return []
    if any(result.uses() or result.is_graph_output() for result in moved.outputs[1:]):
        return []
    count = len(moved.inputs) if is_op(moved, "Concat") else 1
    if any(is_constant(source) or source is None for source in moved.inputs[:count]):
        return []
    signs: dict[ir.Value, ir.Node] = {}
    for index in range(count):
        source = moved.inputs[index]
        assert source is not None
        if source not in signs:
            sign = signs[source] = dialect.bipolar(
                source,
                dialect.step_of(node),
                name=stem(node) if count == 1 else f"{stem(node)}/{source.name}",
                output=unique_name(graph, f"{source.name}/sign"),
            )
            provenance.inherit(sign, node)
            insert_before(moved, sign)
        moved.replace_input_with(index, signs[source].outputs[0])
    take_over(node.outputs[0], value)
    graph.remove(node, safe=True)
    return list(signs.values())


def _merge(graph: ir.Graph) -> None:
    """Lets readers of equal signs of one value share the first of them."""
    first: dict[tuple[ir.Value | None, bytes], ir.Value] = {}
    for node in graph:
        if not dialect.is_bipolar(node):
            continue
        result = node.outputs[0]
        step = dialect.step_of(node)
        twin = first.setdefault((node.inputs[0], step.tobytes()), result)
        if twin is not result and not result.is_graph_output():
            result.replace_all_uses_with(twin)
            graph.remove(node, safe=True)
