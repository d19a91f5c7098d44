"""onnxruntime's elementwise operators on quantised maps."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlaconv.frontends.onnx.integers import OnnxImport
from dlaconv.frontends.onnx.qoperator.operand import finish, kept, kind_of, operand, result_grid
from dlaconv.ir.graph import attribute, rank_of

Handler = Callable[[ir.Node, OnnxImport], None]


def of_two(op_type: str) -> Handler:
    """A handler of QLinearAdd or QLinearMul: a, b and the result with their parameters."""

    def handle(node: ir.Node, state: OnnxImport) -> None:
        a = operand(node, (0, 1, 2), state, what="the left operand")
        b = operand(node, (3, 4, 5), state, what="the right operand")
        grid = result_grid(node, 6, 7, state, kind_of(node, 0, state))
        if a is not None and b is not None and grid is not None:
            finish(node, op_type, [a[0], b[0]], grid, state, zero_first=True)

    return handle


def of_one(op_type: str) -> Handler:
    """A handler of an activation: x and the result with their parameters."""

    def handle(node: ir.Node, state: OnnxImport) -> None:
        x = operand(node, (0, 1, 2), state)
        grid = result_grid(node, 3, 4, state, kind_of(node, 0, state))
        if x is not None and grid is not None:
            finish(node, op_type, [x[0]], grid, state, kept(node, op_type))

    return handle


def qlinear_softmax(node: ir.Node, state: OnnxImport) -> None:
    """Attributes: axis, and the opset whose Softmax is meant: before 13 it flattens."""
    x = operand(node, (0, 1, 2), state)
    grid = result_grid(node, 3, 4, state, kind_of(node, 0, state))
    if x is None or grid is None:
        return
    old = int(attribute(node, "opset", 13)) < 13
    axis, dimensions = int(attribute(node, "axis", 1 if old else -1)), rank_of(x[0])
    if old and axis != -1 and (dimensions is None or axis % dimensions != dimensions - 1):
        state.refuse(
            node,
            "DLA112",
            "opset-conversion",
            f"a Softmax of opset {attribute(node, 'opset', 13)} over axis {axis} and those behind",
            remedy="export the network with opset 13 or later",
        )
        return
    finish(
        node, "Softmax", [x[0]], grid, state, {"axis": ir.AttrInt64("axis", -1 if old else axis)}
    )
