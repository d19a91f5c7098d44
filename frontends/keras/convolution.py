"""Convolutions: Keras keeps kernels as ``[..., I, O]``, depthwise ones as ``[..., C, m]``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.activation import activated
from dlaconv.frontends.keras.building import KerasLayer, Shape, shape_of
from dlaconv.frontends.keras.parameters import Parameters, Variable, as_stored
from dlaconv.frontends.keras.windows import axes_of, known, map_shape, padding_of, pads, space


def convolution(layer: KerasLayer) -> list[ir.Value]:
    """Conv1D, Conv2D and Conv3D."""
    return activated(layer, convolved(layer, as_stored))


def depthwise(layer: KerasLayer) -> list[ir.Value]:
    """DepthwiseConv1D and DepthwiseConv2D."""
    return activated(layer, depthwise_convolved(layer, as_stored))


def separable(layer: KerasLayer) -> list[ir.Value]:
    """SeparableConv1D and SeparableConv2D: depthwise, then one element wide."""
    return activated(layer, separably_convolved(layer, as_stored))


def transposed(layer: KerasLayer) -> list[ir.Value]:
    """Conv1DTranspose, Conv2DTranspose and Conv3DTranspose."""
    return activated(layer, transposed_convolved(layer, as_stored))


def convolved(layer: KerasLayer, parameters: Parameters) -> ir.Value:
    """A convolution before its activation."""
    channels, sizes = _map(layer)
    axes, outputs, group = len(sizes), layer.integer("filters"), layer.integer("groups", 1)
    if channels % group or outputs % group:
        layer.refuse(f"{channels} channels and {outputs} filters in {group} groups")
    kernel = layer.integers("kernel_size", axes)
    weights = parameters(
        layer, Variable(0, (*kernel, channels // group, outputs), ("kernel",), _outputs_first)
    )
    inputs = [weights, *_bias(layer, parameters, 1, outputs)]
    return _conv(layer, layer.x, inputs, kernel, outputs, group, causal=axes == 1)


def depthwise_convolved(layer: KerasLayer, parameters: Parameters) -> ir.Value:
    """A depthwise convolution before its activation."""
    channels, sizes = _map(layer)
    kernel = layer.integers("kernel_size", len(sizes))
    outputs = channels * layer.integer("depth_multiplier", 1)
    weights = parameters(layer, _depthwise_kernel(layer, kernel, channels, "kernel"))
    inputs = [weights, *_bias(layer, parameters, 1, outputs)]
    return _conv(layer, layer.x, inputs, kernel, outputs, channels, causal=len(sizes) == 1)


def separably_convolved(layer: KerasLayer, parameters: Parameters) -> ir.Value:
    """A separable convolution before its activation."""
    channels, sizes = _map(layer)
    axes, outputs = len(sizes), layer.integer("filters")
    kernel, between = (
        layer.integers("kernel_size", axes),
        channels * layer.integer("depth_multiplier", 1),
    )
    depth = parameters(layer, _depthwise_kernel(layer, kernel, channels))
    point = parameters(
        layer,
        Variable(1, (*(1,) * axes, between, outputs), ("pointwise_kernel",), _outputs_first),
    )
    inner = _conv(layer, layer.x, [depth], kernel, between, channels, causal=axes == 1)
    inputs = [point, *_bias(layer, parameters, 2, outputs)]
    return _conv(layer, inner, inputs, (1,) * axes, outputs, 1, pointwise=True)


def transposed_convolved(layer: KerasLayer, parameters: Parameters) -> ir.Value:
    """A transposed convolution before its activation.

    Without ``output_padding`` it makes ``stride * size`` elements, and as many more as a kernel
    longer than the stride needs if the padding is ``valid``.
    """
    channels, sizes = _map(layer)
    axes, outputs = len(sizes), layer.integer("filters")
    kernel, stride = layer.integers("kernel_size", axes), layer.integers("strides", axes, 1)
    dilation, same = (
        layer.integers("dilation_rate", axes, 1),
        padding_of(layer, "same", "valid") == "same",
    )
    if layer.integer("groups", 1) != 1:
        layer.no_form("a transposed convolution in groups")
    weights = parameters(
        layer, Variable(0, (*kernel, outputs, channels), ("kernel",), _outputs_first)
    )
    result, begins, ends, further = [], [], [], []
    added = layer.given("output_padding")
    more = _output_padding(layer, added, axes)
    for size, k, s, d, extra in zip(sizes, kernel, stride, dilation, more, strict=True):
        extent = d * (k - 1) + 1
        full = (size - 1) * s + extent
        if extra is None:
            count = size * s + (0 if same else max(extent - s, 0))
        else:
            count = (size - 1) * s + (extent % 2 if same else extent) + extra
        cut = max(full - count, 0)
        result.append(count)
        begins.append(cut // 2)
        ends.append(cut - cut // 2)
        further.append(max(count - full, 0))
    x = layer.channels_first(layer.x)
    attributes = {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [*begins, *ends],
        "dilations": list(dilation),
        "output_padding": further,
    }
    inputs = [x, weights, *_bias(layer, parameters, 1, outputs)]
    value = layer.op("ConvTranspose", inputs, (shape_of(x)[0], outputs, *result), attributes)
    return layer.own_order(value)


def _output_padding(layer: KerasLayer, value: object, axes: int) -> list[int | None]:
    if value is None:
        return [None] * axes
    values = value if isinstance(value, list) else [value] * axes
    strides = layer.integers("strides", axes, 1)
    if len(values) != axes or not all(
        type(item) is int and 0 <= item < stride
        for item, stride in zip(values, strides, strict=False)
    ):
        layer.refuse(f"output_padding is {value!r} with strides {list(strides)}")
    return list(values)


def _map(layer: KerasLayer) -> tuple[int, list[int]]:
    """Channels and sizes of the map that the layer reads."""
    shape = map_shape(layer)
    [channels] = known(layer, shape[-1:] if layer.channels_last else shape[1:2])
    return channels, known(layer, tuple(shape[axis] for axis in space(layer, len(shape))))


def _depthwise_kernel(
    layer: KerasLayer, kernel: Sequence[int], channels: int, *names: str
) -> Variable:
    multiplier = layer.integer("depth_multiplier", 1)

    def first(array: np.ndarray) -> np.ndarray:
        axes = len(kernel)
        moved = array.transpose(axes, axes + 1, *range(axes))
        return moved.reshape(channels * multiplier, 1, *kernel)

    return Variable(0, (*kernel, channels, multiplier), ("depthwise_kernel", *names), first)


def _outputs_first(array: np.ndarray) -> np.ndarray:
    """``[..., I, O]`` as ``[O, I, ...]``."""
    axes = array.ndim - 2
    return array.transpose(axes + 1, axes, *range(axes))


def _bias(layer: KerasLayer, parameters: Parameters, position: int, outputs: int) -> list[ir.Value]:
    if not layer.flag("use_bias", True):
        return []
    return [parameters(layer, Variable(position, (outputs,), ("bias",)))]


def _conv(
    layer: KerasLayer,
    value: ir.Value,
    weights: Sequence[ir.Value],
    kernel: tuple[int, ...],
    outputs: int,
    group: int,
    *,
    causal: bool = False,
    pointwise: bool = False,
) -> ir.Value:
    """A convolution; its windows are the layer's unless it is the second one of a separable."""
    x = layer.channels_first(value)
    shape: Shape = shape_of(x)
    axes = len(kernel)
    stride = (1,) * axes if pointwise else layer.integers("strides", axes, 1)
    dilation = (1,) * axes if pointwise else layer.integers("dilation_rate", axes, 1)
    windows = axes_of(layer, shape[2:], kernel, stride, dilation, causal=causal or pointwise)
    attributes = {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": pads(windows),
        "dilations": list(dilation),
        "group": group,
    }
    result = (shape[0], outputs, *(axis.count for axis in windows))
    return layer.own_order(layer.op("Conv", [x, *weights], result, attributes))
