"""Activations: functions that layers have in them, and layers that are nothing else.

A function is a name, or an object with parameters. Defaults differ by where it is written:
``leaky_relu`` has a slope of 0.2, the layer LeakyReLU one of 0.3; ``hard_sigmoid`` became another
function with Keras 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import Handler, KerasLayer, number_of, shape_of
from dlaconv.frontends.keras.dialects import qkeras
from dlaconv.frontends.keras.dialects.detection import dialect_of
from dlaconv.frontends.keras.dialects.emitting import quantised_map
from dlaconv.frontends.keras.dialects.qkeras_spec import SpecError, spec_of
from dlaconv.frontends.keras.windows import known

Parameters = Mapping[str, Any]
_Function = Callable[[KerasLayer, ir.Value, Parameters], ir.Value]


def activated(layer: KerasLayer, value: ir.Value) -> list[ir.Value]:
    """What a layer gives: a value after the layer's ``activation``."""
    return [apply(layer, layer.given("activation"), value)]


def activation(layer: KerasLayer) -> list[ir.Value]:
    """Activation."""
    return activated(layer, layer.x)


def apply(layer: KerasLayer, function: Any, value: ir.Value) -> ir.Value:
    """A function as Keras serialises it, applied to a value.

    Args:
        layer: the layer that has it.
        function: None, a name, or a mapping with ``class_name`` and ``config``; or a quantiser of
            QKeras, as an object or a call.
        value: what it is applied to.
    """
    try:
        if (spec := spec_of(function)) is not None:
            return quantised_map(layer, value, qkeras.map_quantiser(spec))
    except SpecError as error:
        layer.no_form(str(error))
    name, parameters = _named(layer, function)
    if name in {None, "linear"}:
        return value
    found = _FUNCTIONS.get(name or "")
    if found is None:
        raise layer.refusal(
            "DLA102",
            "unknown-operator",
            f"{name!r} is no activation that dlaconv knows",
            remedy="make it of layers and operations of Keras, or read the layer with a plugin "
            "(register_layers)",
            notes=("functions of one's own are code, which is not in the file and never run",),
        )
    return found(layer, value, parameters)


def _named(layer: KerasLayer, function: Any) -> tuple[str | None, Parameters]:
    if function is None or isinstance(function, str):
        return function, {}
    if isinstance(function, Mapping):
        name, config = function.get("class_name"), function.get("config")
        if name == "function" and isinstance(config, str):  # as Keras 2 and 3 write functions
            return config, {}
        if isinstance(name, str) and isinstance(config, Mapping):
            return _OBJECTS.get(name, name), config
    return layer.refuse(f"activation {str(function)[:60]}")


def prelu(layer: KerasLayer) -> list[ir.Value]:
    """PReLU: a slope for each element, or shared along axes."""
    shape = shape_of(layer.x)
    axes = layer.given("shared_axes") or []
    shared = {layer.axis(axis, len(shape), "shared_axes") for axis in axes}
    sizes = tuple(known(layer, shape[1:]))
    sizes = tuple(1 if axis + 1 in shared else size for axis, size in enumerate(sizes))
    slope = layer.weight(0, sizes, "alpha")
    return [layer.op("PRelu", [layer.x, slope], shape)]


def thresholded_relu(layer: KerasLayer) -> list[ir.Value]:
    """ThresholdedReLU: x above theta, else zero."""
    theta = layer.number("theta", default=1.0)
    return [layer.op("ThresholdedRelu", [layer.x], shape_of(layer.x), {"alpha": theta})]


def simple(name: str) -> Handler:
    """The handler of a function of one tensor that is a layer or an operation, with parameters."""

    def handler(layer: KerasLayer) -> list[ir.Value]:
        return [apply(layer, {"class_name": name, "config": layer.config}, layer.x)]

    handler.__doc__ = f"{name}."
    return handler


