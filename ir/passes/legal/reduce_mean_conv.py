"""GR-3: means over whole axes that no pool computes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import producer, sole_consumer
from dlaconv.ir.passes.legal.averages import Mean, exact_divisor, mean_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context

_SPATIAL = (2, 3)


@legalisation("ReduceMean", rules=("GR-3",))
def reduce_mean_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A mean over rows, columns or channels becomes a pool, a convolution or a layer of ones.

    Identity: The mean over d values is a sum with the weights 1/d, which a weight step of 1/d holds
    as ones: over rows or columns a depth-wise convolution whose kernel is the whole axis, over
    channels one with one output channel, over a vector a fully connected layer. Means over one axis
    and then another are one mean. Over rows and columns it is GlobalAveragePool.

    Conditions: If the source quantises, the weight grid holds 1/d. Before a layer with weights
    global_average_sum comes first.

    Cost: One multiplication per value.
    """
    mean, following = mean_of(node), sole_consumer(node.outputs[0])
    if mean is None:
        return None
    outer = mean_of(following) if following is not None else None
    if outer is not None and outer.x is mean.x:  # the one for both is made there
        return None
    if len(mean.shape) not in {2, 4}:
        return Blocked("it is no map of rows and columns, and no vector")
    if max(mean.shape[2:], default=1) > context.target.conv.map_size[1]:
        return Blocked("the map is larger than the hardware's")
    builder = Builder(node)
    if mean.divisor == 1 or (mean.axes == _SPATIAL):
        value = (
            mean.x if mean.divisor == 1 else builder.op("GlobalAveragePool", [mean.x], mean.result)
        )
    elif not exact_divisor(mean.divisor, mean.x, context):
        return Blocked(f"the grid of weight steps does not hold 1/{mean.divisor}")
    else:
        value = _summed(builder, mean)
    after = shape(node.outputs[0])
    if shape(value) != after or not builder.nodes:
        builder.reshape(value, after)
    return builder.plan(f"a mean over {mean.divisor} values")


def _summed(builder: Builder, mean: Mean) -> ir.Value:
    """The layer of ones."""
    channels, *size = mean.shape[1:]
    over_channels = 1 in mean.axes
    if not size:
        weights = Weights(np.ones((1, channels), np.int8), 0, np.full(1, 1 / mean.divisor))
        value = builder.gemm(mean.x, weights)
    else:
        kernel = [size[axis - 2] if axis in mean.axes else 1 for axis in _SPATIAL]
        rows = (1, channels) if over_channels else (channels, 1)
        ones = np.ones((*rows, *kernel), np.int8)
        weights = Weights(ones, 0, np.full(rows[0], 1 / mean.divisor))
        value = builder.conv(mean.x, weights, group=1 if over_channels else channels)
    layer = producer(value)
    assert layer is not None
    builder.gains.append(layer)
    return value
