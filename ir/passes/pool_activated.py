"""Moves activations in front of the max pools that they follow."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_op,
    producer,
    shape_of,
    take_over,
    unique_name,
)
from dlaconv.ir.layers import ACTIVATIONS
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.saturation import clip_ends


@ir_pass()
def pool_activated(model: ir.Model, context: Context) -> None:
    """Replaces ``Relu(MaxPool(x))`` with ``MaxPool(Relu(x))``, LeakyRelu, PRelu and Clip likewise.

    The activation never swaps two values, so it commutes with taking the largest, bit for bit. In
    front of the pool it is part of the layer that computes x, before that layer's one rounding;
    behind it would be a layer of its own, on values that are rounded already.
    Only where nothing else reads x or the pool.
    """
    del context
    for node in list(model.graph):
        if not is_op(node, *ACTIVATIONS):
            continue
        while (pool := producer(node.inputs[0])) is not None and _commutes(pool, node):
            _swap(pool, node, model.graph)


def _commutes(pool: ir.Node, activation: ir.Node) -> bool:
    x = pool.inputs[0]
    if not is_op(pool, "MaxPool", "GlobalMaxPool") or x is None or shape_of(x) is None:
        return False
    read_by_others = any(
        len(value.uses()) > uses or value.is_graph_output()
        for value, uses in [(x, 1), (pool.outputs[0], 1), *((v, 0) for v in pool.outputs[1:])]
    )
    return not read_by_others and _monotone(activation, len(shape_of(x) or ()))


def _monotone(activation: ir.Node, rank: int) -> bool:
    """True if it never decreases, and does the same everywhere in a channel."""
    if is_op(activation, "Relu"):
        return True
    if is_op(activation, "Clip"):
        return clip_ends(activation) is not None
    if is_op(activation, "LeakyRelu"):
        return float(attribute(activation, "alpha", 0.01)) >= 0
    slopes = input_array(activation, 1)
    if slopes is None or not (slopes >= 0).all() or slopes.ndim > rank:
        return False
    return all(extent == 1 for extent in ((1,) * (rank - slopes.ndim) + slopes.shape)[2:])


def _swap(pool: ir.Node, activation: ir.Node, graph: ir.Graph) -> None:
    x, pooled, result = pool.inputs[0], pool.outputs[0], activation.outputs[0]
    assert x is not None
    activation.replace_input_with(0, x)
    take_over(result, pooled)
    pool.replace_input_with(0, result)
    result.name = unique_name(graph, f"{x.name}/activated")
    result.shape, result.type = x.shape, x.type
    graph.remove(activation)
    graph.insert_before(pool, activation)
