"""FC-1: fully connected layers behind a flattened map, as convolutions of the whole map."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import is_op, producer, shape_of
from dlaconv.ir.passes.legal.activated import rounding_problem
from dlaconv.ir.passes.legal.building import Builder, Shape
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import KernelLimits, Target


@legalisation("Gemm", rules=("FC-1",))
def flatten_fc(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A fully connected layer of many inputs behind Flatten becomes a convolution of the map.

    Identity: The inputs of a flattened map [N, C, H, W] are its values in order, so weights
    [O, CHW] are a kernel [O, C, H, W] for a convolution with one position.

    Conditions: The map is no larger than the largest kernel, and has no more channels than a
    convolution reads. Only where the fully connected layer has too many inputs, or would have them
    once the channels of the map are padded.

    Cost: None.
    """
    target, weights = context.target, weights_of(node)
    if weights is None:
        return None
    source = flattened(node)
    shape = shape_of(source) if source is not None else None
    if source is None or shape is None:
        return None
    count = weights.array.shape[1] // shape[1] * padded_channels(source, target)
    if count <= target.fc_channels[1] or not kernel_fits(shape, target.conv):
        return None  # wide_fc_inputs lays it out anew
    return whole_map_convolution(node, source, target)


def flattened(node: ir.Node) -> ir.Value | None:
    """The map ``[N, C, ...]`` whose values in order a fully connected layer reads, if it is one."""
    flatten = producer(node.inputs[0])
    source = flatten.inputs[0] if flatten is not None and is_op(flatten, "Reshape") else None
    shape = shape_of(source) if source is not None else None
    rows = shape_of(node.outputs[0])
    if source is None or shape is None or rows is None or len(shape) < 3 or shape[0] != rows[0]:
        return None
    return source


def padded_channels(x: ir.Value, target: Target) -> int:
    """The channels that a map has once they fill whole groups; those of a graph input stay."""
    channels, multiple = (shape_of(x) or (0, 0))[1], target.channel_multiple
    maker, origin = producer(x), x
    while maker is not None and (dialect.is_quantize(maker) or is_op(maker, "Transpose")):
        origin = maker.inputs[0] or origin
        maker = producer(origin)
    return channels if origin.is_graph_input() else -(-channels // multiple) * multiple


def kernel_fits(shape: Shape, limits: KernelLimits) -> bool:
    """True if a convolution can have the whole of a map ``[N, C, H, W]`` as its window."""
    if len(shape) != 4 or shape[1] > limits.channels[1]:
        return False
    return all(limits.kernel[0] <= extent <= limits.kernel[1] for extent in shape[2:])


def whole_map_convolution(
    node: ir.Node, x: ir.Value, target: Target, *, layout: Shape | None = None
) -> Plan | Blocked:
    """A fully connected layer as a convolution with one position.

    Args:
        node: the layer.
        x: a value that holds its inputs in order.
        target: the hardware.
        layout: the map ``[N, C, H, W]`` that ``x`` is laid out in; its shape if there is none.
    """
    weights = weights_of(node)
    shape = layout or shape_of(x)
    assert weights is not None
    assert shape is not None
    if weights.channels > target.conv.channels[1]:
        return Blocked(
            f"{weights.channels} outputs are more than the {target.conv.channels[1]} of a layer"
        )
    if (problem := rounding_problem(node.outputs[0])) is not None:
        return Blocked(problem)
    builder = Builder(node)
    source = x if layout is None else builder.reshape(x, layout)
    kernel = weights.array.reshape(weights.channels, *shape[1:])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    result = builder.conv(source, replace(weights, array=kernel), bias)
    builder.reshape(result, shape_of(node.outputs[0]) or ())
    size = f"{shape[2]}x{shape[3]}"
    return builder.plan(f"{shape[1]} channels of {size} as a {size} convolution")