def _unary(op_type: str, **attributes: float) -> _Function:
    def function(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
        del parameters
        return layer.op(op_type, [x], shape_of(x), attributes)

    return function


def _relu(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    """``clip(x if x > threshold else 0, 0, most) - slope * max(threshold - x, 0)``."""
    shape = shape_of(x)
    most = parameters.get("max_value")
    most = None if most is None else _number(layer, parameters, 0.0, "max_value")
    slope = _number(layer, parameters, 0.0, "negative_slope", "alpha")
    threshold = _number(layer, parameters, 0.0, "threshold")
    if most is not None and most < 0:
        layer.refuse(f"max_value {most:g}")
    if slope and most is None and threshold == 0:
        return _leaky(layer, x, slope)
    if threshold:
        value = layer.op("ThresholdedRelu", [x], shape, {"alpha": threshold})
    elif most is None:
        value = layer.op("Relu", [x], shape)
    else:
        value = x
    if most is not None:
        value = _clip(layer, value, 0.0, most)
    if slope == 0:
        return value
    below = layer.op("Sub", [layer.constant("threshold", threshold), x], shape)
    below = layer.op("Relu", [below], shape)
    below = layer.op("Mul", [below, layer.constant("slope", slope)], shape)
    return layer.op("Sub", [value, below], shape)


def _relu6(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    del parameters
    return _clip(layer, x, 0.0, 6.0)


def _hard_tanh(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    del parameters
    return _clip(layer, x, -1.0, 1.0)


def _leaky_with(default: float) -> _Function:
    """LeakyRelu by default of a slope, which was called ``alpha`` in Keras 2."""

    def function(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
        return _leaky(layer, x, _number(layer, parameters, default, "negative_slope", "alpha"))

    return function


def _leaky(layer: KerasLayer, x: ir.Value, slope: float) -> ir.Value:
    return layer.op("LeakyRelu", [x], shape_of(x), {"alpha": slope})


def _elu(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    alpha = _number(layer, parameters, 1.0, "alpha")
    return layer.op("Elu", [x], shape_of(x), {"alpha": alpha})


def _hard_sigmoid(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    del parameters
    alpha = 0.2 if layer.graph.generation < 3 else 1 / 6
    if dialect_of(layer.layer) == "QKeras":  # which has another function of that name
        alpha = 0.5
    return layer.op("HardSigmoid", [x], shape_of(x), {"alpha": alpha, "beta": 0.5})


def _swish(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    del parameters
    gate = layer.op("Sigmoid", [x], shape_of(x))
    return layer.op("Mul", [x, gate], shape_of(x))


def _gelu(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    """``x / 2 (1 + erf(x / sqrt 2))``, or the approximation of it by tanh."""
    shape = shape_of(x)
    if parameters.get("approximate"):
        cube = layer.op("Mul", [layer.op("Mul", [x, x], shape), x], shape)
        cube = layer.op("Mul", [cube, layer.constant("cube", 0.044715)], shape)
        inner = layer.op("Add", [x, cube], shape)
        inner = layer.op("Mul", [inner, layer.constant("inner", math.sqrt(2 / math.pi))], shape)
        gate = layer.op("Tanh", [inner], shape)
    else:
        inner = layer.op("Mul", [x, layer.constant("inner", math.sqrt(0.5))], shape)
        gate = layer.op("Erf", [inner], shape)
    gate = layer.op("Add", [gate, layer.constant("one", 1.0)], shape)
    half = layer.op("Mul", [x, layer.constant("half", 0.5)], shape)
    return layer.op("Mul", [half, gate], shape)


def _softmax(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    return _over_axis(layer, x, parameters, "Softmax")


def _log_softmax(layer: KerasLayer, x: ir.Value, parameters: Parameters) -> ir.Value:
    return _over_axis(layer, x, parameters, "LogSoftmax")


def _over_axis(layer: KerasLayer, x: ir.Value, parameters: Parameters, op_type: str) -> ir.Value:
    axis = parameters.get("axis")
    if isinstance(axis, list) and len(axis) != 1:
        layer.no_form(f"a {layer.layer.kind} over several axes, {axis}")
    number = layer.axis(-1 if axis is None else axis, len(shape_of(x)))
    return layer.op(op_type, [x], shape_of(x), {"axis": number})


def _clip(layer: KerasLayer, x: ir.Value, least: float, most: float) -> ir.Value:
    bounds = [layer.constant("min", np.float32(least)), layer.constant("max", np.float32(most))]
    return layer.op("Clip", [x, *bounds], shape_of(x))


def _number(layer: KerasLayer, parameters: Parameters, default: float, *names: str) -> float:
    value = next((parameters[n] for n in names if parameters.get(n) is not None), default)
    found = number_of(value)
    if found is None:
        layer.refuse(f"{names[0]} is {str(value)[:60]}, no number")
    return found


_FUNCTIONS: dict[str, _Function] = {
    "LeakyReLU": _leaky_with(0.3),
    "elu": _elu,
    "exponential": _unary("Exp"),
    "gelu": _gelu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _unary("HardSwish"),
    "hard_swish": _unary("HardSwish"),
    "hard_tanh": _hard_tanh,
    "leaky_relu": _leaky_with(0.2),
    "log_softmax": _log_softmax,
    "mish": _unary("Mish"),
    "relu": _relu,
    "relu6": _relu6,
    "selu": _unary("Selu"),
    "sigmoid": _unary("Sigmoid"),
    "silu": _swish,
    "softmax": _softmax,
    "softplus": _unary("Softplus"),
    "softsign": _unary("Softsign"),
    "swish": _swish,
    "tanh": _unary("Tanh"),
}
_OBJECTS = {
    "ELU": "elu",
    "Elu": "elu",
    "Gelu": "gelu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "LeakyRelu": "leaky_relu",
    "LogSoftmax": "log_softmax",
    "Mish": "mish",
    "ReLU": "relu",
    "Relu": "relu",
    "Relu6": "relu6",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}
