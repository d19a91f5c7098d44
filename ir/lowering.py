"""The dialect in standard operators: the same arithmetic as its function bodies, ready to run.

onnxruntime takes time quadratic in the number of function calls, and evaluates constant
quantisations on every run. So before a model is run, quantise nodes are written out (without the
zero point where it is zero) and constants are computed once. The result is bit by bit that of the
bodies, which a test holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.blocks import BlockTensor, forget, rows_of, shape_tuple, tensor_of
from dlaconv.ir.graph import is_constant, register_constants, shape_of
from dlaconv.ir.grid_tensors import GridTensor
from dlaconv.ir.quantised_constants import constant_integers
from dlaconv.ir.rounding import Rounding

_ONE_OPERATOR = {Rounding.HALF_EVEN: "Round", Rounding.FLOOR: "Floor", Rounding.CEIL: "Ceil"}
_STORED = {(-128, 127): np.dtype(np.int8), (0, 255): np.dtype(np.uint8)}
"""Ranges that are those of a type of onnxruntime's QuantizeLinear, which saturates there."""
_FLOAT32_BITS = 24
_LARGE = 1 << 16
"""Elements from which on a constant is computed row by row."""


def lowered(model: ir.Model, keep: Container[str] = ()) -> ir.Model:
    """A copy of a model with its dialect nodes written out, as far as that is simple.

    What is left (rarer roundings, more than 24 bits) keeps its function.

    Args:
        model: the model; it is not changed.
        keep: names of constants that must stay results of nodes, since someone asks for them.
    """
    copy = model.clone()
    limits: dict[int | str, ir.Value] = {}
    for node in list(copy.graph):
        if node.domain != dialect.DOMAIN:
            continue
        result = _constant_result(node) if node.outputs[0].name not in keep else None
        if result is not None:
            _replace_by_constant(node, result)
        elif dialect.is_quantize(node) and is_constant(node.inputs[2]):
            _write_out(node, limits)
    return copy


def _constant_result(node: ir.Node) -> np.ndarray | BlockTensor | None:
    """What a node makes of constants; None if it does not. Large results are computed when read."""
    if not all(is_constant(value) for value in node.inputs):
        return None
    compute = _on_rows(node)
    if compute is None:
        return None
    tensor = tensor_of(node.inputs[0])
    shape = shape_tuple(tensor)
    if not shape or math.prod(shape) < _LARGE:
        return compute(slice(None), dialect.array_of(node.inputs[0])).astype(np.float32)
    held = tensor if isinstance(tensor, BlockTensor) else tensor.numpy()

    def rows_at(rows: slice) -> np.ndarray:
        block = rows_of(held, rows)
        result = compute(rows, block).astype(np.float32, copy=False)
        forget(block)
        return result

    name = f"{node.outputs[0].name}/value"
    step = dialect.step_of(node)
    by_row = step.ndim == len(shape) and step.size == len(step) == shape[0]
    if (by_row or step.size == 1) and not dialect.is_bipolar(node):
        return GridTensor(rows_at, _integers_of(node), step, shape, name)
    return BlockTensor(rows_at, ir.DataType.FLOAT, shape, name)


def _integers_of(node: ir.Node) -> Callable[[], np.ndarray | None]:
    """Computes what the steps of a constant result are multiplied by."""
    constant = tensor_of(node.inputs[0])
    if dialect.is_dequantize(node):
        return constant.numpy
    quantisation = dialect.quantisation_of(node)
    return lambda: constant_integers(constant, quantisation)


def _on_rows(node: ir.Node) -> Callable[[slice, np.ndarray], np.ndarray] | None:
    """What a node makes of some rows of its constant input; None for a node of another domain."""
    rank = len(shape_tuple(tensor_of(node.inputs[0])))
    if dialect.is_quantize(node):
        quantisation = dialect.quantisation_of(node)

        def quantised(rows: slice, x: np.ndarray) -> np.ndarray:
            part = quantisation.of_rows(rows, rank)
            return part.on_grid(x)

        return quantised
    step = dialect.step_of(node)

    def step_at(rows: slice) -> np.ndarray:
        return step[rows] if rank and step.ndim == rank and len(step) > 1 else step

    if dialect.is_dequantize(node):
        return lambda rows, x: np.asarray(x.astype(np.float32) * step_at(rows))
    if dialect.is_bipolar(node):
        return lambda rows, x: np.where(x >= 0, step_at(rows), -step_at(rows))
    return None


def _replace_by_constant(node: ir.Node, data: np.ndarray | BlockTensor) -> None:
    graph, result = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    name = result.name or ""
    if result.is_graph_output():
        return  # a graph output must be computed
    value = dialect.constant(f"{name}/value", data)
    register = [use.node for use in result.uses()]
    result.replace_all_uses_with(value)
    register_constants(graph, register[:1])
    graph.remove(node, safe=True)


def _write_out(node: ir.Node, limits: dict[int | str, ir.Value]) -> None:
    qmin, qmax = (node.attributes[name].as_int() for name in ("qmin", "qmax"))
    rounding = dialect.rounding_of(node)
    wide = max(abs(qmin), abs(qmax)).bit_length() > _FLOAT32_BITS
    x, step, zero_point = node.inputs
    if rounding not in _ONE_OPERATOR or wide or x is None or step is None or zero_point is None:
        return
    graph, result = node.graph, node.outputs[0]
    assert isinstance(graph, ir.Graph)
    shifted = bool(dialect.array_of(zero_point).any())
    stored = _STORED.get((qmin, qmax))
    fed = not is_constant(step) and shape_of(step) == ()
    if fed and stored is not None and not shifted and rounding is Rounding.HALF_EVEN:
        nodes = _through_integers(x, step, stored, limits)
    else:
        for limit in (qmin, qmax):
            if limit not in limits:
                name = f"{dialect.DOMAIN}/{limit}"
                limits[limit] = dialect.constant(name, np.array(limit, np.float32))
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
        provenance.inherit(made, node)
    last = nodes[-1].outputs[0]
    result.replace_all_uses_with(last, replace_graph_outputs=True)
    last.shape, last.type = result.shape, result.type
    result.name, last.name = f"{name}/function", name
    graph.remove(node, safe=True)


def _through_integers(
    x: ir.Value, step: ir.Value, stored: np.dtype[np.generic], zeros: dict[int | str, ir.Value]
) -> list[ir.Node]:
    """Two operators that move less memory than four; what is no number becomes one.

    So they only stand for quantisations whose step is yet to be found, which run the most often.
    """
    name = f"{dialect.DOMAIN}/{stored.name}"
    zero = zeros.setdefault(name, dialect.constant(name, np.zeros((), stored)))
    quantised = ir.node("QuantizeLinear", [x, step, zero])
    return [quantised, ir.node("DequantizeLinear", [quantised.outputs[0], step, zero])]
