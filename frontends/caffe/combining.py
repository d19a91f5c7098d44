"""Layers that take several maps, or make several: Eltwise, Concat, Slice and Split."""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, shape_of
from dlaconv.frontends.caffe.message import Message

_OPERATORS = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}


def eltwise(layer: CaffeLayer) -> list[ir.Value]:
    """Eltwise: the sum with coefficients, the product or the maximum of maps of one shape."""
    layer.require_bottoms(2, 1 << 16)
    param, shape = layer.param("eltwise_param"), layer.shape()
    operation, coefficients = param.text("operation"), param.numbers("coeff")
    for index in range(len(layer.bottoms)):
        if layer.shape(index) != shape:
            layer.refuse(f"bottoms of shapes {list(shape)} and {list(layer.shape(index))}")
    if coefficients and operation != "SUM":
        layer.refuse(f"coeff with the operation {operation}; it belongs to SUM")
    if coefficients and len(coefficients) != len(layer.bottoms):
        layer.refuse(f"{len(coefficients)} coefficients for {len(layer.bottoms)} bottoms")
    return [_sum(layer, coefficients) if coefficients else _chain(layer, _OPERATORS[operation])]


def _chain(layer: CaffeLayer, op_type: str) -> ir.Value:
    result = layer.x
    for value in layer.bottoms[1:]:
        result = layer.op(op_type, [result, value], layer.shape())
    return result


def _sum(layer: CaffeLayer, coefficients: list[float]) -> ir.Value:
    """A sum with coefficients; a difference where the coefficient is -1."""
    shape, result = layer.shape(), _times(layer, layer.x, coefficients[0])
    for value, coefficient in zip(layer.bottoms[1:], coefficients[1:], strict=True):
        if coefficient == -1:
            result = layer.op("Sub", [result, value], shape)
        else:
            result = layer.op("Add", [result, _times(layer, value, coefficient)], shape)
    return result


def _times(layer: CaffeLayer, value: ir.Value, coefficient: float) -> ir.Value:
    if coefficient == 1:
        return value
    return layer.op("Mul", [value, layer.constant("coeff", coefficient)], layer.shape())


def concat(layer: CaffeLayer) -> list[ir.Value]:
    """Concat along an axis, which old files call ``concat_dim``."""
    layer.require_bottoms(1, 1 << 16)
    shape = layer.shape()
    axis = _axis(layer, layer.param("concat_param"), "concat_dim")
    if len(layer.bottoms) == 1:
        return [layer.x]
    shapes = [shape_of(value) for value in layer.bottoms]
    if any(
        (*s[:axis], 0, *s[axis + 1 :]) != (*shape[:axis], 0, *shape[axis + 1 :]) for s in shapes
    ):
        layer.refuse(f"shapes {', '.join(str(list(s)) for s in shapes)} along axis {axis}")
    result = (*shape[:axis], sum(s[axis] for s in shapes), *shape[axis + 1 :])
    return [layer.op("Concat", layer.bottoms, result, {"axis": axis})]


def slice_map(layer: CaffeLayer) -> list[ir.Value]:
    """Slice at ``slice_point``, or into equal parts; old files call the axis ``slice_dim``."""
    layer.require_bottoms(1)
    param, shape, count = layer.param("slice_param"), layer.shape(), len(layer.tops)
    axis = _axis(layer, param, "slice_dim")
    size, points = shape[axis], param.integers("slice_point")
    if points:
        if len(points) != count - 1:
            layer.refuse(f"{len(points)} slice points for {count} tops")
        edges = [0, *points, size]
    else:
        if not count or size % count:
            layer.refuse(f"{size} elements in {count} equal parts")
        edges = list(range(0, size + 1, size // count))
    sizes = [end - begin for begin, end in pairwise(edges)]
    if min(sizes) < 1:
        layer.refuse(f"slice points {points} of {size} elements")
    if count == 1:
        return [layer.x]
    shapes = [(*shape[:axis], part, *shape[axis + 1 :]) for part in sizes]
    inputs = [layer.x, layer.constant("split", sizes)]
    return layer.ops("Split", inputs, shapes, {"axis": axis})


def split(layer: CaffeLayer) -> list[ir.Value]:
    """Split: the same map under several names."""
    layer.require_bottoms(1)
    return [layer.x] * len(layer.tops)


def same(layer: CaffeLayer) -> list[ir.Value]:
    """Dropout, which scales in training only."""
    layer.require_bottoms(1)
    return [layer.x]


def _axis(layer: CaffeLayer, param: Message, old_name: str) -> int:
    if param.has(old_name):
        if param.has("axis"):
            layer.refuse(f"both axis and {old_name}")
        return layer.axis(param.integer(old_name), name=old_name)
    return layer.axis(param.integer("axis"))
