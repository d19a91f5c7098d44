"""What the tests of legalisations share."""

from __future__ import annotations

from dlaconv.ir import dialect
from dlaconv.ir.graph import producer
from tests.ir.passes.harness import node_of


def integers_of_conv(model):
    """The integers of the only convolution's weights, and their steps."""
    holder = producer(node_of(model, "Conv").inputs[1])
    assert dialect.is_dequantize(holder)
    return dialect.array_of(holder.inputs[0]), dialect.step_of(holder)
