"""Quant, BipolarQuant and Trunc: scales, zero points and bit widths that make no sense."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.semantic.draft import FLOATS, WORDS, Draft, Mutation, fresh, some_node

_KINDS = ("Quant", "IntQuant", "BipolarQuant", "Trunc")
_BITS = (
    0, 1, 2, 2.5, 3, 4, 7, 8, 9, 10, 15, 16, 17, 23, 24, 25, 31, 32, 33, 53, 64, 127, 128, 1e9,
    1e38, -1, -8, float("nan"), float("inf"),
)  # fmt: skip
_ZEROS = (0, 1, -1, 0.5, 3, 127, 128, 255, 300, -128, 1e9, 1e-20, float("nan"), float("inf"))
_SCALES = (*FLOATS, 0.0625, 0.3, 2.0**-7, 2.0**-40, 2.0**-120, 2.0**100, 1e-8, 7.0)
_MODES = (
    "ROUND", "round", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN",
    "ROUND_TO_ZERO", "half_even", "dpu", "", "ä", "STOCHASTIC",
)  # fmt: skip
_SHAPES = (
    (), (), (1,), (1, 1, 1, 1), (16, 1, 1, 1), (1, 16, 1, 1), (16,), (1, 16), (3,), (0,), (2, 2),
    (1, 1, 1, 1, 1), (16, 16, 1, 1), (1, 3, 1, 1), (1, 1, 6, 1),
)  # fmt: skip


def _own(draft: Draft, node: onnx.NodeProto, index: int, array: Any) -> None:
    """Gives an input a constant of its own."""
    name = fresh(draft, f"{node.name[:30]}_p{index}")
    draft.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
    while len(node.input) <= index:
        node.input.append("")
    node.input[index] = name


def _filled(random: Random, value: float) -> np.ndarray:
    shape = random.choice(_SHAPES)
    with np.errstate(all="ignore"):
        array = np.full(shape, value, np.float32)
        if array.size > 1 and random.random() < 0.5:
            array[...] = 0.05
            array.reshape(-1)[random.randrange(array.size)] = value
    return array


def scale(draft: Draft, random: Random) -> str:
    node = some_node(draft, random, *_KINDS)
    if node is None:
        return ""
    array = _filled(random, random.choice(_SCALES))
    _own(draft, node, 1, array)
    return f"{node.name!r} {list(array.shape)} {array.reshape(-1)[:1]}"


def common_scale(draft: Draft, random: Random) -> str:
    """Every quantiser that shares a constant gets another value at once."""
    node = some_node(draft, random, *_KINDS)
    if node is None or len(node.input) < 2:
        return ""
    index = random.randrange(1, len(node.input))
    for tensor in draft.graph.initializer:
        if tensor.name == node.input[index]:
            value = random.choice((_SCALES, _ZEROS, _BITS)[min(index, 3) - 1])
            made = numpy_helper.from_array(np.asarray(value, np.float32), tensor.name)
            tensor.CopyFrom(made)
            return f"{tensor.name!r} = {value}"
    return ""


def zero_point(draft: Draft, random: Random) -> str:
    node = some_node(draft, random, *_KINDS)
    if node is None:
        return ""
    array = _filled(random, random.choice(_ZEROS))
    _own(draft, node, 2, array)
    return f"{node.name!r} {list(array.shape)} {array.reshape(-1)[:1]}"


def bits(draft: Draft, random: Random) -> str:
    node = some_node(draft, random, *_KINDS)
    if node is None:
        return ""
    value = random.choice(_BITS)
    array = np.float32(value) if random.random() < 0.8 else _filled(random, value)
    _own(draft, node, 4 if node.op_type == "Trunc" and random.random() < 0.5 else 3, array)
    return f"{node.name!r} {value}"


def flags(draft: Draft, random: Random) -> str:
    node = some_node(draft, random, *_KINDS)
    if node is None:
        return ""
    name = random.choice(("signed", "narrow", "rounding_mode", "rounding_mode", "version"))
    numbers = (0, 1, 0, 1, 2, -1, 2**40, 0.5)
    value = random.choice((*_MODES, *WORDS) if name == "rounding_mode" else numbers)
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return f"{name} of {node.name!r}: {value!r:.30}"


def computed_parameter(draft: Draft, random: Random) -> str:
    """A parameter that a node computes from the data, or from a constant."""
    node = some_node(draft, random, *_KINDS)
    if node is None or len(node.input) < 2:
        return ""
    index = random.randrange(1, len(node.input))
    source = random.choice((node.input[0], node.input[index]))
    op = random.choice(
        ("Abs", "Identity", "ReduceMax", "Exp", "Relu", "Floor", "Log", "Reciprocal")
    )
    name = fresh(draft, "parameter")
    draft.graph.node.append(helper.make_node(op, [source], [name], name))
    node.input[index] = name
    return f"input {index} of {node.name!r} by {op}"


def insert(draft: Draft, random: Random) -> str:
    """One more quantiser on an edge, with its own grid."""
    node = some_node(draft, random)
    if node is None or not node.input:
        return ""
    kind = random.choice(("Quant", "Quant", "Quant", "BipolarQuant", "Trunc"))
    name = fresh(draft, "quantised")
    count = {"Quant": 4, "BipolarQuant": 2, "Trunc": 5}[kind]
    made = helper.make_node(kind, [node.input[0], *[""] * (count - 1)], [name], name)
    made.domain = "qonnx.custom_op.general"
    plain = random.random() < 0.6
    _own(draft, made, 1, 2.0 ** random.randrange(-9, 3) if plain else random.choice(_SCALES))
    if count > 2:
        _own(draft, made, 2, 0.0 if plain else random.choice(_ZEROS))
        for index in range(3, count):
            _own(
                draft, made, index, random.choice((4, 8, 8, 16)) if plain else random.choice(_BITS)
            )
    if kind == "Quant":
        made.attribute.append(helper.make_attribute("signed", random.choice((0, 1))))
        made.attribute.append(helper.make_attribute("narrow", random.choice((0, 1))))
    draft.graph.node.append(made)
    node.input[0] = name
    return f"{kind} before {node.name!r}"


def remove(draft: Draft, random: Random) -> str:
    """A quantiser goes: its map or its weights are float."""
    node = some_node(draft, random, *_KINDS)
    if node is None or not node.input or not node.output:
        return ""
    source, result, name = node.input[0], node.output[0], node.name
    draft.graph.node.remove(node)
    for other in draft.graph.node:
        other.input[:] = [source if entry == result else entry for entry in other.input]
    for output in draft.graph.output:
        output.name = source if output.name == result else output.name
    return f"{name!r}"


MUTATIONS: tuple[Mutation, ...] = (
    scale, scale, common_scale, zero_point, bits, bits, flags, computed_parameter, insert, insert,
    remove, remove,
)  # fmt: skip
