"""Scale and Bias: a factor or a summand along some axes, learnt or read as a second bottom."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, Shape
from dlaconv.frontends.caffe.message import Message


def scale(layer: CaffeLayer) -> list[ir.Value]:
    """Scale: x times a factor, plus a bias with ``bias_term``."""
    param = layer.param("scale_param")
    axis, inner, learnt = _place(layer, param)
    if learnt:
        factor: ir.Value = _learnt(layer, 0, inner, axis, "scale")
    else:
        factor = layer.reshaped(layer.bottoms[1], _broadcast(layer, axis, inner))
    result = layer.op("Mul", [layer.x, factor], layer.shape())
    if param.flag("bias_term"):
        bias = _learnt(layer, 1 if learnt else 0, inner, axis, "bias")
        result = layer.op("Add", [result, bias], layer.shape())
    return [result]


def bias(layer: CaffeLayer) -> list[ir.Value]:
    """Bias: x plus a summand."""
    axis, inner, learnt = _place(layer, layer.param("bias_param"))
    if learnt:
        summand = _learnt(layer, 0, inner, axis, "bias")
    else:
        summand = layer.reshaped(layer.bottoms[1], _broadcast(layer, axis, inner))
    return [layer.op("Add", [layer.x, summand], layer.shape())]


def _place(layer: CaffeLayer, param: Message) -> tuple[int, Shape, bool]:
    """The first axis, the shape from there, and whether it is that of a blob of weights."""
    layer.require_bottoms(1, 2)
    shape, count = layer.shape(), param.integer("num_axes")
    axis = layer.axis(param.integer("axis"))
    if len(layer.bottoms) == 2:
        inner = layer.shape(1)
        if not inner:
            axis = 0
        if shape[axis : axis + len(inner)] != inner:
            layer.refuse(f"{list(inner)} does not fit {list(shape)} from axis {axis} on")
        return axis, inner, False
    if count < -1 or axis + count > len(shape):
        layer.refuse(f"num_axes {count} from axis {axis} of {list(shape)}")
    return axis, shape[axis:] if count == -1 else shape[axis : axis + count], True


def _learnt(layer: CaffeLayer, index: int, inner: Shape, axis: int, what: str) -> ir.Value:
    array = layer.blob(index, inner, what)
    return layer.constant(what, array.reshape(_broadcast(layer, axis, inner)))


def _broadcast(layer: CaffeLayer, axis: int, inner: Shape) -> Shape:
    behind = len(layer.shape()) - axis - len(inner)
    return (1,) * axis + inner + (1,) * behind
