"""InnerProduct: a matrix product over all dimensions from an axis on.

The weights are ``[num_output, K]``, or ``[K, num_output]`` with ``transpose``; K is the number of
elements behind ``axis``, and the dimensions before it stay.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer


def inner_product(layer: CaffeLayer) -> list[ir.Value]:
    """InnerProduct as a Gemm."""
    layer.require_bottoms(1)
    param, shape = layer.param("inner_product_param"), layer.shape()
    axis, outputs = layer.axis(param.integer("axis")), param.integer("num_output")
    if outputs < 1:
        layer.refuse(f"num_output {outputs}")
    inner, rows = math.prod(shape[axis:]), math.prod(shape[:axis])
    transpose = param.flag("transpose")
    stored = (inner, outputs) if transpose else (outputs, inner)
    weights = layer.weights(stored, outputs=int(transpose))
    flat = layer.x
    if axis != 1 or len(shape) != 2:
        flat = layer.op("Flatten", [flat], (rows, inner), {"axis": axis})
    inputs: list[ir.Value | None] = [flat, weights]
    if param.flag("bias_term"):
        inputs.append(layer.bias(outputs))
    result = layer.op("Gemm", inputs, (rows, outputs), {"transB": int(not transpose)})
    return [layer.reshaped(result, (*shape[:axis], outputs))]
