"""How each operator treats the channels of its maps, for `channel_padding`."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    ints_attribute,
    is_constant,
    is_op,
    producer,
    shape_of,
)
from dlaconv.ir.layers import ACTIVATIONS, ROUNDING, SAME_SCALE, TABLES
from dlaconv.ir.target import Target


class Kind(enum.Enum):
    """What an operator does to the channels of its maps."""

    WEIGHTS = "weights"
    """Reads them with weights, so that zeros in columns ignore what is not to be read."""
    SHARED = "shared"
    """Treats each channel alike and on its own: all its maps have one layout."""
    DERIVED = "derived"
    """Moves whole channels: the layout of the result follows from those of the operands."""
    MIXED = "mixed"
    """Mixes channels, or cannot have others between them."""
    HOST = "host"
    """No operator of the hardware."""


@dataclass(frozen=True)
class Channels:
    """How one node treats channels.

    Attributes:
        kind: see `Kind`.
        operands: the positions of the maps among its inputs.
    """

    kind: Kind
    operands: tuple[int, ...]


def channels_of(value: ir.Value | None) -> int | None:
    """Extent of the axis of channels; None for what has none."""
    shape = shape_of(value) if value is not None else None
    return shape[1] if shape is not None and len(shape) > 1 else None


def classify(node: ir.Node) -> Channels:
    """How a node treats the channels of its maps."""
    maps = tuple(index for index, value in enumerate(node.inputs) if _is_map(value))
    kind = _kind(node, maps)
    return Channels(kind, maps[:1] if kind is Kind.WEIGHTS else maps)


def padded_count(channels: int, target: Target, unit: int = 1) -> int | None:
    """The next number of channels that the hardware stores, None if there is none.

    Args:
        channels: how many there are.
        target: the hardware.
        unit: what the number has to be a multiple of, besides.
    """
    multiple = math.lcm(target.channel_multiple, unit)
    count = -(-max(channels, target.map_channels[0]) // multiple) * multiple
    return count if count <= target.map_channels[1] else None


def is_depthwise(node: ir.Node) -> bool:
    """True for a convolution with one filter per channel."""
    group = int(attribute(node, "group", 1))
    return is_op(node, "Conv") and group == channels_of(node.inputs[0]) == _rows(node)


def reshaped_blocks(node: ir.Node) -> tuple[int, int] | None:
    """How a Reshape changes the number of channels: each becomes n, or n become one.

    Returns:
        (n, 1) or (1, n); None if it moves something else too.
    """
    before, after = shape_of(_first(node)), shape_of(node.outputs[0])
    if before is None or after is None or min(len(before), len(after)) < 2:
        return None
    if before[0] != after[0] or not (before[1] and after[1]):
        return None
    if after[1] % before[1] == 0:
        return after[1] // before[1], 1
    return (1, before[1] // after[1]) if before[1] % after[1] == 0 else None


def _is_map(value: ir.Value | None) -> bool:
    return (
        value is not None and not is_constant(value) and not dialect.is_dequantize(producer(value))
    )


def _kind(node: ir.Node, maps: tuple[int, ...]) -> Kind:
    if dialect.is_quantize(node) or dialect.is_bipolar(node):
        return Kind.SHARED if maps == (0,) else Kind.MIXED
    if not is_op(node, *ROUNDING, *SAME_SCALE, *ACTIVATIONS):
        return Kind.HOST
    count = channels_of(node.outputs[0])
    if count is None or len(node.outputs) > 1 or any(_channels(node, i) is None for i in maps):
        return Kind.MIXED
    if is_op(node, "Conv", "Gemm"):
        return _linear(node, maps)
    if is_op(node, "Concat"):
        return _concat(node, maps)
    if is_op(node, "ReduceSum"):
        return _reduction(node)
    if is_op(node, "Reshape"):
        return Kind.DERIVED if reshaped_blocks(node) is not None else Kind.MIXED
    if is_op(node, "Transpose"):
        kept = ints_attribute(node, "perm")[:2] == (0, 1)
        return Kind.SHARED if kept else Kind.MIXED
    if is_op(node, "Add"):
        alike = all(_channels(node, i) == count and _rank(node, i) == _rank(node) for i in maps)
        return Kind.SHARED if len(maps) == 2 and alike else Kind.MIXED
    alike = maps == (0,) and _channels(node, 0) == count
    listed = (*ACTIVATIONS, *TABLES, "MaxPool", "AveragePool", "GlobalAveragePool")
    return Kind.SHARED if alike and is_op(node, *listed) else Kind.MIXED


def _linear(node: ir.Node, maps: tuple[int, ...]) -> Kind:
    if maps != (0,) or (is_op(node, "Gemm") and not attribute(node, "transB", 0)):
        return Kind.MIXED
    if is_op(node, "Gemm") or attribute(node, "group", 1) == 1:
        return Kind.WEIGHTS
    return Kind.SHARED if is_depthwise(node) else Kind.MIXED


def _concat(node: ir.Node, maps: tuple[int, ...]) -> Kind:
    rank = _rank(node)
    axis = int(attribute(node, "axis", 1)) % max(rank, 1)
    if len(maps) != len(node.inputs) or axis == 0:
        return Kind.MIXED
    return Kind.DERIVED if axis == 1 else Kind.SHARED


def _reduction(node: ir.Node) -> Kind:
    rank, axes = _rank(node, 0), input_array(node, 1)
    if axes is None or any(int(axis) % rank in {0, 1} for axis in axes.reshape(-1)):
        return Kind.MIXED
    return Kind.SHARED if attribute(node, "keepdims", 1) else Kind.DERIVED


def _channels(node: ir.Node, index: int) -> int | None:
    return channels_of(node.inputs[index])


def _rank(node: ir.Node, index: int | None = None) -> int:
    value = node.outputs[0] if index is None else node.inputs[index]
    return len(shape_of(value) or ()) if value is not None else 0


def _rows(node: ir.Node) -> int | None:
    value = node.inputs[1]
    shape = shape_of(value) if value is not None else None
    return shape[0] if shape else None


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value
