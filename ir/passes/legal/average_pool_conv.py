"""PL-2 to PL-4, PL-6 to PL-8: average pools that the hardware does not have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir.passes.legal.averages import (
    Average,
    average_of,
    exact_divisor,
    legal_average,
    quantiser_behind,
)
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.identity import scaled_window, shape, subsampled, zero_border
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.picking import finished, keeps_zero
from dlaconv.ir.passes.windows import Window
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import KernelLimits


@legalisation("AveragePool", rules=("PL-2", "PL-3", "PL-4", "PL-6", "PL-7", "PL-8"))
def average_pool_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An average pool with padding or strides of its own becomes a depth-wise convolution.

    Identity: An average over d values is a sum with the weights 1/d, which a weight step of 1/d
    holds as ones; padding adds zeros. Both divide the integer sum once. Where the stride is not the
    hardware's, the convolution moves by less, and identity convolutions skip what is too much.

    Conditions: Every window divides by the same number: padding that is left out of the average
    (count_include_pad = 0, ceil_mode) changes it at the border. Kernels fit convolutions. If the
    source quantises, the weight grid holds 1/d, and an average of which values are skipped is
    quantised at once.

    Cost: One multiplication per element of a window, times the channels where the map is smaller
    than depth-wise convolutions need.
    """
    average = average_of(node)
    if average is None or average.whole or legal_average(node, context.target):
        return None
    if average.divisor is None:
        return Blocked(
            "padding is left out of the average, so windows at the border divide by less than "
            "others, and a convolution multiplies by the same weights everywhere"
        )
    builder = Builder(node)
    x = builder.x
    if not exact_divisor(average.divisor, x, context):
        return Blocked(f"the grid of weight steps does not hold 1/{average.divisor}")
    window = _smallest(average)
    most = context.target.conv.padding[1]
    if max(window.pads) > most:
        if not keeps_zero(stored_quantisation(x)):
            return Blocked("zero is not on the map's grid, so no convolution can pad it")
        excess = tuple(max(pad - most, 0) for pad in window.pads)
        bordered = zero_border(builder, context, x, excess)
        if isinstance(bordered, Blocked):
            return bordered
        x = bordered
        window = replace(window, size=shape(x)[2:], pads=tuple(min(p, most) for p in window.pads))
    made = _convolved(builder, context, x, replace(average, window=window), node)
    if isinstance(made, Blocked):
        return made
    size = "x".join(map(str, window.kernel))
    return finished(builder, context, f"a {size} convolution with weights of 1/{average.divisor}")


def _convolved(
    builder: Builder, context: Context, x: ir.Value, average: Average, node: ir.Node
) -> ir.Value | Blocked:
    """Adds the convolution that averages, and those that skip."""
    window, limits = average.window, context.target.depthwise
    strides = tuple(_stride(stride, limits) for stride in window.strides)
    left = [stride // step for stride, step in zip(window.strides, strides, strict=True)]
    grid = quantiser_behind(node)
    if any(stride > 1 for stride in left) and grid is None and stored_quantisation(x) is not None:
        return Blocked(
            "the stride needs a second convolution, and the average is not quantised before "
            "something else is done to it"
        )
    assert average.divisor is not None
    ones = np.ones(window.kernel, np.int8)
    averaged = scaled_window(
        builder, context, x, ones, gain=1 / average.divisor, strides=strides, pads=window.pads
    )
    if isinstance(averaged, Blocked) or all(stride == 1 for stride in left):
        return averaged

    def store(value: ir.Value) -> ir.Value:
        return value if grid is None else builder.quantised(value, grid)

    return subsampled(builder, context, store(averaged), left, average.counts, store)


def _smallest(average: Average) -> Window:
    """The window with strides of one along axes that have one window, and nothing beyond it."""
    window = average.window
    strides = list(window.strides)
    for axis, count in enumerate(average.counts):
        if count == 1:
            padded = window.size[axis] + window.pads[axis] + window.pads[axis + 2]
            strides[axis] = 1 << (padded - window.kernel[axis]).bit_length()
    return replace(window, strides=tuple(strides))


def _stride(stride: int, limits: KernelLimits) -> int:
    """The largest stride of the hardware that divides another."""
    return max(step for step in (1, *limits.strides) if stride % step == 0)
