"""Gives a requantisation an operator of its own: an identity convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import insert_before, is_op, shape_of
from dlaconv.ir.layers import SAME_SCALE
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass

_SMALLEST_DEPTHWISE_MAP = 4


@ir_pass()
def requantise(model: ir.Model, context: Context) -> None:
    """Replaces Quantize(stored map) by Quantize(identity(stored map)).

    B(A(x)) is not B(x): a second quantiser with another step is a rounding of its own, and the
    hardware rounds only behind an operator. The identity is a depth-wise 1x1 convolution with
    weights of one, a dense one where the map is too small for depth-wise, or a fully connected
    layer where the map has no height and width. Its integers are exact; if the ratio of the two
    steps is a power of two, so is its scale.
    """
    stored: set[ir.Value] = set()
    for node in list(model.graph):
        if dialect.is_quantize(node):
            x = node.inputs[0]
            assert x is not None
            if x in stored:
                insert_identity(node, x, context)
            stored.add(node.outputs[0])
        elif _moves_integers(node) and all(
            value in stored for value in node.inputs if value is not None and not value.const_value
        ):
            stored.add(node.outputs[0])


def _moves_integers(node: ir.Node) -> bool:
    return is_op(node, *SAME_SCALE) and not is_op(node, "LeakyRelu", "PRelu")


def insert_identity(node: ir.Node, x: ir.Value, context: Context) -> None:
    """Puts an identity layer between a stored map and the quantiser that reads it."""
    shape = shape_of(x) or ()
    name = f"{node.name}/requantise"
    attributes: dict[str, int | tuple[int, ...]]
    if len(shape) == 2:
        weights = np.eye(shape[1], dtype=np.int8)
        op_type, attributes = "Gemm", {"transB": 1}
        word = "fully connected"
    else:
        spatial = len(shape) - 2
        depthwise = spatial > 0 and min(shape[2:]) >= _SMALLEST_DEPTHWISE_MAP
        channels = shape[1]
        kernel = (1,) * spatial
        if depthwise:
            weights = np.ones((channels, 1, *kernel), np.int8)
        else:
            weights = np.eye(channels, dtype=np.int8).reshape(channels, channels, *kernel)
        op_type = "Conv"
        attributes = {
            "kernel_shape": kernel,
            "strides": kernel,
            "dilations": kernel,
            "pads": (0,) * (2 * spatial),
            "group": channels if depthwise else 1,
        }
        word = "depth-wise 1x1" if depthwise else "1x1"
    holder = dialect.dequantize(
        dialect.constant(f"{name}/weight", weights),
        np.ones((len(weights),) + (1,) * (weights.ndim - 1), np.float32),
        name=f"{name}/weights",
        output=f"{name}/W",
    )
    identity = ir.node(op_type, [x, holder.outputs[0]], attributes, name=name)
    result = identity.outputs[0]
    result.name, result.shape, result.dtype = f"{name}/out", x.shape, ir.DataType.FLOAT
    insert_before(node, holder, identity)
    node.replace_input_with(0, result)
    context.gains.add(name)
    layer = provenance.location(node).layer
    context.rewrites.append(
        Rewrite("requantise", layer, f"a {word} identity layer carries the requantisation")
    )
