"""Layers that join several tensors, and the operations of ``keras.ops`` of the same meaning.

Operations take constants and broadcast as NumPy does; layers read tensors of one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import KerasLayer, Shape, shape_of

Operand = Any
"""A value of the graph, or a number or nested lists of them."""


def merge(op_type: str) -> Callable[[KerasLayer], list[ir.Value]]:
    """The handler of Add, Multiply, Maximum and Minimum."""

    def handler(layer: KerasLayer) -> list[ir.Value]:
        return [folded(layer, op_type, operands(layer))]

    handler.__doc__ = f"{op_type} of all tensors."
    return handler


def subtract(layer: KerasLayer) -> list[ir.Value]:
    """Subtract."""
    return [_pair(layer, "Sub")]


def divide(layer: KerasLayer) -> list[ir.Value]:
    """Divide and TrueDivide of ``keras.ops``."""
    return [_pair(layer, "Div")]


def power(layer: KerasLayer) -> list[ir.Value]:
    """Power of ``keras.ops``."""
    return [_pair(layer, "Pow")]


def average(layer: KerasLayer) -> list[ir.Value]:
    """Average."""
    given = operands(layer)
    total = folded(layer, "Add", given)
    share = layer.constant("share", 1 / len(given))
    return [layer.op("Mul", [total, share], shape_of(total))]


def scaled_sum(layer: KerasLayer) -> list[ir.Value]:
    """CustomScaleLayer of InceptionResNetV2: ``x + scale * y``."""
    if len(layer.inputs) != 2:
        layer.refuse(f"{layer.layer.kind} of {len(layer.inputs)} tensors")
    one, other = layer.inputs
    scale = layer.constant("scale", layer.number("scale"))
    scaled = layer.op("Mul", [other, scale], shape_of(other))
    return [folded(layer, "Add", [one, scaled])]


def concatenate(layer: KerasLayer) -> list[ir.Value]:
    """Concatenate: along the last axis by default, along the first one as an operation."""
    values = list(layer.inputs)
    if not values:
        layer.refuse("nothing to concatenate")
    default = 0 if layer.layer.is_operation else -1
    axis = layer.keywords.get("axis", layer.config.get("axis", default))
    shapes = [shape_of(value) for value in values]
    at = layer.axis(default if axis is None else axis, len(shapes[0]))
    rest = {(*shape[:at], *shape[at + 1 :]) for shape in shapes}
    sizes = [shape[at] for shape in shapes if len(shape) == len(shapes[0])]
    if len(rest) != 1 or len(sizes) != len(shapes) or None in sizes:
        layer.refuse(f"concatenates {[list(shape) for shape in shapes]} along axis {at}")
    if len(values) == 1:
        return values
    result = list(shapes[0])
    result[at] = sum(size for size in sizes if size is not None)
    return [layer.op("Concat", values, result, {"axis": at})]


def operands(layer: KerasLayer) -> list[Operand]:
    """What a layer joins: two tensors or more in a list, or arguments x1, x2, even constants."""
    given: list[Operand] = []
    for item in (*layer.arguments, *(layer.keywords.get(n) for n in ("x1", "x2", "y", "bias"))):
        is_list = isinstance(item, list) and any(isinstance(x, ir.Value) for x in item)
        given += item if is_list else [] if item is None else [item]
    if len(given) < 2:
        layer.refuse(f"{layer.layer.kind} of {len(given)} tensors")
    if not layer.layer.is_operation and layer.layer.kind != "TFOpLambda":
        ranks = {len(shape_of(item)) for item in given if isinstance(item, ir.Value)}
        if len(ranks) > 1:
            layer.no_form(
                "tensors of several ranks, whose axes Keras moves before it broadcasts",
                remedy="reshape them to one rank",
            )
    return given


def folded(layer: KerasLayer, op_type: str, given: Sequence[Operand]) -> ir.Value:
    """A chain of an operator of two operands."""
    values = [_value(layer, item) for item in given]
    total = values[0]
    for value in values[1:]:
        shape = _broadcast(layer, shape_of(total), shape_of(value))
        total = layer.op(op_type, [total, value], shape)
    return total


def _pair(layer: KerasLayer, op_type: str) -> ir.Value:
    given = operands(layer)
    if len(given) != 2:
        layer.refuse(f"{layer.layer.kind} of {len(given)} tensors")
    return folded(layer, op_type, given)


def _value(layer: KerasLayer, item: Operand) -> ir.Value:
    if isinstance(item, ir.Value):
        return item
    try:
        array = np.asarray(item, np.float32)
    except (TypeError, ValueError):
        layer.refuse(f"{str(item)[:60]} is no tensor")
    if not np.isfinite(array).all():
        layer.refuse(f"a constant of {str(item)[:60]}")
    return layer.constant("constant", array)


def _broadcast(layer: KerasLayer, one: Shape, other: Shape) -> Shape:
    rank = max(len(one), len(other))
    found: list[int | None] = []
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    for a, b in pairs:
        if a != b and 1 not in {a, b}:
            layer.refuse(f"shapes {list(one)} and {list(other)} do not fit")
        found.append(b if a == 1 else a)
    return tuple(found)
