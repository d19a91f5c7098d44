"""Nodes that depend on constants only become constants."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import is_constant, is_op, replace_node, shape_of
from dlaconv.ir.passes.constant_ops import evaluate, result_size
from dlaconv.ir.pipeline import Context, ir_pass

_BUDGET = 64 << 20
_SCALARS = ("value_float", "value_floats", "value_int", "value_ints")


@ir_pass(tolerance=1e-6)
def fold_constants(model: ir.Model, context: Context) -> None:
    """Evaluates standard nodes whose inputs are all constants; see `fold`."""
    fold(model)


def fold(model: ir.Model) -> int:
    """Evaluates standard nodes whose inputs are all constants, and returns how many there were.

    Quantise nodes stay: they are what a conversion is about. Constant nodes become initializers,
    Shape of a static shape becomes a constant. Values keep their names; a graph output keeps its
    node (a Constant becomes a copy of an initializer). Together the results may take 64 Mi
    elements, or four times the network's weights if that is more: a node that would exceed it (a
    size bomb) stays.

    Args:
        model: any model of opset 18; graph order is made topological.
    """
    model.graph.sort()
    weights = sum(
        value.const_value.size
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    budget = max(_BUDGET, 4 * weights)
    folded = 0
    for node in list(model.graph):
        if node.domain not in {"", "ai.onnx"}:
            continue
        if _makes_graph_output(node):
            if is_op(node, "Constant"):
                _copy_constant(node)
            continue
        results = _results(node, budget)
        if results is None:
            continue
        budget -= sum(array.size for array in results) - _released(node)
        _replace(model.graph, node, results)
        folded += 1
    return folded


def _makes_graph_output(node: ir.Node) -> bool:
    return any(value.is_graph_output() for value in node.outputs)


def _copy_constant(node: ir.Node) -> None:
    """A Constant node that makes a graph output becomes a copy of an initializer."""
    results = _constant(node)
    if results is None:
        return
    held = dialect.constant(f"{node.outputs[0].name}/value", results[0])
    copy = ir.node("Identity", [held], name=node.name)
    copy.outputs[0].shape, copy.outputs[0].type = held.shape, held.type
    replace_node(node, copy)


def _results(node: ir.Node, budget: int) -> list[np.ndarray] | None:
    if is_op(node, "Constant"):
        return _constant(node)
    if is_op(node, "Shape"):
        return _shape(node)
    if not node.inputs or any(not is_constant(value) for value in node.inputs if value is not None):
        return None
    inputs = [None if value is None else dialect.array_of(value) for value in node.inputs]
    try:
        if result_size(node, inputs) - _released(node) > budget:
            return None
        return evaluate(node, inputs)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError, AttributeError):
        return None  # shape inference and the rules name what is wrong with it


def _constant(node: ir.Node) -> list[np.ndarray] | None:
    value = node.attributes.get("value")
    if value is not None:
        tensor = value.as_tensor()
        return None if tensor.dtype is ir.DataType.STRING else [tensor.numpy()]
    for name in _SCALARS:
        if (found := node.attributes.get(name)) is not None:
            kind = np.float32 if "float" in name else np.int64
            return [np.asarray(found.value, kind)]
    return None


def _shape(node: ir.Node) -> list[np.ndarray] | None:
    source = node.inputs[0]
    shape = shape_of(source) if source is not None else None
    if shape is None:
        return None
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    return [np.asarray(shape[start:end], np.int64)]


def _released(node: ir.Node) -> int:
    """Elements that are no longer needed once a node is folded."""
    sources = {value for value in node.inputs if value is not None and is_constant(value)}
    return sum(
        value.const_value.size
        for value in sources
        if value.const_value is not None and all(use.node is node for use in value.uses())
    )


def _replace(graph: ir.Graph, node: ir.Node, results: list[np.ndarray]) -> None:
    sources = {value for value in node.inputs if value is not None}
    for output, array in zip(node.outputs, results, strict=False):
        name = output.name or ""
        output.name = f"{name}/folded"
        if not output.uses():
            continue
        constant = dialect.constant(name, array)
        output.replace_all_uses_with(constant)
        graph.register_initializer(constant)
    graph.remove(node, safe=True)
    for value in sources:
        if value.is_initializer() and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name or "", None)
