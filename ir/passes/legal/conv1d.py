"""CV-9: one-dimensional convolutions and pools as two-dimensional ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import ints_attribute, is_op, shape_of
from dlaconv.ir.passes.legal.activated import activated
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, bias_input
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import constant_weights
from dlaconv.ir.pipeline import Context

_OPS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool")


@legalisation(*_OPS, rules=("CV-9",))
def conv1d(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A one-dimensional convolution or pool works on a map of one column.

    Identity: A map [N, C, L] has the values of a map [N, C, L, 1] in the same order. A window of k
    positions is one of k x 1, with no padding across. A max pool gets a square window, as the
    hardware wants it, with padding on the right of the only column, which never wins. A ReLU or one
    of its relatives behind the layer stays directly behind it.

    Conditions: The weights are constants. Where the result is rounded, it is rounded in one way
    with one step. Three-dimensional convolutions have no such form.

    Cost: None.
    """
    del context
    x, layer = node.inputs[0], activated(node)
    shape, result = shape_of(x) if x is not None else None, shape_of(node.outputs[0])
    if shape is None or result is None or len(shape) == 4:
        return None
    if len(shape) != 3:
        return Blocked(f"the hardware has maps of rows and columns, not of {len(shape) - 2} axes")
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return Blocked("the positions of the largest values are read")
    if layer.problem is not None:
        return Blocked(layer.problem)
    builder = Builder(node)
    planar = builder.reshape(builder.x, (*shape, 1))
    attributes: dict[str, ir.Attr | tuple[int, ...]] = dict(node.attributes)
    if not is_op(node, "GlobalAveragePool"):
        attributes |= _planar(node)
    inputs: list[ir.Value | None] = [planar]
    if is_op(node, "Conv", "ConvTranspose"):
        weights = constant_weights(node.inputs[1], 0 if is_op(node, "Conv") else 1)
        if weights is None:
            return Blocked(CONSTANTS)
        inputs.append(builder.weights(replace(weights, array=weights.array[..., None])))
        inputs.append(bias_input(node))
    inputs = inputs if inputs[-1] is not None else inputs[:-1]
    value = builder.op(node.op_type, inputs, (*result, 1), **attributes)
    value = layer.activate(builder, value, np.arange(result[1]))
    builder.reshape(value, result)
    return builder.plan(
        f"{node.op_type} on {shape[2]} positions as one on {shape[2]}x1", behind=layer.activation
    )


def _planar(node: ir.Node) -> dict[str, tuple[int, ...]]:
    """The attributes of a node's window with a second axis."""
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    stated = (shape_of(weights) or ())[2:] if weights is not None else ()
    [extent] = ints_attribute(node, "kernel_shape", stated)
    [stride] = ints_attribute(node, "strides", (1,))
    [dilation] = ints_attribute(node, "dilations", (1,))
    begin, end = ints_attribute(node, "pads", (0, 0))
    across = extent if is_op(node, "MaxPool") else 1
    planar: dict[str, tuple[int, ...]] = {
        "kernel_shape": (extent, across),
        # there is one window across, whatever the stride
        "strides": (stride, 1 if is_op(node, "ConvTranspose") else stride),
    }
    if "auto_pad" not in node.attributes:
        planar["pads"] = (begin, 0, end, across - 1)
    if not is_op(node, "AveragePool"):  # it has none in opset 18
        planar["dilations"] = (dilation, 1)
    for name, second in (("output_padding", 0), ("output_shape", 1)):
        if first := ints_attribute(node, name):
            planar[name] = (*first, second)
    return planar
