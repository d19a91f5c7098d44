"""MM-1: products with a constant matrix that have many rows, as 1x1 convolutions."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import is_op, shape_of
from dlaconv.ir.passes.fully_connected import matrix_weights
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.rows import Rows
from dlaconv.ir.passes.linear_ops import Weights, bias_of, weights_of
from dlaconv.ir.pipeline import Context


@legalisation("MatMul", "Gemm", rules=("MM-1", "GR-2"))
def constant_matmul(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A product of many rows with a constant matrix becomes a 1x1 convolution.

    Identity: Each row x [C] of a map [..., T, C] is multiplied by one matrix. So the rows are the
    positions of a map [1, C, H, W], and the matrix is the kernel of a 1x1 convolution; with the
    constant on the left the columns are. Transposes and Reshapes go there and back.

    Conditions: One matrix for all rows, no larger than the channels of a convolution. The number of
    rows is a product H W that fits into a map. Transposes between two such products cancel.

    Cost: None.
    """
    target = context.target
    found = _product(node)
    if found is None:
        return None
    x, weights, left = found
    shape, result = shape_of(x), shape_of(node.outputs[0])
    if shape is None or result is None or len(shape) < 2:
        return None
    channel_axis = len(shape) - (2 if left else 1)
    rows = math.prod(shape) // shape[channel_axis]
    if is_op(node, "Gemm") and rows == 1:
        return None
    most = target.conv.channels[1]
    if max(weights.array.shape) > most:
        sides = " by ".join(map(str, weights.array.shape))
        return Blocked(f"a matrix of {sides} has more than the {most} channels of a layer")
    positions = Rows.of(shape, channel_axis, target)
    if positions is None:
        return Blocked(f"{rows} rows make no map of at most {target.map_size[1]} rows and columns")
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    builder = Builder(node)
    kernel = Weights(weights.array[:, :, None, None], 0, weights.steps)
    value = builder.conv(positions.to_map(builder, x), kernel, _bias(node, weights))
    positions.back(builder, value, result)
    height, width = positions.size
    return builder.plan(f"{rows} rows as {height}x{width} positions of a 1x1 convolution")


def _bias(node: ir.Node, weights: Weights) -> np.ndarray | None:
    bias = bias_of(node, weights.channels) if is_op(node, "Gemm") else None
    return bias if bias is not None and bias.any() else None


def _product(node: ir.Node) -> tuple[ir.Value, Weights, bool] | None:
    """The map, the matrix as ``[O, C]``, and whether it stands on the left."""
    if is_op(node, "Gemm"):
        weights = weights_of(node)
        x = node.inputs[0]
        return None if weights is None or x is None else (x, weights, False)
    for position, axis in ((1, -1), (0, -2)):
        source, x = node.inputs[position], node.inputs[1 - position]
        shape = shape_of(source) if source is not None else None
        if source is None or x is None or shape is None or len(shape) < 2:
            continue
        weights = matrix_weights(source, axis)
        if weights is not None:
            array = np.ascontiguousarray(np.moveaxis(weights.array, weights.axis, 0))
            return x, Weights(array, 0, weights.steps), position == 0
    return None
