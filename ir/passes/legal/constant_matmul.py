"""MM-1: products with a constant matrix that have many rows, as 1x1 convolutions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import is_op, shape_of
from dlaconv.ir.passes.fully_connected import matrix_weights
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder, Shape
from dlaconv.ir.passes.legal.diagonal import rectangle
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import Weights, bias_of, weights_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target


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
    flat = _positions(shape, channel_axis, target)
    if flat is None:
        return Blocked(f"{rows} rows make no map of at most {target.map_size[1]} rows and columns")
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    builder = Builder(node)
    rows_of = _Rows(shape, channel_axis, flat)
    kernel = Weights(weights.array[:, :, None, None], 0, weights.steps)
    value = builder.conv(rows_of.to_map(builder, x), kernel, _bias(node, weights))
    rows_of.back(builder, value, result)
    return builder.plan(f"{rows} rows as {flat[0]}x{flat[1]} positions of a 1x1 convolution")


@dataclass(frozen=True)
class _Rows:
    """How the rows of a value become the positions of a map.

    Attributes:
        shape: of the value.
        axis: its axis of channels.
        size: height and width of the map.
    """

    shape: Shape
    axis: int
    size: tuple[int, int]

    @property
    def channels_last(self) -> bool:
        """True for a map that only has its axes in another order."""
        return self.axis == 3 and self.shape == (1, *self.size, self.shape[3])

    @property
    def around(self) -> tuple[int, int]:
        """The number of values before and behind the channels."""
        return math.prod(self.shape[: self.axis]), math.prod(self.shape[self.axis + 1 :])

    def to_map(self, builder: Builder, x: ir.Value) -> ir.Value:
        """The map ``[1, C, H, W]`` of a value."""
        if self.channels_last:
            return builder.transpose(x, (0, 3, 1, 2))
        channels, (before, behind) = self.shape[self.axis], self.around
        value = x
        if before > 1:
            inner = (behind,) if behind > 1 else ()
            value = _reshaped(builder, x, (1, before, channels, *inner))
            value = builder.transpose(value, (0, 2, 1, 3)[: 3 + len(inner)])
        return _reshaped(builder, value, (1, channels, *self.size))

    def back(self, builder: Builder, value: ir.Value, result: Shape) -> ir.Value:
        """A map ``[1, O, H, W]`` in the shape of the result."""
        if self.channels_last:
            return _reshaped(builder, builder.transpose(value, (0, 2, 3, 1)), result)
        channels, (before, behind) = (shape_of(value) or (0, 0))[1], self.around
        if before > 1:
            inner = (behind,) if behind > 1 else ()
            value = _reshaped(builder, value, (1, channels, before, *inner))
            value = builder.transpose(value, (0, 2, 1, 3)[: 3 + len(inner)])
        return _reshaped(builder, value, result)


def _reshaped(builder: Builder, value: ir.Value, shape: Shape) -> ir.Value:
    return value if shape_of(value) == shape else builder.reshape(value, shape)


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


def _positions(shape: Shape, axis: int, target: Target) -> tuple[int, int] | None:
    """Height and width of the map whose positions are the rows."""
    low, high = target.map_size
    if len(shape) == 4 and axis == 3 and shape[0] == 1:
        height, width = shape[1:3]
        if low <= min(height, width) and max(height, width) <= high:
            return height, width
    return rectangle(math.prod(shape) // shape[axis], high)
