"""Moves quantisations up to the operator that computes."""

from __future__ import annotations

from collections import deque

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import (
    attribute,
    consumers,
    input_array,
    insert_before,
    is_constant,
    is_op,
    producer,
    register_constants,
    take_over,
    unique_name,
)
from dlaconv.ir.passes.linear_ops import stem
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation

_PICKS = ("Slice", "Gather", "DepthToSpace", "SpaceToDepth")
_MOVES = ("MaxPool", "Reshape", "Transpose")


def picks(node: ir.Node | None) -> bool:
    """True for operators whose results are values of their first input."""
    if node is None or not is_op(node, "Resize"):
        return is_op(node, *_PICKS)
    outside = attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    return attribute(node, "mode", "nearest") == "nearest" and not outside


@ir_pass()
def hoist_quantise(model: ir.Model, context: Context) -> None:
    """Replaces ``Quantize(f(x))`` with ``f(Quantize(x))`` where f only moves or selects values.

    f is MaxPool, Reshape, Transpose, Concat or picks values (Slice, Gather, DepthToSpace,
    SpaceToDepth, nearest Resize): rounding never swaps two values, so it commutes with taking the
    largest, bit for bit. The quantiser then sits behind the operator that computes x, and f works
    on stored integers, as the hardware does. On values that are stored
    already nothing moves: that quantiser is a requantisation in its own right, except behind a
    Concat of different grids, which the hardware cannot join. A Relu on a stored map is such an f
    too where the quantiser keeps zero and negative values; on an unrounded value it is part of
    the layer before it.
    Only for quantisers of one step per tensor, and where nothing else reads f(x).
    """
    stored: dict[ir.Value, Quantisation] = {}
    queue: deque[ir.Node] = deque()
    for node in model.graph:
        if dialect.is_quantize(node):
            stored[node.outputs[0]] = dialect.quantisation_of(node)
            queue.append(node)
        elif (is_op(node, *_MOVES, "Relu", "Concat") or picks(node)) and node.inputs[0] in stored:
            kept = [stored.get(value) for value in node.inputs[: _operands(node)] if value]
            if all(
                a is not None and b is not None and a.same_grid(b) for a in kept for b in kept[:1]
            ):
                assert kept[0] is not None
                stored[node.outputs[0]] = kept[0]
    while queue:
        queue.extend(_hoist(queue.popleft(), model.graph, stored, context))


def _operands(node: ir.Node) -> int:
    return len(node.inputs) if is_op(node, "Concat") else 1


def _hoist(
    quantiser: ir.Node, graph: ir.Graph, stored: dict[ir.Value, Quantisation], context: Context
) -> list[ir.Node]:
    """Moves a quantiser up by one operator; returns the quantisers that may move further."""
    value = quantiser.inputs[0]
    moved = producer(value)
    if value is None or moved is None or len(value.uses()) != 1 or value.is_graph_output():
        return []
    quantisation = dialect.quantisation_of(quantiser)
    if not quantisation.per_tensor or not _commutes(moved, quantisation, stored):
        return []
    made: dict[ir.Value, ir.Value] = {}
    nodes = []
    for index in range(_operands(moved)):
        source = moved.inputs[index]
        assert source is not None
        if source not in made:
            made[source], new = _quantised(source, quantiser, moved, quantisation, graph)
            nodes += new
        moved.replace_input_with(index, made[source])
    for node in nodes:
        stored[node.outputs[0]] = quantisation
        if is_op(moved, "Reshape"):  # the same values
            name = quantiser.outputs[0].name or ""
            context.originals[node.outputs[0].name or ""] = context.originals.get(name, name)
    stored[value] = quantisation
    take_over(quantiser.outputs[0], value)
    graph.remove(quantiser, safe=True)
    return nodes


def _quantised(
    source: ir.Value, old: ir.Node, before: ir.Node, quantisation: Quantisation, graph: ir.Graph
) -> tuple[ir.Value, list[ir.Node]]:
    """The quantised operand of ``before``, and the node that makes it unless it is a constant."""
    if is_constant(source) and source.producer() is None:
        array = dialect.array_of(source)
        real = quantisation.on_grid(array).astype(np.float32)
        constant = dialect.constant(unique_name(graph, f"{source.name}/quantised"), real)
        graph.register_initializer(constant)
        return constant, []
    node = dialect.quantize(
        source,
        quantisation,
        name=f"{stem(old)}/{source.name}" if len(before.inputs) > 1 else stem(old),
        output=unique_name(graph, f"{source.name}/quantised"),
    )
    provenance.inherit(node, old)
    insert_before(before, node)
    register_constants(graph, [node])
    return node.outputs[0], [node]


def _commutes(
    node: ir.Node, quantisation: Quantisation, stored: dict[ir.Value, Quantisation]
) -> bool:
    if any(result.uses() or result.is_graph_output() for result in node.outputs[1:]):
        return False
    source = node.inputs[0]
    if source is None:
        return False
    if is_op(node, "Relu"):
        signed = quantisation.symmetric and quantisation.qmin < 0 <= quantisation.qmax
        return source in stored and signed
    if is_op(node, "Concat"):
        return node.outputs[0] not in stored and all(
            value is not None and (value in stored or _free(value, node)) for value in node.inputs
        )
    if is_op(node, *_MOVES) or picks(node):
        computed = is_op(node, "Reshape") and input_array(node, 1) is None
        if picks(node) and is_constant(source):
            return False
        return source not in stored and not computed and _free(source, node)
    return False


def _free(value: ir.Value, reader: ir.Node) -> bool:
    """True if whatever else reads an unrounded value quantises it as well."""
    others = [node for node in consumers(value) if node is not reader]
    return not value.is_graph_output() and all(dialect.is_quantize(node) for node in others)
