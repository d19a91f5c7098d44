"""PL-2: averages over large maps in several steps."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.passes.legal.averages import legal_average, mean_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context

_HALVED = (2, 2)


@legalisation("AveragePool", "GlobalAveragePool", rules=("PL-2", "PL-3"), exact=False)
def average_cascade(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An average over a large map becomes averages of averages.

    Identity: The average of averages over equally many values is the average of all: 2x2 with
    stride 2 until the map has one of the hardware's window sizes, then all that is left. Each step
    rounds to 8 bits.

    Conditions: Height and width can be halved until they fit. Only where global_average_sum and
    global_average, which round once, are impossible.

    Cost: None.
    """
    mean = mean_of(node)
    if mean is None or legal_average(node, context.target):
        return None
    limits = context.target.average_pool.kernel
    builder, value = Builder(node), mean.x
    size = shape(value)[2:]
    while max(size) > limits[1] and not any(extent % 2 for extent in size):
        value = builder.average_pool(value, _HALVED, _HALVED, (0, 0, 0, 0))
        size = shape(value)[2:]
    if not all(limits[0] <= extent <= limits[1] for extent in size):
        return Blocked(f"halved, {mean.shape[2]}x{mean.shape[3]} has no window that fits")
    builder.op("GlobalAveragePool", [value], mean.result)
    return builder.plan("averages over 2x2, and over what is left")
