"""CV-1, CV-4: kernels and strides that are too large for one layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir.graph import attribute, shape_of
from dlaconv.ir.passes.legal.activated import activated
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, limits_of, spread
from dlaconv.ir.passes.legal.grouped_conv import block_diagonal
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import PhasedAxis, has_whole_blocks, phased_axis, phased_layer
from dlaconv.ir.passes.linear_ops import bias_of, weights_of
from dlaconv.ir.passes.windows import Window, window_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import KernelLimits

_MOST_PHASES = 16


@legalisation("Conv", rules=("CV-1", "CV-4", "CV-6", "DW-2", "DW-4"))
def polyphase(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A convolution with a large kernel, stride or dilation becomes a smaller one on phases.

    Identity: Position n of the result sums w[t] x[s n - p + t]. Write n = g i + r with r < g, and
    let f s' = s g. Then tap t meets x[f (s' i + q) + a], where f q + a = s r - p + t with a < f.
    So on the map in f phases (phase a shows every f-th row from row a on) the phases r of the
    result are the channels of one convolution of stride s', with about (k + s (g - 1)) / f taps.
    Stride 4 with 4 x 4 patches is stride 2 with 2 x 2 patches on 2 x 2 phases; kernel 9 is kernel 5
    on 2 x 2 phases with 2 x 2 phases of the result. A 2 x 2 convolution of stride 2 with weights of
    one makes the phases, Reshape, Transpose and Reshape put those of the result together: they
    move integers. The one layer that computes has the one rounding, behind its activation.

    Conditions: The weights are constants; the phases of all channels fit one layer. For odd f the
    map has whole blocks. Where the result has phases and is rounded, it is rounded in one way with
    one step. If its size is no multiple of g, a convolution that picks cuts the last positions off.

    Cost: Taps that some phases lack are zeros. Making the phases of C channels takes
    4 x 4 x C^2 multiplications per block of 2 x 2. Groups, depth-wise ones too, become dense.
    """
    window, layer = window_of(node), activated(node)
    if window is None or len(window.size) != 2:
        return None
    limits = limits_of(node, context.target)
    if max(window.extents) <= limits.kernel[1] and set(window.strides) <= set(limits.strides):
        return None
    weights = weights_of(node)
    bias = None if weights is None else bias_of(node, weights.channels)
    if weights is None or bias is None:
        return Blocked(CONSTANTS)
    counts = (shape_of(node.outputs[0]) or ())[2:]
    axes = _axes(window, counts, weights.channels, _inputs(node), context.target.conv)
    if axes is None:
        extents, strides = (
            "x".join(map(str, numbers)) for numbers in (window.extents, window.strides)
        )
        return Blocked(f"no phases make a {extents} kernel of stride {strides} small enough")
    if max(axis.outside for axis in axes) > 1 and layer.problem is not None:
        return Blocked(layer.problem)
    dense = block_diagonal(weights.array, int(attribute(node, "group", 1)))
    return phased_layer(
        Builder(node),
        layer,
        axes,
        replace(weights, array=spread(dense, window.dilations)),
        bias,
        f"a {'x'.join(map(str, window.extents))} convolution of stride "
        f"{'x'.join(map(str, window.strides))}",
        context,
    )


def _inputs(node: ir.Node) -> int:
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    return shape[1] if shape is not None else 0


def _axes(
    window: Window, counts: tuple[int, ...], outputs: int, inputs: int, limits: KernelLimits
) -> tuple[PhasedAxis, PhasedAxis] | None:
    """The cheapest form of both axes that is possible, or at least has a legal window."""
    rows, columns = (list(_forms(window, axis, counts[axis], limits)) for axis in range(2))

    def price(axes: tuple[PhasedAxis, PhasedAxis]) -> tuple[bool, bool, bool, bool, bool, int]:
        """Whether it is possible, moves, cuts and multiplications by position of the result."""
        inside, outside = (math.prod(numbers) for numbers in zip(*map(_phases, axes), strict=True))
        return (
            max(inputs * inside, outputs * outside) > limits.channels[1],
            not all(map(has_whole_blocks, window.size, (axis.inside for axis in axes))),
            outside > 1,
            any(axis.inside & (axis.inside - 1) for axis in axes),
            any(axis.cut for axis in axes),
            math.prod(axis.inside * axis.kernel for axis in axes),
        )

    return min(itertools.product(rows, columns), key=price, default=None)


def _phases(axis: PhasedAxis) -> tuple[int, int]:
    return axis.inside, axis.outside


def _forms(window: Window, axis: int, count: int, limits: KernelLimits) -> Iterator[PhasedAxis]:
    """The legal forms of an axis."""
    size, extent = window.size[axis], window.extents[axis]
    begin, stride = window.pads[axis], window.strides[axis]
    if extent > limits.kernel[1] * _MOST_PHASES:
        return
    for inside in range(1, _MOST_PHASES + 1):
        for outside in range(1, _MOST_PHASES + 1):
            smaller, rest = divmod(stride * outside, inside)
            if rest or smaller not in limits.strides:
                continue
            phased = phased_axis(
                size,
                count,
                inside,
                outside,
                smaller,
                extent,
                lambda phase, tap: stride * phase - begin + tap,
            )
            if phased.kernel <= limits.kernel[1]:
                yield phased
