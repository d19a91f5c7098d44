"""Gives a requantisation an operator of its own: an identity convolution."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import attribute, insert_before, is_op, shape_of
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
    for node in stored_quantisers(model):
        x = node.inputs[0]
        assert x is not None
        insert_identity(node, x, context)


def stored_quantisers(model: ir.Model) -> list[ir.Node]:
    """The quantise nodes that read a stored map, producers first."""
    stored: set[ir.Value] = set()
    found = []
    for node in model.graph:
        if dialect.is_quantize(node):
            if node.inputs[0] in stored:
                found.append(node)
            stored.add(node.outputs[0])
        elif dialect.is_bipolar(node) or (
            _moves_integers(node)
            and all(
                value in stored
                for value in node.inputs
                if value is not None and not value.const_value
            )
        ):
            stored.add(node.outputs[0])
    return found


def _moves_integers(node: ir.Node) -> bool:
    return is_op(node, *SAME_SCALE) and not is_op(node, "LeakyRelu", "PRelu")


def insert_identity(node: ir.Node, x: ir.Value, context: Context, *, exact: bool = True) -> None:
    """Puts an identity layer between a stored map and the quantiser that reads it.

    Args:
        node: the quantiser.
        x: the map.
        context: gets the rewrite.
        exact: False if the source quantises something else than the stored map.
    """
    name = f"{node.name}/requantise"
    nodes = identity_layer(x, name)
    insert_before(node, *nodes)
    node.replace_input_with(0, nodes[-1].outputs[0])
    context.gains.add(name)
    layer = provenance.location(node).layer
    word = layer_words(nodes[-1])
    context.rewrites.append(
        Rewrite("requantise", layer, f"a {word} identity layer carries the requantisation", exact)
    )


def identity_layer(
    x: ir.Value, name: str, *, step: float = 1.0, bias: float = 0.0
) -> list[ir.Node]:
    """New nodes that multiply a map by ``step`` and add ``bias``; the last one is the layer.

    Args:
        x: the map, ``[N, C, ...]``.
        name: the layer's name.
        step: what the weights' integers, ones, are worth.
        bias: real bias of every channel; none if it is zero.
    """
    shape = shape_of(x) or ()
    attributes: dict[str, int | tuple[int, ...]]
    channels, spatial = shape[1], len(shape) - 2
    kernel = (1,) * spatial
    weights = np.eye(channels, dtype=np.int8)
    op_type, attributes = "Gemm", {"transB": 1}
    if spatial:
        depthwise = min(shape[2:]) >= _SMALLEST_DEPTHWISE_MAP
        if depthwise:
            weights = np.ones((channels, 1), np.int8)
        weights = weights.reshape(*weights.shape, *kernel)
        op_type = "Conv"
        attributes = {
            "kernel_shape": kernel,
            "strides": kernel,
            "dilations": kernel,
            "pads": (0,) * (2 * spatial),
            "group": channels if depthwise else 1,
        }
    holder = dialect.dequantize(
        dialect.constant(f"{name}/weight", weights),
        np.full((channels,) + (1,) * (weights.ndim - 1), step, np.float32),
        name=f"{name}/weights",
        output=f"{name}/W",
    )
    inputs = [x, holder.outputs[0]]
    if bias:
        inputs.append(dialect.constant(f"{name}/bias", np.full(channels, bias, np.float32)))
    layer = ir.node(op_type, inputs, attributes, name=name)
    result = layer.outputs[0]
    result.name, result.shape, result.dtype = f"{name}/out", x.shape, ir.DataType.FLOAT
    return [holder, layer]


def layer_words(layer: ir.Node) -> str:
    """The form of an identity layer, in words."""
    if is_op(layer, "Gemm"):
        return "fully connected"
    return "depth-wise 1x1" if attribute(layer, "group", 1) != 1 else "1x1"
