"""The dialect in standard operators: the same arithmetic as its function bodies, ready to run.

onnxruntime takes time quadratic in the number of function calls, and evaluates constant
quantisations on every run. So before a model is run, quantise nodes are written out (without the
zero point where it is zero) and constants are computed once. The result is bit by bit that of the
bodies, which a test holds.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import is_constant, register_constants
from dlaconv.ir.rounding import Rounding

_ONE_OPERATOR = {Rounding.HALF_EVEN: "Round", Rounding.FLOOR: "Floor", Rounding.CEIL: "Ceil"}
_FLOAT32_BITS = 24


def lowered(model: ir.Model, keep: Container[str] = ()) -> ir.Model:
    """A copy of a model with its dialect nodes written out, as far as that is simple.

    What is left (rarer roundings, more than 24 bits) keeps its function.

    Args:
        model: the model; it is not changed.
        keep: names of constants that must stay results of nodes, since someone asks for them.
    """
    copy = model.clone()
    limits: dict[int, ir.Value] = {}
    for node in list(copy.graph):
        if node.domain != dialect.DOMAIN:
            continue
        array = _constant_result(node) if node.outputs[0].name not in keep else None
        if array is not None:
            _replace_by_constant(node, array)
        elif dialect.is_quantize(node) and is_constant(node.inputs[2]):
            _write_out(node, limits)
    return copy


def _constant_result(node: ir.Node) -> np.ndarray | None:
    if not all(is_constant(value) for value in node.inputs):
        return None
    x = dialect.array_of(node.inputs[0])
    if dialect.is_quantize(node):
        quantisation = dialect.quantisation_of(node)
        real: np.ndarray = quantisation.reals(quantisation.integers(x)).astype(np.float32)
        return real
    step = dialect.step_of(node)
    if dialect.is_dequantize(node):
        return np.asarray(x.astype(np.float32) * step)
    return np.where(x >= 0, step, -step) if dialect.is_bipolar(node) else None


def _replace_by_constant(node: ir.Node, array: np.ndarray) -> None:
    graph, result = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    name = result.name or ""
    if result.is_graph_output():
        return  # a graph output must be computed
    value = dialect.constant(f"{name}/value", array)
    register = [use.node for use in result.uses()]
    result.replace_all_uses_with(value)
    register_constants(graph, register[:1])
    graph.remove(node, safe=True)


def _write_out(node: ir.Node, limits: dict[int, ir.Value]) -> None:
    qmin, qmax = (node.attributes[name].as_int() for name in ("qmin", "qmax"))
    rounding = dialect.rounding_of(node)
    wide = max(abs(qmin), abs(qmax)).bit_length() > _FLOAT32_BITS
    x, step, zero_point = node.inputs
    if rounding not in _ONE_OPERATOR or wide or x is None or step is None or zero_point is None:
        return
    graph, result = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    for limit in (qmin, qmax):
        if limit not in limits:
            limits[limit] = dialect.constant(
                f"{dialect.DOMAIN}/{limit}", np.array(limit, np.float32)
            )
    shifted = bool(dialect.array_of(zero_point).any())
    nodes = [ir.node("Div", [x, step])]
    if shifted:
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], zero_point]))
    nodes.append(ir.node(_ONE_OPERATOR[rounding], [nodes[-1].outputs[0]]))
    nodes.append(ir.node("Clip", [nodes[-1].outputs[0], limits[qmin], limits[qmax]]))
    if shifted:
        nodes.append(ir.node("Sub", [nodes[-1].outputs[0], zero_point]))
    nodes.append(ir.node("Mul", [nodes[-1].outputs[0], step]))
    graph.insert_before(node, nodes)
    register_constants(graph, nodes)
    name = result.name or ""
    for index, made in enumerate(nodes):
        made.outputs[0].name = f"{name}/{index}"
    last = nodes[-1].outputs[0]
    result.replace_all_uses_with(last, replace_graph_outputs=True)
    last.shape, last.type = result.shape, result.type
    result.name, last.name = f"{name}/function", name
    graph.remove(node, safe=True)
