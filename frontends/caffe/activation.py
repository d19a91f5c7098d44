"""Activations: one value in, one value out."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.frontends.caffe.building import CaffeLayer


def relu(layer: CaffeLayer) -> list[ir.Value]:
    """ReLU, leaky with a ``negative_slope``."""
    slope = layer.param("relu_param").number("negative_slope")
    if slope == 0:
        return _unary(layer, "Relu")
    return _unary(layer, "LeakyRelu", alpha=slope)


def relu6(layer: CaffeLayer) -> list[ir.Value]:
    """ReLU6 of several forks: between 0, or a slope, and 6 or a threshold."""
    param = layer.param("relu6_param")
    slope, threshold = param.number("negative_slope"), param.number("threshold")
    if slope == 0:
        if threshold < 0:
            layer.refuse(f"threshold {threshold:g}: it must not be negative")
        return _clipped(layer, 0.0, threshold)
    layer.require_bottoms(1)
    shape = layer.shape()
    rectified = layer.op("LeakyRelu", [layer.x], shape, {"alpha": slope})
    return [layer.op("Min", [rectified, layer.constant("threshold", threshold)], shape)]


def clip(layer: CaffeLayer) -> list[ir.Value]:
    """Clip between ``min`` and ``max``."""
    if not layer.layer.message.has("clip_param"):
        layer.refuse("clip_param is missing")
    param = layer.param("clip_param")
    return _clipped(layer, param.number("min"), param.number("max"))


def prelu(layer: CaffeLayer) -> list[ir.Value]:
    """PReLU: a slope per channel, which is axis 1, or one for all."""
    layer.require_bottoms(1)
    shape = layer.shape()
    if len(shape) < 2:
        layer.refuse(f"PReLU of shape {list(shape)} has no channels")
    shared = layer.param("prelu_param").flag("channel_shared")
    slope = layer.blob(0, () if shared else (shape[1],), "slope")
    array = slope.reshape(-1, *(1,) * (len(shape) - 2))
    return [layer.op("PRelu", [layer.x, layer.constant("slope", array)], shape)]


def elu(layer: CaffeLayer) -> list[ir.Value]:
    """ELU."""
    return _unary(layer, "Elu", alpha=layer.param("elu_param").number("alpha"))


def sigmoid(layer: CaffeLayer) -> list[ir.Value]:
    """Sigmoid."""
    return _unary(layer, "Sigmoid")


def tanh(layer: CaffeLayer) -> list[ir.Value]:
    """TanH."""
    return _unary(layer, "Tanh")


def absolute(layer: CaffeLayer) -> list[ir.Value]:
    """AbsVal."""
    return _unary(layer, "Abs")


def bnll(layer: CaffeLayer) -> list[ir.Value]:
    """BNLL: log(1 + exp(x))."""
    return _unary(layer, "Softplus")


def hard_swish(layer: CaffeLayer) -> list[ir.Value]:
    """HardSwish of forks: x * clip(x + 3, 0, 6) / 6."""
    return _unary(layer, "HardSwish")


def hard_sigmoid(layer: CaffeLayer) -> list[ir.Value]:
    """HardSigmoid of forks: clip(alpha * x + beta, 0, 1)."""
    layer.require_bottoms(1)
    param = layer.param("hardsigmoid_param")
    slope = {"alpha": param.number("alpha"), "beta": param.number("beta")}
    return [layer.op("HardSigmoid", [layer.x], layer.shape(), slope)]


def swish(layer: CaffeLayer) -> list[ir.Value]:
    """Swish: x * sigmoid(beta * x)."""
    layer.require_bottoms(1)
    shape, beta = layer.shape(), layer.param("swish_param").number("beta")
    inner = layer.x
    if beta != 1:
        inner = layer.op("Mul", [inner, layer.constant("beta", beta)], shape)
    gate = layer.op("Sigmoid", [inner], shape)
    return [layer.op("Mul", [layer.x, gate], shape)]


def softmax(layer: CaffeLayer) -> list[ir.Value]:
    """Softmax over one axis of any rank."""
    axis = layer.axis(layer.param("softmax_param").integer("axis"))
    return _unary(layer, "Softmax", axis=axis)


def power(layer: CaffeLayer) -> list[ir.Value]:
    """Power: (shift + scale * x) ** power."""
    layer.require_bottoms(1)
    param, shape = layer.param("power_param"), layer.shape()
    value = _affine(layer, layer.x, param.number("scale"), param.number("shift"))
    if (exponent := param.number("power")) != 1:
        value = layer.op("Pow", [value, layer.constant("power", exponent)], shape)
    return [value]


def exponential(layer: CaffeLayer) -> list[ir.Value]:
    """Exp: base ** (shift + scale * x), with e for a base of -1."""
    layer.require_bottoms(1)
    param = layer.param("exp_param")
    log = _log_of_base(layer, param.number("base"))
    scale, shift = param.number("scale") * log, param.number("shift") * log
    return [layer.op("Exp", [_affine(layer, layer.x, scale, shift)], layer.shape())]


def logarithm(layer: CaffeLayer) -> list[ir.Value]:
    """Log: the logarithm of shift + scale * x to a base, which is e for -1."""
    layer.require_bottoms(1)
    param, shape = layer.param("log_param"), layer.shape()
    log = _log_of_base(layer, param.number("base"))
    value = _affine(layer, layer.x, param.number("scale"), param.number("shift"))
    value = layer.op("Log", [value], shape)
    if log != 1:
        value = layer.op("Mul", [value, layer.constant("base", 1 / log)], shape)
    return [value]


def threshold(layer: CaffeLayer) -> list[ir.Value]:
    """Threshold: 1 above a value, 0 elsewhere."""
    layer.require_bottoms(1)
    bound = layer.constant("threshold", layer.param("threshold_param").number("threshold"))
    above = layer.op("Greater", [layer.x, bound], layer.shape(), dtype=ir.DataType.BOOL)
    return [layer.op("Cast", [above], layer.shape(), {"to": int(ir.DataType.FLOAT)})]


def _log_of_base(layer: CaffeLayer, base: float) -> float:
    if base == -1:
        return 1.0
    if not base > 0 or base == 1 or math.isinf(base):
        layer.refuse(f"base {base:g} has no logarithm to divide by")
    return math.log(base)


def _affine(layer: CaffeLayer, x: ir.Value, scale: float, shift: float) -> ir.Value:
    if scale != 1:
        x = layer.op("Mul", [x, layer.constant("scale", scale)], layer.shape())
    if shift != 0:
        x = layer.op("Add", [x, layer.constant("shift", shift)], layer.shape())
    return x


def _clipped(layer: CaffeLayer, low: float, high: float) -> list[ir.Value]:
    layer.require_bottoms(1)
    if not low <= high:
        layer.refuse(f"a range from {low:g} to {high:g}")
    bounds = [layer.constant("min", low), layer.constant("max", high)]
    return [layer.op("Clip", [layer.x, *bounds], layer.shape())]


def _unary(layer: CaffeLayer, op_type: str, **attributes: float) -> list[ir.Value]:
    layer.require_bottoms(1)
    return [layer.op(op_type, [layer.x], layer.shape(), attributes)]
