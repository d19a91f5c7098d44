"""Networks whose maps are quantised by what they hold at run time: their weights are integers.

Such a file has no scales of maps. So maps are taken as they are, real values, and calibrated later;
the scale that would be measured at run time becomes 1, and an integer is worth 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.onnx import parameters
from dlaconv.frontends.onnx.integers import (
    RANGES,
    Grid,
    OnnxImport,
    Stored,
    grid_of,
    made,
    reals_of,
    take_place,
)
from dlaconv.frontends.onnx.qoperator.operand import absent, operand
from dlaconv.ir import dialect
from dlaconv.ir.graph import is_constant, rank_of, unique_name

_ONE, _ZERO = np.ones((), np.float32), np.zeros((), np.int64)
_UNIT = Grid(_ONE, _ZERO, *RANGES[ir.DataType.INT32])
"""Integers that are worth 1 each."""


def dynamic_quantize_linear(node: ir.Node, state: OnnxImport) -> None:
    """Input: x. Outputs: integers, scale and zero point: x itself, 1 and 0."""
    x = parameters.quantised(node, state, outputs=3)
    if x is None:
        return
    grid = Grid(_ONE, _ZERO, *RANGES[ir.DataType.UINT8])
    state.stored[node.outputs[0]] = Stored(x, grid, ir.DataType.UINT8)
    for output, array in ((node.outputs[1], _ONE), (node.outputs[2], np.zeros((), np.uint8))):
        _constant_instead(output, array)
    state.replaced.append(node)


def conv_integer(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: x, w, and their zero points; int32 results without a scale."""
    x, w = _operand(node, 0, state), _operand(node, 1, state, 0)
    if x is not None and w is not None:
        _store(node, made(node, "Conv", [x, w], dict(node.attributes)), state)


def mat_mul_integer(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: a, b, and their zero points; int32 results without a scale."""
    a, b = _operand(node, 0, state), _operand(node, 1, state, -1)
    if a is not None and b is not None:
        _store(node, made(node, "MatMul", [a, b]), state)


def dynamic_quantize_mat_mul(node: ir.Node, state: OnnxImport) -> None:
    """onnxruntime's: real a, integers b with scale and zero point, real bias."""
    a = parameters.quantised(node, state)
    b = operand(node, (1, 2, 3), state, axis=-1, what="the right operand")
    if a is not None and b is not None:
        _product(node, a, b[0], 4, state)


def mat_mul_integer_to_float(node: ir.Node, state: OnnxImport) -> None:
    """onnxruntime's: integers a and b, the scales of both, the zero points of both, real bias."""
    a = operand(node, (0, 2, 4), state, what="the left operand")
    b = operand(node, (1, 3, 5), state, axis=-1, what="the right operand")
    if a is not None and b is not None:
        _product(node, a[0], b[0], 6, state)


def _product(node: ir.Node, a: ir.Value, b: ir.Value, bias: int, state: OnnxImport) -> None:
    result = made(node, "MatMul", [a, b])
    if not absent(node, bias):
        result = made(node, "Add", [result, node.inputs[bias]])
    take_place(node, result, state)


def _operand(
    node: ir.Node, index: int, state: OnnxImport, axis: int | None = None
) -> ir.Value | None:
    """The real values of an operand whose integers are worth 1 each, less their zero point.

    Args:
        node: a node with zero points behind its two operands.
        index: which operand.
        state: what became of integers so far; takes the diagnostics.
        axis: the axis that zero points of constants per channel count.
    """
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        parameters.missing(node, f"an input {index}", state)
        return None
    kind = state.stored[value].dtype if value in state.stored else value.dtype
    axis = axis if is_constant(value) else None
    grid = grid_of(node, None, index + 2, state, kind=kind, axis=axis, rank=rank_of(value))
    return None if grid is None else reals_of(node, index, grid, state)


def _store(node: ir.Node, real: ir.Value, state: OnnxImport) -> None:
    state.stored[node.outputs[0]] = Stored(real, _UNIT, ir.DataType.INT32)
    state.replaced.append(node)


def _constant_instead(output: ir.Value, array: np.ndarray) -> None:
    graph = output.graph
    assert isinstance(graph, ir.Graph)
    constant = dialect.constant(unique_name(graph, f"{output.name}/constant"), array)
    graph.register_initializer(constant)
    output.replace_all_uses_with(constant, replace_graph_outputs=True)
