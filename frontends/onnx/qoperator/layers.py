"""Layers with weights: QLinearConv, QLinearMatMul and onnxruntime's QGemm."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.onnx.integers import OnnxImport, made, store, take_place
from dlaconv.frontends.onnx.qoperator.operand import (
    absent,
    accumulator_step,
    back_again,
    bias,
    finish,
    first_channels,
    kept,
    kind_of,
    operand,
    result_grid,
)
from dlaconv.ir.graph import attribute, rank_of


def qlinear_conv(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: x, w (scales per tensor or output channel) and y with parameters; int32 bias."""
    x = operand(node, (0, 1, 2), state, what="the input")
    w = operand(node, (3, 4, 5), state, axis=0, what="the weights")
    grid = result_grid(node, 6, 7, state, kind_of(node, 0, state))
    if x is None or w is None or grid is None:
        return
    inputs: list[ir.Value | None] = [first_channels(node, x[0]), w[0]]
    if not absent(node, 8):
        added = bias(node, 8, accumulator_step(x[1], w[1]), state)
        if added is None:
            return
        inputs.append(added)
    result = made(node, "Conv", inputs, kept(node, "Conv"))
    store(node, back_again(node, result, rank_of(x[0])), grid, state)


def qlinear_mat_mul(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: a, b (scales per tensor or column) and y with parameters."""
    a = operand(node, (0, 1, 2), state, what="the left operand")
    b = operand(node, (3, 4, 5), state, axis=-1, what="the right operand")
    grid = result_grid(node, 6, 7, state, kind_of(node, 0, state))
    if a is not None and b is not None and grid is not None:
        finish(node, "MatMul", [a[0], b[0]], grid, state)


def q_gemm(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: a, b, c and y with parameters; c in steps of the product, y in floats without them.

    Attributes: alpha, transA, transB.
    """
    turned = bool(attribute(node, "transB", 0))
    a = operand(node, (0, 1, 2), state, what="the left operand")
    b = operand(node, (3, 4, 5), state, axis=0 if turned else -1, what="the right operand")
    quantised = not absent(node, 7)
    grid = result_grid(node, 7, 8, state, kind_of(node, 0, state)) if quantised else None
    if a is None or b is None or (quantised and grid is None):
        return
    inputs: list[ir.Value | None] = [a[0], b[0]]
    if not absent(node, 6):
        alpha = np.float32(attribute(node, "alpha", 1.0))
        added = bias(node, 6, accumulator_step(a[1], b[1]) * alpha, state)
        if added is None:
            return
        inputs.append(added)
    if grid is not None:
        finish(node, "Gemm", inputs, grid, state, kept(node, "Gemm"))
    else:
        node.outputs[0].dtype = ir.DataType.FLOAT
        take_place(node, made(node, "Gemm", inputs, kept(node, "Gemm")), state)
