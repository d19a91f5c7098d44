"""Folds additions of constants into the bias of the linear operator before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import input_array, is_op, shape_of, take_over
from dlaconv.ir.passes.linear_ops import (
    bias_of,
    linear_producer,
    output_axis,
    per_channel,
    set_bias,
)
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass(tolerance=1e-6)
def fold_bias(model: ir.Model, context: Context) -> None:
    """Replaces ``Add(Linear(x, W, b), c)`` with ``Linear(x, W, b + c)``, and Sub with ``b - c``.

    Only where nothing else reads the linear operator's result and c is one number per channel.
    The sum is taken in float64.
    """
    for node in model.graph:
        if is_op(node, "Add", "Sub"):
            _fold(node, model.graph)


def _fold(node: ir.Node, graph: ir.Graph) -> None:
    for position in (0, 1) if is_op(node, "Add") else (0,):
        linear = linear_producer(node.inputs[position])
        constant = input_array(node, 1 - position)
        if linear is None or constant is None or not _same_size(node, linear):
            continue
        channels = _channels(linear)
        offset = per_channel(constant, linear, channels) if channels else None
        bias = bias_of(linear, channels) if channels else None
        if offset is None or bias is None:
            continue
        total = bias - offset if is_op(node, "Sub") else bias + offset
        if not np.isfinite(total.astype(np.float32)).all():
            continue
        set_bias(linear, total)
        take_over(node.outputs[0], linear.outputs[0])
        graph.remove(node, safe=True)
        return


def _same_size(node: ir.Node, linear: ir.Node) -> bool:
    return shape_of(node.outputs[0]) == shape_of(linear.outputs[0])


def _channels(linear: ir.Node) -> int:
    """Number of output channels, 0 if unknown."""
    shape = shape_of(linear.outputs[0])
    if shape is not None and len(shape) > 1:
        return shape[1]
    weights = linear.inputs[1]
    sizes = shape_of(weights) if weights is not None else None
    return sizes[output_axis(linear)] if sizes and not is_op(linear, "ConvTranspose") else 0
