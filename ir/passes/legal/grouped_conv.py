"""CV-7: grouped convolutions as dense ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute, ints_attribute, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.pipeline import Context


@legalisation("Conv", rules=("CV-7",))
def grouped_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A convolution with groups, or depth-wise with several filters per channel, becomes dense.

    Identity: Output channel o of group g sums over the input channels of g only. A dense kernel
    that holds the same weights there and zeros everywhere else has the same sum.

    Conditions: The weights are constants, and the dense layer has no more channels than the
    hardware's. A depth-wise convolution with one filter per channel
    stays: the hardware has it.

    Cost: (groups - 1) times the multiplications of the layer.
    """
    group = int(attribute(node, "group", 1))
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if group == 1 or shape is None:
        return None
    weights = weights_of(node)
    if weights is None:
        return Blocked("the weights are no constants with one step per output channel")
    outputs, inputs = weights.array.shape[:2]
    if group == shape[1] == outputs:
        return None
    most = context.target.conv.channels[1]
    if max(shape[1], outputs) > most:
        return Blocked(f"a dense layer of {shape[1]} channels in and {outputs} out exceeds {most}")
    dense = block_diagonal(weights.array, group)
    builder = Builder(node)
    builder.conv(
        builder.x,
        replace(weights, array=dense),
        node.inputs[2] if len(node.inputs) > 2 else None,
        strides=ints_attribute(node, "strides"),
        pads=ints_attribute(node, "pads"),
    )
    return builder.plan(
        f"{group} groups of {inputs} channels as a dense convolution with zeros between groups"
    )


def block_diagonal(array: np.ndarray, group: int) -> np.ndarray:
    """Weights ``[O, C / group, ...]`` of a grouped convolution as dense ones ``[O, C, ...]``."""
    outputs, inputs = array.shape[:2]
    dense = np.zeros((outputs, group * inputs, *array.shape[2:]), array.dtype)
    each = outputs // group
    for index in range(group):
        rows = slice(index * each, (index + 1) * each)
        dense[rows, index * inputs : (index + 1) * inputs] = array[rows]
    return dense
