"""EL-4: sums with a graph input."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import is_constant, producer, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.diagonal import diagonal_layer
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.pipeline import Context


@legalisation("Add", "Div", rules=("EL-4",))
def input_operand(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An operand of Add or Div that is a graph input goes through an identity layer first.

    Identity: A 1x1 convolution with weights of one stores what it reads. The file states the scale
    of its input, for which Add and Div have no attribute.

    Conditions: None.

    Cost: One multiplication per value of the input, C if the convolution is dense.
    """
    if any(map(is_constant, node.inputs)) or not any(map(_is_input, node.inputs)):
        return None
    builder = Builder(node)
    copies: dict[ir.Value, ir.Value] = {}
    for value in node.inputs:
        if value is None or value in copies or not _is_input(value):
            continue
        ones = np.ones((shape_of(value) or (0, 0))[1:2])
        layer = diagonal_layer(builder, value, ones, 0 * ones, context.target)
        if isinstance(layer, Blocked):
            return layer
        copies[value] = builder.stored_like(layer, value)
        builder.multiples[copies[value].name or ""] = value.name or "", 1.0
    operands = [copies.get(value, value) if value is not None else None for value in node.inputs]
    builder.op(node.op_type, operands, shape_of(node.outputs[0]) or ())
    return builder.plan("an identity layer on a graph input")


def _is_input(value: ir.Value | None) -> bool:
    """True for a graph input of real values, quantised or not."""
    maker = producer(value)
    if maker is not None and dialect.is_quantize(maker):
        value = maker.inputs[0]
    return value is not None and value.is_graph_input() and value.dtype == ir.DataType.FLOAT
