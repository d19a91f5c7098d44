"""PL-2 to PL-4, PL-6 to PL-8: average pools that the hardware does not have."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import producer
from dlaconv.ir.passes.legal.averages import (
    Average,
    average_of,
    exact_divisor,
    legal_average,
)
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context


@legalisation("AveragePool", rules=("PL-2", "PL-3", "PL-4", "PL-6", "PL-7", "PL-8"))
def average_pool_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An average pool with a window or padding of its own becomes a depth-wise convolution.

    Identity: An average over d values is a sum with the weights 1/d, which a weight step of 1/d
    holds as ones; padding adds zeros. Both divide the integer sum once. What the hardware does not
    have of that convolution, the rewrites of convolutions replace.

    Conditions: Every window divides by the same number: padding that is left out of the average
    (count_include_pad = 0, ceil_mode) changes it at the border. If the source quantises, the weight
    grid holds 1/d. Averages over whole maps are left to the rewrites of these.

    Cost: One multiplication per element of a window.
    """
    average = average_of(node)
    if average is None or average.whole or legal_average(node, context.target):
        return None
    divisor = average.divisor
    if divisor is None:
        return Blocked(
            "padding is left out of the average, so windows at the border divide by less than "
            "others, and a convolution multiplies by the same weights everywhere"
        )
    builder = Builder(node)
    if not exact_divisor(divisor, builder.x, context):
        return Blocked(f"the grid of weight steps does not hold 1/{divisor}")
    pattern, strides = _pattern(average, context.target.conv.kernel[1])
    channels = shape(builder.x)[1]
    ones = np.broadcast_to(pattern, (channels, 1, *pattern.shape))
    weights = Weights(np.ascontiguousarray(ones), 0, np.full(channels, 1 / divisor))
    pads = average.window.pads
    layer = producer(builder.conv(builder.x, weights, strides=strides, pads=pads, group=channels))
    assert layer is not None
    builder.gains.append(layer)
    size = "x".join(map(str, average.window.kernel))
    return builder.plan(f"a {size} convolution with weights of 1/{divisor}")


def _pattern(average: Average, largest: int) -> tuple[np.ndarray, list[int]]:
    """The kernel as zeros and ones, and its strides.

    Along an axis with one window, zeros behind it or the stride cover what is left of the map.
    """
    window, rank = average.window, len(average.counts)
    strides, behind = list(window.strides), [0] * rank
    for axis, count in enumerate(average.counts):
        if count == 1:
            kernel = window.kernel[axis]
            padded = window.size[axis] + window.pads[axis] + window.pads[axis + rank]
            room = padded - kernel
            behind[axis] = room if padded <= largest else 0
            strides[axis] = 1 + room - behind[axis]
    return np.pad(np.ones(window.kernel, np.int8), [(0, extra) for extra in behind]), strides
