"""QuantizeLinear, DequantizeLinear and QLinear operators: parameters that make no sense."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.semantic.draft import FLOATS, INTEGERS, Draft, Mutation, fresh, some_node

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_SCALES = (*FLOATS, 0.0625, 0.3, 2.0**-7, 2.0**-40, 2.0**-120, 2.0**100, 1e-8, 7.0)
_SHAPES = ((), (), (1,), (1, 1), (16,), (3,), (0,), (1, 16, 1, 1), (16, 1))
_KINDS = (
    np.int8, np.int8, np.uint8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64,
    np.float32, np.bool_,
)  # fmt: skip
_ZEROS = (0, 0, 1, 3, 127, 128, 255, -1, -128, 32767, 2**31 - 1)
_MOVING = (
    ("Relu", [], {}), ("MaxPool", [], {"kernel_shape": [2, 2]}), ("Transpose", [], {}),
    ("Flatten", [], {}), ("Identity", [], {}), ("Shape", [], {}), ("ArgMax", [], {}),
    ("Cast", [], {"to": 1}), ("Cast", [], {"to": 6}), ("Clip", [], {}), ("Neg", [], {}),
    ("Concat", [], {"axis": 1}), ("Sigmoid", [], {}),
)  # fmt: skip


def _own(draft: Draft, node: onnx.NodeProto, index: int, array: np.ndarray) -> None:
    name = fresh(draft, f"{node.name[:30]}_i{index}")
    draft.graph.initializer.append(numpy_helper.from_array(array, name))
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name


def _with_parameters(draft: Draft, random: Random) -> onnx.NodeProto | None:
    nodes = [
        node
        for node in draft.graph.node
        if node.op_type in _PAIR or node.op_type.startswith(("QLinear", "QGemm"))
    ]
    return random.choice(nodes) if nodes else None


def _places(node: onnx.NodeProto) -> list[int]:
    """Where scales stand; zero points follow."""
    if node.op_type in _PAIR:
        return [1]
    if node.op_type == "QLinearConcat":
        return [0, *range(3, len(node.input), 3)]
    return [index for index in (1, 4, 6, 7) if index < len(node.input)]


def scale(draft: Draft, random: Random) -> str:
    node = _with_parameters(draft, random)
    if node is None:
        return ""
    index, shape = random.choice(_places(node) or [1]), random.choice(_SHAPES)
    value = random.choice(_SCALES)
    with np.errstate(all="ignore"):
        _own(draft, node, index, np.full(shape, value, np.float32))
    return f"input {index} of {node.name!r}: {list(shape)} {value}"


def zero_point(draft: Draft, random: Random) -> str:
    node = _with_parameters(draft, random)
    if node is None:
        return ""
    index, shape = random.choice(_places(node) or [1]) + 1, random.choice(_SHAPES)
    kind, value = random.choice(_KINDS), random.choice(_ZEROS)
    array = np.full(shape, value, np.int64).astype(kind)
    if array.size > 1 and random.random() < 0.5:
        array[...] = np.arange(array.size).reshape(array.shape).astype(kind)
    _own(draft, node, index, array)
    return f"input {index} of {node.name!r}: {array.dtype} {list(shape)} {value}"


def axis(draft: Draft, random: Random) -> str:
    node = some_node(draft, random, *_PAIR)
    if node is None:
        return ""
    name = random.choice(("axis", "axis", "block_size", "saturate", "output_dtype"))
    value = random.choice(INTEGERS)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return f"{name} of {node.name!r}: {value}"


def integers(draft: Draft, random: Random) -> str:
    """A constant of integers gets another type."""
    found = [tensor for tensor in draft.graph.initializer if tensor.data_type in {2, 3, 6}]
    if not found:
        return ""
    tensor = random.choice(found)
    try:
        array = numpy_helper.to_array(tensor)
    except Exception:  # an earlier mutation has spoilt it
        return ""
    kind = random.choice(_KINDS)
    tensor.CopyFrom(numpy_helper.from_array(array.astype(kind), tensor.name))
    return f"{tensor.name!r} as {np.dtype(kind)}"


def between(draft: Draft, random: Random) -> str:
    """An operator on integers, between a quantiser and what reads them."""
    node = some_node(draft, random, "QuantizeLinear", "QLinearConv", "QLinearAdd")
    if node is None or not node.output:
        return ""
    op, more, attributes = random.choice(_MOVING)
    name = fresh(draft, "moved")
    for other in draft.graph.node:
        other.input[:] = [name if entry == node.output[0] else entry for entry in other.input]
    made = helper.make_node(op, [node.output[0], *more], [name], name, **attributes)
    draft.graph.node.append(made)
    return f"{op} behind {node.name!r}"


def insert(draft: Draft, random: Random) -> str:
    """A pair on an edge, or half of one."""
    node = some_node(draft, random)
    if node is None or not node.input:
        return ""
    source = node.input[0]
    for op in random.choice((_PAIR, _PAIR, _PAIR[:1], _PAIR[1:], _PAIR[::-1])):
        name = fresh(draft, op.lower())
        made = helper.make_node(op, [source], [name], name)
        _own(draft, made, 1, np.float32(2.0 ** random.randrange(-9, 3)))
        if random.random() < 0.7:
            _own(
                draft, made, 2, np.asarray(random.choice(_ZEROS)).astype(random.choice(_KINDS[:4]))
            )
        draft.graph.node.append(made)
        source = name
    node.input[0] = source
    return f"before {node.name!r}"


def remove(draft: Draft, random: Random) -> str:
    """A quantiser goes: integers meet floats, or a map is float."""
    node = _with_parameters(draft, random)
    if node is None or not node.output:
        return ""
    source = node.input[2 if node.op_type == "QLinearConcat" and len(node.input) > 2 else 0]
    result = node.output[0]
    name = node.name
    draft.graph.node.remove(node)
    for other in draft.graph.node:
        other.input[:] = [source if entry == result else entry for entry in other.input]
    return f"{name!r}"


def interface(draft: Draft, random: Random) -> str:
    """A graph input or output of another type."""
    values: list[Any] = [*draft.graph.input, *draft.graph.output]
    if not values:
        return ""
    value = random.choice(values)
    value.type.tensor_type.elem_type = random.choice((1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 16, 22))
    return f"{value.name!r} of type {value.type.tensor_type.elem_type}"


MUTATIONS: tuple[Mutation, ...] = (
    scale, scale, zero_point, zero_point, axis, integers, between, between, insert, insert, remove,
    interface,
)  # fmt: skip
