"""CV-5, DW-5: padding that differs between opposite sides, or is too large."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, bias_input, limits_of
from dlaconv.ir.passes.legal.identity import zero_border
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.picking import keeps_zero
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.passes.windows import Window, window_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import KernelLimits


@dataclass(frozen=True)
class _Axis:
    """One axis of a window: kernel extent and pads, and what an identity layer pads before it.

    ``front`` and ``back`` are zero taps that the kernel gets.
    """

    kernel: int
    begin: int
    end: int
    front: int = 0
    back: int = 0
    before: tuple[int, int] = (0, 0)

    def fits(self, limits: KernelLimits) -> bool:
        return max(self.begin, self.end) <= limits.padding[1] and self.kernel <= limits.kernel[1]


@legalisation("Conv", rules=("CV-5", "DW-5"))
def conv_pads(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """Padding becomes equal on opposite sides and small enough, with zeros in the kernel or map.

    Identity: Window i of an axis multiplies tap t with position s i - p + t, p zeros being padded
    before. A kernel with z more taps of zero in front has tap t at t + z; with p + z zeros padded
    before, tap t still meets the same position, and so it does with taps of zero at the end. M
    windows of extent k on n positions need an end pad e with (M - 1) s + k <= n + p + e <
    M s + k, that is, one of s numbers in a row; z taps at the end raise each by z. So the
    smaller pad can be raised to the larger one, along with the kernel: k = 3 with pads (0, 1) is
    k = 4 with pads (1, 1). Where both are too large, a 1x1 convolution with weights of one pads
    the map first; it hands integers on as they are, and its zeros are zeros.

    Conditions: The kernel stays within the hardware's limits, and so does the padded map.
    Otherwise unequal padding, of which the guide does not speak, stays.

    Cost: The layer's multiplications by the new zeros in its kernel. An identity layer takes one
    multiplication per value, on maps too small for depth-wise layers one per value and channel.
    """
    window = window_of(node)
    if window is None or len(window.size) != 2 or max(window.dilations) > 1:
        return None
    limits = limits_of(node, context.target)
    if window.pads[:2] == window.pads[2:] and max(window.pads) <= limits.padding[1]:
        return None
    axes = [_axis(window, index, limits) for index in range(2)]
    for axis, position in zip(axes, ("above and below", "left and right"), strict=True):
        if not axis.fits(limits):
            return Blocked(
                f"{axis.begin} and {axis.end} zeros {position} take a kernel of {axis.kernel}, the "
                f"limits are {limits.padding[1]} and {limits.kernel[1]}"
            )
    pads = (axes[0].begin, axes[1].begin, axes[0].end, axes[1].end)
    if pads == window.pads:
        return Blocked(f"equal padding takes a kernel of more than {limits.kernel[1]} on one side")
    builder = Builder(node)
    kernel = _kernel(builder, node, axes)
    padded = _padded(builder, builder.x, axes, context)
    if kernel is None:
        return Blocked(CONSTANTS)
    if isinstance(padded, Blocked):
        return padded
    builder.conv(
        padded,
        kernel,
        bias_input(node),
        strides=window.strides,
        pads=pads,
        group=int(attribute(node, "group", 1)),
    )
    return builder.plan(_detail(window, pads, axes))


def _axis(window: Window, index: int, limits: KernelLimits) -> _Axis:
    """The cheapest legal form of one axis; the nearest one if there is none."""
    size, kernel, stride = window.size[index], window.kernel[index], window.strides[index]
    begin, end = window.pads[index], window.pads[index + 2]
    windows = (size + begin + end - kernel) // stride + 1
    least = (windows - 1) * stride + kernel - size - begin
    symmetric = _symmetric(kernel, begin, least, stride)
    if symmetric.fits(limits):
        return symmetric
    end = min(max(least, 0), end)
    if max(begin, end) <= limits.padding[1]:
        return _Axis(kernel, begin, end)
    surplus = max(begin, end) - limits.padding[1]
    before = (min(surplus, begin), min(surplus, end))
    rest = (begin - before[0], least - before[1])
    symmetric = replace(_symmetric(kernel, *rest, stride), before=before)
    return (
        symmetric
        if symmetric.fits(limits)
        else _Axis(kernel, rest[0], end - before[1], before=before)
    )


def _symmetric(kernel: int, begin: int, least: int, stride: int) -> _Axis:
    """Equal pads; ``least`` is the smallest end pad, of which ``stride`` in a row are the same."""
    front = max(0, least - begin)
    back = max(0, begin - (least + stride - 1))
    return _Axis(kernel + front + back, begin + front, begin + front, front, back)


def _kernel(builder: Builder, node: ir.Node, axes: list[_Axis]) -> ir.Value | None:
    if not any(axis.front or axis.back for axis in axes):
        return node.inputs[1]
    weights = weights_of(node)
    if weights is None:
        return None
    zeros = [(0, 0), (0, 0), *((axis.front, axis.back) for axis in axes)]
    return builder.weights(replace(weights, array=np.pad(weights.array, zeros)))


def _padded(
    builder: Builder, x: ir.Value, axes: list[_Axis], context: Context
) -> ir.Value | Blocked:
    """The map with zeros around it, by as many identity layers as that takes."""
    if not any(any(axis.before) for axis in axes):
        return x
    if not keeps_zero(stored_quantisation(x)):
        return Blocked("the map has no integer for the zeros around it")
    rows, columns = (axis.before for axis in axes)
    return zero_border(builder, context, x, (rows[0], columns[0], rows[1], columns[1]))


def _detail(window: Window, pads: tuple[int, ...], axes: list[_Axis]) -> str:
    kernel = "x".join(str(axis.kernel) for axis in axes)
    words = f"pads {list(window.pads)} as {list(pads)}"
    if any(axis.kernel != old for axis, old in zip(axes, window.kernel, strict=True)):
        words += f" of a {kernel} kernel with zeros at its border"
    if any(any(axis.before) for axis in axes):
        words += " behind a 1x1 convolution that pads the map"
    return words
