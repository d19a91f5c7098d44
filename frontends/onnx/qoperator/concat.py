"""onnxruntime's QLinearConcat: every operand is brought to the result's grid."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.onnx import parameters
from dlaconv.frontends.onnx.integers import OnnxImport
from dlaconv.frontends.onnx.qoperator.operand import finish, kept, kind_of, operand, result_grid


def qlinear_concat(node: ir.Node, state: OnnxImport) -> None:
    """Inputs: scale and zero point of the result, then every operand with its parameters."""
    count, left = divmod(len(node.inputs) - 2, 3)
    if count < 1 or left:
        parameters.missing(node, "operands with scale and zero point each", state)
        return
    operands = [operand(node, (3 * i + 2, 3 * i + 3, 3 * i + 4), state) for i in range(count)]
    grid = result_grid(node, 0, 1, state, kind_of(node, 2, state))
    reals = [found[0] for found in operands if found is not None]
    if len(reals) == count and grid is not None:
        finish(node, "Concat", [*reals], grid, state, kept(node, "Concat"))
