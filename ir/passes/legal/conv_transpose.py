"""GR-3: transposed convolutions, which the hardware has no operator for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute, ints_attribute, shape_of
from dlaconv.ir.passes.legal.activated import activated
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, spread
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import PhasedAxis, phased_axis, phased_layer
from dlaconv.ir.passes.linear_ops import Weights, bias_of, constant_weights
from dlaconv.ir.pipeline import Context

_MOST_TAPS = 64
"""Taps of one phase that are laid out; later rewrites make some of them fit, up to a point."""


@legalisation("ConvTranspose", rules=("GR-3",))
def conv_transpose(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A transposed convolution becomes a convolution for each phase of its result.

    Identity: Position n of the result sums w[t] x[m] over all t and m with s m + t = n + p. Write
    n = s i + r with the phase r < s: then t = r + p - s q, where q = m - i does not depend on i.
    So each of the s x s phases of the result is a convolution of x, of stride 1, with every s-th
    tap in reverse order. One convolution computes them all as channels, with its activation and its
    one rounding; Reshape, Transpose and Reshape put them in their places. With s = 1 it is the
    convolution with the reversed kernel.

    Conditions: The weights are constants. The phases of all output channels fit one layer. Where
    the result is rounded, it is rounded in one way with one step. If its size is no multiple of s,
    a convolution that picks cuts the last positions off.

    Cost: None for k = s. Else windows of different phases start at different positions, and the
    taps that some of them lack are zeros: 36 multiplications for 16 with k = 4, s = 2 and p = 1.
    With groups, (groups - 1) times as many. What cuts positions off takes one per value.
    """
    layer = activated(node)
    shape, result = _shape(node.inputs[0]), _shape(node.outputs[0])
    if len(shape) != 4 or len(result) != 4:
        return Blocked("the map has no rows and columns")
    kernel, strides = _shape(node.inputs[1])[2:], ints_attribute(node, "strides", (1, 1))
    dilations = ints_attribute(node, "dilations", (1, 1))
    for taps, dilation, stride in zip(kernel, dilations, strides, strict=False):
        if (extent := (taps - 1) * dilation + 1) > stride * _MOST_TAPS:
            return Blocked(f"a kernel of {extent} with stride {stride} is far too large")
    weights = _dense(node)
    bias = None if weights is None else bias_of(node, weights.channels)
    if weights is None or bias is None:
        return Blocked(CONSTANTS)
    if layer.problem is not None:
        return Blocked(layer.problem)
    weights_shape = weights.array.shape
    begins = _begins(node, weights_shape[2:], strides, shape, result)
    rows, columns = (
        _axis(shape[2 + i], result[2 + i], strides[i], weights_shape[2 + i], begins[i])
        for i in range(2)
    )
    return phased_layer(
        Builder(node), layer, (rows, columns), weights, bias, "a transposed convolution", context
    )


def _axis(size: int, count: int, stride: int, kernel: int, begin: int) -> PhasedAxis:
    def meets(phase: int, tap: int) -> int | None:
        distance = phase + begin - tap
        return None if distance % stride else distance // stride

    return phased_axis(size, count, 1, stride, 1, kernel, meets)


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    return (shape_of(value) or ()) if value is not None else ()


def _dense(node: ir.Node) -> Weights | None:
    """The weights as those of a convolution without groups and dilation, ``[O, C, ...]``."""
    weights = constant_weights(node.inputs[1], 1)
    if weights is None or weights.array.ndim != 4:
        return None
    groups = int(attribute(node, "group", 1))
    inputs, outputs = len(weights.array), weights.array.shape[1]
    array = np.zeros((groups * outputs, inputs, *weights.array.shape[2:]), weights.array.dtype)
    each = inputs // groups
    for group in range(groups):
        columns = slice(group * each, (group + 1) * each)
        block = weights.array[columns].swapaxes(0, 1)
        array[group * outputs : (group + 1) * outputs, columns] = block
    steps = None if weights.steps is None else np.tile(weights.steps, groups)
    return Weights(spread(array, ints_attribute(node, "dilations", (1, 1))), 0, steps)


def _begins(
    node: ir.Node,
    extents: tuple[int, ...],
    strides: tuple[int, ...],
    shape: tuple[int, ...],
    result: tuple[int, ...],
) -> tuple[int, ...]:
    """Positions that are cut off before the result, along rows and columns."""
    auto_pad = str(attribute(node, "auto_pad", "NOTSET"))
    stated = ints_attribute(node, "output_shape")
    if auto_pad == "VALID" or (auto_pad == "NOTSET" and not stated):
        return ints_attribute(node, "pads", (0,) * 4)[:2]
    more = ints_attribute(node, "output_padding", (0, 0))
    begins = []
    for axis in range(2):
        full = strides[axis] * (shape[2 + axis] - 1) + more[axis] + extents[axis]
        total = max(full - result[2 + axis], 0)
        begins.append(total // 2 if auto_pad == "SAME_UPPER" else total - total // 2)
    return tuple(begins)
