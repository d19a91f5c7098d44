"""Layers that reduce: Reduction and ArgMax."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, Shape

_OPERATORS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare"}


def reduction(layer: CaffeLayer) -> list[ir.Value]:
    """Reduction of all dimensions from ``axis`` on, times ``coeff``."""
    layer.require_bottoms(1)
    param, shape = layer.param("reduction_param"), layer.shape()
    axis = layer.axis(param.integer("axis"))
    op_type = _OPERATORS.get(param.text("operation"), "ReduceMean")
    axes = layer.constant("axes", list(range(axis, len(shape))))
    value = layer.op(op_type, [layer.x, axes], shape[:axis], {"keepdims": 0})
    if (coefficient := param.number("coeff")) != 1:
        value = layer.op("Mul", [value, layer.constant("coeff", coefficient)], shape[:axis])
    return [value]


def arg_max(layer: CaffeLayer) -> list[ir.Value]:
    """ArgMax: places of the largest values, as real numbers; of equal ones the last comes first.

    Without ``axis`` each image is one list, and ``out_max_val`` adds the values; with it that asks
    for the values instead.
    """
    layer.require_bottoms(1)
    param, shape = layer.param("argmax_param"), layer.shape()
    count, with_values = param.integer("top_k"), param.flag("out_max_val")
    by_axis = param.has("axis")
    axis = layer.axis(param.integer("axis")) if by_axis else 1
    value = layer.x if by_axis else layer.reshaped(layer.x, (shape[0], math.prod(shape[1:])))
    searched = shape if by_axis else (shape[0], math.prod(shape[1:]))
    if not 1 <= count <= searched[axis]:
        layer.refuse(f"top_k {count} of {searched[axis]} values")
    places, values = _largest(layer, value, searched, axis, count)
    if by_axis:
        return [values if with_values else places]
    result = (shape[0], 1, count, *(1,) * (len(shape) - 3))
    if not with_values:
        return [layer.reshaped(places, result)]
    parts = [layer.reshaped(part, result) for part in (places, values)]
    return [layer.op("Concat", parts, (shape[0], 2, *result[2:]), {"axis": 1})]


def _largest(
    layer: CaffeLayer, value: ir.Value, shape: Shape, axis: int, count: int
) -> tuple[ir.Value, ir.Value]:
    """Places and values of the largest along an axis, later ones first where they are equal."""
    result = (*shape[:axis], count, *shape[axis + 1 :])
    backwards = layer.op(
        "Slice",
        [
            value,
            layer.constant("begins", [-1]),
            layer.constant("ends", [-(1 << 62)]),
            layer.constant("axes", [axis]),
            layer.constant("steps", [-1]),
        ],
        shape,
    )
    attributes = {"axis": axis, "largest": 1, "sorted": 1}
    values, found = layer.ops(
        "TopK", [backwards, layer.constant("top_k", [count])], [result, result], attributes
    )
    found.dtype = ir.DataType.INT64
    last = layer.constant("last", shape[axis] - 1)
    places = layer.op("Sub", [last, found], result, dtype=ir.DataType.INT64)
    return layer.op("Cast", [places], result, {"to": int(ir.DataType.FLOAT)}), values
