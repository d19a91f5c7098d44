"""onnxruntime's averages of quantised maps: they are computed exactly and rounded once."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.onnx.integers import OnnxImport, made, store
from dlaconv.frontends.onnx.qoperator.operand import (
    back_again,
    finish,
    first_channels,
    integers,
    kept,
    kind_of,
    operand,
    result_grid,
)
from dlaconv.ir.graph import ints_attribute, rank_of


def qlinear_average_pool(node: ir.Node, state: OnnxImport) -> None:
    """Attributes: those of AveragePool, and channels_last."""
    _pool(node, "AveragePool", state, zero_first=True)


def qlinear_global_average_pool(node: ir.Node, state: OnnxImport) -> None:
    """Attribute: channels_last."""
    _pool(node, "GlobalAveragePool", state)


def _pool(node: ir.Node, op_type: str, state: OnnxImport, *, zero_first: bool = False) -> None:
    x = operand(node, (0, 1, 2), state)
    grid = result_grid(node, 3, 4, state, kind_of(node, 0, state))
    if x is None or grid is None:
        return
    result = made(node, op_type, [first_channels(node, x[0])], kept(node, op_type))
    store(node, back_again(node, result, rank_of(x[0])), grid, state, zero_first=zero_first)


def qlinear_reduce_mean(node: ir.Node, state: OnnxImport) -> None:
    """Attributes: axes, keepdims."""
    x = operand(node, (0, 1, 2), state)
    grid = result_grid(node, 3, 4, state, kind_of(node, 0, state))
    if x is None or grid is None:
        return
    axes = list(ints_attribute(node, "axes"))
    inputs: list[ir.Value | None] = [x[0], integers(node, "axes", axes)] if axes else [x[0]]
    finish(node, "ReduceMean", inputs, grid, state, kept(node, "ReduceMean"))
