"""Constants of a node with zeros for further channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.channel_layout import ChannelLayout
from dlaconv.ir.graph import (
    insert_before,
    is_optional_input_absent,
    producer,
    register_constants,
    unique_name,
)
from dlaconv.ir.passes.linear_ops import stem


def pad_input(
    node: ir.Node, index: int, layouts: Mapping[int, ChannelLayout], *, alike: bool = False
) -> None:
    """Pads a constant input of a node, or the integers and steps behind a ``Dequantize``.

    Further integers and floats are zero; their steps are finite, those of the channel before.

    Args:
        node: the node.
        index: position of the input; nothing happens where there is none.
        layouts: by axis, negative ones from the end. Along an axis of extent one the constant
            serves every channel, and stays as it is.
        alike: gives further channels the values of the channel before instead of zeros.
    """
    if is_optional_input_absent(node, index) or all(item.is_dense for item in layouts.values()):
        return
    value = node.inputs[index]
    assert value is not None
    assert isinstance(node.graph, ir.Graph)
    holder = producer(value)
    name = unique_name(node.graph, f"{stem(node)}/padded")
    if holder is None:
        padded = dialect.constant(name, _padded(dialect.array_of(value), layouts, alike=alike))
        node.replace_input_with(index, padded)
        register_constants(node.graph, [node])
        return
    integers = dialect.array_of(holder.inputs[0])
    from_end = {axis if axis < 0 else axis - integers.ndim: item for axis, item in layouts.items()}
    steps = _padded(dialect.step_of(holder), from_end, alike=True)
    integers = _padded(integers, layouts, alike=alike)
    fresh = dialect.dequantize(
        dialect.constant(f"{name}/integers", integers), steps, name=name, output=name
    )
    insert_before(node, fresh)
    node.replace_input_with(index, fresh.outputs[0])


def _padded(array: np.ndarray, layouts: Mapping[int, ChannelLayout], *, alike: bool) -> np.ndarray:
    for axis, layout in layouts.items():
        if not -array.ndim <= axis < array.ndim or array.shape[axis] != layout.channels:
            continue
        if layout.channels > 1 or not alike:
            array = layout.repeat(array, axis) if alike else layout.spread(array, axis)
    return array
