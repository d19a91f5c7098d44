"""PL-2 to PL-4, PL-6 to PL-8: average pools that the hardware does not have."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import producer
from dlaconv.ir.passes.legal.averages import (
    Average,
    average_of,
    early,
    exact_divisor,
    legal_average,
)
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape, subsampled
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context


@legalisation("AveragePool", rules=("PL-2", "PL-3", "PL-4", "PL-6", "PL-7", "PL-8"))
def average_pool_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An average pool with a window or padding of its own becomes a depth-wise convolution.

    Identity: An average over d values is a sum with the weights 1/d, which a weight step of 1/d
    holds as ones; padding adds zeros. Both divide the integer sum once. Of a large stride the
    convolution takes what the hardware has, and identity convolutions skip the rest of the
    averages, which they get rounded. What else the hardware does not have, the rewrites of
    convolutions replace.

    Conditions: Every window divides by the same number; for others see uncounted_average. If the
    source quantises, the weight grid holds 1/d. Averages over whole maps are left to the rewrites
    of these.

    Cost: One multiplication per element of a window.
    """
    average = average_of(node)
    if average is None or average.whole or legal_average(node, context.target):
        return None
    divisor = average.divisor
    if divisor is None:
        return None
    x = node.inputs[0]
    if x is None or max(average.window.size) > context.target.conv.map_size[1]:
        return Blocked("the map is larger than the hardware's")
    if not exact_divisor(divisor, x, context):
        return Blocked(f"the grid of weight steps does not hold 1/{divisor}")
    pattern, strides = _pattern(average, context.target.conv.kernel[1])
    channels = shape(x)[1]
    ones = np.broadcast_to(pattern, (channels, 1, *pattern.shape))
    weights = Weights(np.ascontiguousarray(ones), 0, np.full(channels, 1 / divisor))
    builder = _thinned(node, context, average, weights, strides) or Builder(node)
    if not builder.nodes:
        _convolved(builder, average, weights, strides)
    size = "x".join(map(str, average.window.kernel))
    return builder.plan(f"a {size} convolution with weights of 1/{divisor}")


def _thinned(
    node: ir.Node, context: Context, average: Average, weights: Weights, strides: list[int]
) -> Builder | None:
    """Averages by strides of the hardware, and what skips the rest; None if it cannot be so."""
    builder = Builder(node)
    allowed = context.target.depthwise.strides
    steps = [max(step for step in (1, *allowed) if stride % step == 0) for stride in strides]
    left = [stride // step for stride, step in zip(strides, steps, strict=True)]
    store = early(builder, node)
    if max(left) == 1 or store is None:
        return None
    value = store(_convolved(builder, average, weights, steps))
    found = subsampled(builder, context, value, left, average.counts, store)
    return None if isinstance(found, Blocked) else builder


def _convolved(
    builder: Builder, average: Average, weights: Weights, strides: list[int]
) -> ir.Value:
    """The averages, unrounded."""
    pads, group = average.window.pads, weights.channels
    value = builder.conv(builder.x, weights, strides=strides, pads=pads, group=group)
    layer = producer(value)
    assert layer is not None
    builder.gains.append(layer)
    return value


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
            strides[axis] = 1 << (room - behind[axis]).bit_length()
    return np.pad(np.ones(window.kernel, np.int8), [(0, extra) for extra in behind]), strides
