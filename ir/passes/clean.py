"""Removes nodes that do nothing, nodes that nobody reads, and constants that nobody reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import (
    attribute,
    bypass,
    drop_unread,
    input_array,
    ints_attribute,
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
)
from dlaconv.ir.pipeline import Context, ir_pass

_WIDER = {
    ir.DataType.FLOAT: (ir.DataType.DOUBLE,),
    ir.DataType.FLOAT16: (ir.DataType.FLOAT, ir.DataType.DOUBLE),
    ir.DataType.BFLOAT16: (ir.DataType.FLOAT, ir.DataType.DOUBLE),
}
"""Types that hold every value of another one."""
_STILL = ("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel")
"""Coordinate transformations under which a factor of 1 moves no point."""
_OPTIONAL_OUTPUTS = (
    "BatchNormalization", "Dropout", "GRU", "LSTM", "LayerNormalization", "MaxPool", "RNN",
)  # fmt: skip


@ir_pass()
def clean(model: ir.Model, context: Context) -> None:
    """Replaces ``f(x)`` with ``x`` where f is the identity, and drops what nothing reads.

    Graph inputs and outputs keep their names; a copy between them stays an Identity.
    """
    graph = model.graph
    for node in graph:
        _trim_outputs(node)
        _skip_detour(node)
        if _does_nothing(node):
            bypass(node)
    drop_unread(graph)


def _trim_outputs(node: ir.Node) -> None:
    """Drops unused optional outputs at the end; every one of these operators has one it needs."""
    if not is_op(node, *_OPTIONAL_OUTPUTS):
        return
    count = len(node.outputs)
    while count > 1 and not _read(node.outputs[count - 1]):
        count -= 1
    node.resize_outputs(count)


def _read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _does_nothing(node: ir.Node) -> bool:
    check = _IDENTITIES.get(node.op_type) if node.domain in {"", "ai.onnx"} else None
    if check is None or not node.inputs or node.inputs[0] is None:
        return False
    return not any(_read(value) for value in node.outputs[1:]) and check(node)


def _dropout(node: ir.Node) -> bool:
    if is_optional_input_absent(node, 2):
        return True
    training = input_array(node, 2)
    return training is not None and not training.any()


def _cast(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype == node.attributes["to"].as_int()


def _skip_detour(node: ir.Node) -> None:
    """Lets a Cast back from a wider type read what was cast there."""
    before = producer(node.inputs[0]) if is_op(node, "Cast") and node.inputs else None
    if before is None or not is_op(before, "Cast") or before.inputs[0] is None:
        return
    narrow, wide = before.inputs[0].dtype, ir.DataType(before.attributes["to"].as_int())
    if narrow is not None and wide in _WIDER.get(narrow, ()):
        node.replace_input_with(0, before.inputs[0])


def _clip(node: ir.Node) -> bool:
    largest = float(np.finfo(np.float32).max)
    ends = []
    for index in (1, 2):
        absent, array = is_optional_input_absent(node, index), input_array(node, index)
        if not absent and (array is None or array.dtype != np.float32):
            return False
        ends.append(None if array is None else float(array.reshape(())))
    low, high = ends
    return (low is None or low <= -largest) and (high is None or high >= largest)


def _pad(node: ir.Node) -> bool:
    pads = input_array(node, 1)
    return pads is not None and not pads.any()


def _same_shape(node: ir.Node) -> bool:
    source = node.inputs[0]
    before = shape_of(source) if source is not None else None
    return before is not None and before == shape_of(node.outputs[0])


def _slice(node: ir.Node) -> bool:
    if not _same_shape(node):
        return False
    steps = input_array(node, 4)
    return is_optional_input_absent(node, 4) or (steps is not None and bool((steps > 0).all()))


def _resize(node: ir.Node) -> bool:
    """Points that stay where they are, however one interpolates between them."""
    mode = attribute(node, "coordinate_transformation_mode", "half_pixel")
    scales = input_array(node, 2)
    by_size = is_optional_input_absent(node, 2)
    same = bool(by_size or (scales is not None and (scales == 1).all()))
    return same and mode in _STILL and _same_shape(node)


def _kept_axes(node: ir.Node) -> bool:
    """A reduction along axes of extent 1 only."""
    return bool(attribute(node, "keepdims", 1)) and _same_shape(node)


def _transpose(node: ir.Node) -> bool:
    perm = ints_attribute(node, "perm")
    return bool(perm) and list(perm) == sorted(perm)


def _one_operand(node: ir.Node) -> bool:
    return len(node.inputs) == 1


def _pool(node: ir.Node) -> bool:
    return (
        set(ints_attribute(node, "kernel_shape")) == {1}
        and set(ints_attribute(node, "strides", (1,))) == {1}
        and not any(ints_attribute(node, "pads"))
        and _same_shape(node)
    )


def _neutral(neutral: float) -> Callable[[ir.Node], bool]:
    """Multiplying by 1 and the like; adding zero stays, it turns -0 into 0."""

    def check(node: ir.Node) -> bool:
        other = input_array(node, 1)
        return other is not None and bool(np.all(other == neutral)) and _same_shape(node)

    return check


_IDENTITIES: dict[str, Callable[[ir.Node], bool]] = {
    "AveragePool": _pool,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _one_operand,
    "DepthToSpace": _same_shape,
    "Div": _neutral(1.0),
    "Dropout": _dropout,
    "Expand": _same_shape,
    "Flatten": _same_shape,
    "GlobalAveragePool": _same_shape,
    "GlobalMaxPool": _same_shape,
    "Identity": lambda _node: True,
    "Max": _one_operand,
    "MaxPool": _pool,
    "Mean": _one_operand,
    "Min": _one_operand,
    "Mul": _neutral(1.0),
    "Pad": _pad,
    "Pow": _neutral(1.0),
    "ReduceMax": _kept_axes,
    "ReduceMean": _kept_axes,
    "ReduceMin": _kept_axes,
    "ReduceSum": _kept_axes,
    "Reshape": _same_shape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _same_shape,
    "Split": _same_shape,
    "Squeeze": _same_shape,
    "Sum": _one_operand,
    "Tile": _same_shape,
    "Transpose": _transpose,
    "Unsqueeze": _same_shape,
}
