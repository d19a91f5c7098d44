"""GR-3: maxima over whole axes."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.passes.legal.averages import reduced_axes
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context

_CHANNEL_LAST = (0, 2, 3, 1)
_CHANNEL_SECOND = (0, 3, 1, 2)


@legalisation("ReduceMax", rules=("GR-3",))
def reduce_max_pool(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A maximum over rows, columns or channels becomes a max pool.

    Identity: A pool whose window is a whole axis takes the maximum over it. Transposed so that
    channels are columns, a pool takes the maximum over these, too.

    Conditions: A map of rows and columns of one sample. The windows are those of max_pool_cascade.

    Cost: None.
    """
    del context
    axes, x = reduced_axes(node), node.inputs[0]
    if not axes or x is None or x.dtype != ir.DataType.FLOAT:
        return None
    before = shape(x)
    if len(before) != 4:
        return Blocked("it is no map of rows and columns")
    if 0 in axes and before[0] != 1:
        return Blocked(f"it compares a batch of {before[0]} samples")
    builder, value = Builder(node), x
    window = [before[axis] if axis in axes else 1 for axis in (2, 3)]
    if max(window) > 1:
        value = _pooled(builder, value, window)
    if 1 in axes and before[1] > 1:
        columns = builder.transpose(value, _CHANNEL_LAST)
        value = builder.transpose(_pooled(builder, columns, [1, before[1]]), _CHANNEL_SECOND)
    after = shape(node.outputs[0])
    if shape(value) != after or not builder.nodes:
        builder.reshape(value, after)
    return builder.plan("a max pool over whole axes")


def _pooled(builder: Builder, x: ir.Value, window: list[int]) -> ir.Value:
    return builder.max_pool(x, window, (1, 1), (0, 0, 0, 0))
