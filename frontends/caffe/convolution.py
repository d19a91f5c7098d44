"""Convolution and Deconvolution, with the names that forks have for their depthwise forms.

Sizes are rounded down: ``(H + 2 pad - (dilation (kernel - 1) + 1)) / stride + 1``. A Deconvolution
is the transpose of such a convolution, ``stride (H - 1) + dilation (kernel - 1) + 1 - 2 pad``, with
weights ``[C, M / group, ...]``, which ONNX's ConvTranspose has, too.
"""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer, Shape
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.windows import extents, require_positive


def convolution(layer: CaffeLayer) -> list[ir.Value]:
    """Convolution."""
    return _each(layer, transposed=False, depthwise=False)


def depthwise(layer: CaffeLayer) -> list[ir.Value]:
    """DepthwiseConvolution and ConvolutionDepthwise: as many groups as channels."""
    return _each(layer, transposed=False, depthwise=True)


def deconvolution(layer: CaffeLayer) -> list[ir.Value]:
    """Deconvolution."""
    return _each(layer, transposed=True, depthwise=False)


def _each(layer: CaffeLayer, *, transposed: bool, depthwise: bool) -> list[ir.Value]:
    """The same convolution of every bottom, as Caffe has it."""
    if not layer.bottoms or len(layer.bottoms) != len(layer.tops):
        layer.refuse(f"{len(layer.bottoms)} bottoms for {len(layer.tops)} tops")
    return [_one(layer, x, index, transposed, depthwise) for index, x in enumerate(layer.bottoms)]


def _one(layer: CaffeLayer, x: ir.Value, index: int, transposed: bool, depthwise: bool) -> ir.Value:
    param, shape = layer.param("convolution_param"), layer.shape(index)
    if len(shape) < 3 or layer.axis(param.integer("axis"), len(shape)) != 1:
        layer.no_form(
            f"a convolution over the dimensions behind axis {param.integer('axis')} of "
            f"{list(shape)}; ONNX has channels at axis 1"
        )
    spatial, channels, outputs = shape[2:], shape[1], param.integer("num_output")
    kernel, stride, pad, dilation = _window(layer, param, len(spatial))
    group = channels if depthwise else param.integer("group")
    if not param.has("num_output") or outputs < 1 or group < 1:
        layer.refuse(f"num_output {outputs} in {group} groups")
    if channels % group or outputs % group:
        layer.refuse(f"{channels} channels and {outputs} outputs in {group} groups")
    if transposed:
        result = tuple(
            s * (size - 1) + d * (k - 1) + 1 - 2 * p
            for size, k, s, p, d in zip(spatial, kernel, stride, pad, dilation, strict=True)
        )
        weights: Shape = (channels, outputs // group, *kernel)
    else:
        result = tuple(
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, k, s, p, d in zip(spatial, kernel, stride, pad, dilation, strict=True)
        )
        weights = (outputs, channels // group, *kernel)
    layer.require_size((shape[0], outputs, *result))
    groups = group if transposed else 1
    inputs: list[ir.Value | None] = [
        x,
        layer.weights(weights, outputs=int(transposed), groups=groups),
    ]
    if param.flag("bias_term"):
        inputs.append(layer.bias(outputs))
    attributes = {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [*pad, *pad],
        "dilations": list(dilation),
        "group": group,
    }
    op_type = "ConvTranspose" if transposed else "Conv"
    return layer.op(op_type, inputs, (shape[0], outputs, *result), attributes)


def _window(layer: CaffeLayer, param: Message, axes: int) -> tuple[tuple[int, ...], ...]:
    kernel = extents(layer, param, "kernel", axes, None)
    stride = extents(layer, param, "stride", axes, 1)
    pad = extents(layer, param, "pad", axes, 0)
    dilation = extents(layer, param, "dilation", axes, 1)
    for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        require_positive(layer, name, values)
    return kernel, stride, pad, dilation
