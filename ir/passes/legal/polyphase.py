"""CV-1, CV-4: kernels and strides that are too large for one layer."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir.graph import attribute, shape_of
from dlaconv.ir.passes.legal.activated import activated
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, limits_of, spread
from dlaconv.ir.passes.legal.grouped_conv import block_diagonal
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.phases import PhasedAxis, phased_axis, phased_layer
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
    axes = [_axis(window, axis, counts[axis], context.target.conv) for axis in range(2)]
    rows, columns = axes
    if rows is None or columns is None:
        extents, strides = (
            "x".join(map(str, numbers)) for numbers in (window.extents, window.strides)
        )
        return Blocked(f"no phases make a {extents} kernel of stride {strides} small enough")
    if max(rows.outside, columns.outside) > 1 and layer.problem is not None:
        return Blocked(layer.problem)
    dense = block_diagonal(weights.array, int(attribute(node, "group", 1)))
    return phased_layer(
        Builder(node),
        layer,
        (rows, columns),
        replace(weights, array=spread(dense, window.dilations)),
        bias,
        f"a {'x'.join(map(str, window.extents))} convolution of stride "
        f"{'x'.join(map(str, window.strides))}",
        context,
    )


def _axis(window: Window, axis: int, count: int, limits: KernelLimits) -> PhasedAxis | None:
    """The cheapest legal form of an axis; phases of the result only where nothing else helps."""
    size, extent = window.size[axis], window.extents[axis]
    begin, stride = window.pads[axis], window.strides[axis]
    found: list[PhasedAxis] = []
    if extent > limits.kernel[1] * _MOST_PHASES:
        return None
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
                found.append(phased)
    return min(found, key=_price, default=None)


def _price(axis: PhasedAxis) -> tuple[bool, bool, bool, int]:
    """Moves, picking layers and multiplications by row of the result."""
    power = axis.inside & (axis.inside - 1) == 0
    return axis.outside > 1, not power, axis.cut > 0, axis.inside * axis.kernel
