"""A layer that multiplies each channel of a map by a number and adds one."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import producer, shape_of
from dlaconv.ir.passes.legal.building import Builder, Shape
from dlaconv.ir.passes.legal.legalisation import Blocked
from dlaconv.ir.passes.legal.rows import rectangle
from dlaconv.ir.passes.linear_ops import Weights, scaled
from dlaconv.ir.target import Target


def diagonal_layer(
    builder: Builder, x: ir.Value, scale: np.ndarray, offset: np.ndarray, target: Target
) -> ir.Value | Blocked:
    """``scale * x + offset`` as a layer: depth-wise, dense on small maps, or fully connected.

    A map of another rank than two or four is laid out as one of four and back. The weights are ones
    worth the scale, so that the scale stage is free to choose integers and steps that meet it best.

    Args:
        builder: gets the nodes.
        x: the map ``[N, C, ...]``.
        scale: float64 ``[C]``, real.
        offset: float64 ``[C]``, real.
        target: the hardware.

    Returns:
        The unrounded result, in the shape of ``x``; or why there is no such layer.
    """
    shape = shape_of(x)
    if shape is None or len(shape) < 2:
        return Blocked(f"a map of shape {list(shape or ())} has no channels")
    flat = layout(shape, target)
    if flat is None:
        return Blocked(f"no map of at most {target.map_size[1]}x{target.map_size[1]} has "
                       f"{math.prod(shape[2:])} positions")  # fmt: skip
    most = target.conv.channels[1] if flat else target.fc_channels[1]
    if shape[1] > most:
        return Blocked(f"{shape[1]} channels are more than the {most} of a layer")
    depthwise = _depthwise_fits(x, flat, target)
    weights = _weights(scale, len(flat), depthwise=depthwise)
    if weights is None:
        return Blocked("a factor leaves the range of floats")
    bias = offset if offset.any() else None
    laid_out = x if shape[2:] == flat else builder.reshape(x, (*shape[:2], *flat))
    if flat:
        result = builder.conv(laid_out, weights, bias, group=shape[1] if depthwise else 1)
    else:
        result = builder.gemm(laid_out, weights, bias)
    layer = producer(result)
    assert layer is not None
    builder.gains.append(layer)
    return result if shape[2:] == flat else builder.reshape(result, shape)


def layout(shape: Shape, target: Target) -> Shape | None:
    """Height and width in which layers read a map ``[N, C, ...]``; none for vectors.

    None if there are too many positions.
    """
    if len(shape) in {2, 4}:
        return shape[2:]
    return rectangle(math.prod(shape[2:]), target.map_size[1])


def _depthwise_fits(x: ir.Value, flat: Shape, target: Target) -> bool:
    """True if a depth-wise layer can read the map.

    A graph input whose channels fill no whole groups gets a dense layer: its result can be padded.
    """
    if not flat:
        return False
    limits, channels = target.depthwise, (shape_of(x) or (0, 0))[1]
    maker = producer(x)
    source = maker.inputs[0] if maker is not None and dialect.is_quantize(maker) else x
    whole = channels % target.channel_multiple == 0
    if source is not None and source.is_graph_input() and not whole:
        return False
    low, high = limits.map_size
    return all(low <= size <= high for size in flat) and channels <= limits.channels[1]


def _weights(scale: np.ndarray, rank: int, *, depthwise: bool) -> Weights | None:
    channels = len(scale)
    ones = np.ones((channels, 1), np.int8) if depthwise else np.eye(channels, dtype=np.int8)
    return scaled(Weights(ones.reshape(*ones.shape, *(1,) * rank), 0, np.ones(channels)), scale)
