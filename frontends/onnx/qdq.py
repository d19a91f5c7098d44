"""QuantizeLinear and DequantizeLinear, of ONNX itself and of onnxruntime's own domain.

ONNX computes ``saturate(round(x / scale) + zero_point)``, rounding halves to even, and
``(q - zero_point) * scale``.
"""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.onnx import parameters
from dlaconv.frontends.onnx.integers import (
    OnnxImport,
    axis_of,
    grid_of,
    reals_of,
    store,
    take_place,
)
from dlaconv.ir.graph import rank_of


def quantize_linear(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: x, scale, zero point (0 of uint8 if absent). Attribute: axis."""
    x = parameters.quantised(node, state)
    if x is None:
        return
    grid = grid_of(node, 1, 2, state, kind=None, axis=axis_of(node), rank=rank_of(x))
    if grid is None:
        return
    given = node.inputs[2] if len(node.inputs) > 2 else None
    kind = None if given is None else given.dtype
    node.outputs[0].dtype = kind or ir.DataType.UINT8
    store(node, x, grid, state)


def dequantize_linear(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: q, scale, zero point (0 if absent). Attribute: axis."""
    q = node.inputs[0] if node.inputs else None
    if q is None:
        parameters.missing(node, "something to dequantise", state)
        return
    if q in state.unknown:
        return
    kind = state.stored[q].dtype if q in state.stored else q.dtype
    grid = grid_of(node, 1, 2, state, kind=kind, axis=axis_of(node), rank=rank_of(q))
    if grid is None:
        return
    real = reals_of(node, 0, grid, state)
    if real is not None:
        take_place(node, real, state)
