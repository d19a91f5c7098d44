"""The wrappers of tfmot around layers of Keras.

A wrapper quantises the weights that it names before the layer runs, the result of the layer's
activation, or its output. Which of them it does shows in the ranges that the file has. A
convolution in front of a BatchNormalization has none for its result.

A ``.h5`` file names the ranges. A ``.keras`` file numbers the wrapper's variables: the quantised
ones of the layer, its trained ones, a step counter, and the ranges of weights, activation and
output in this order. Variables of the layer that are not quantised lie in an object of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import convolution, dense
from dlaconv.frontends.keras.activation import apply
from dlaconv.frontends.keras.building import Handler, KerasLayer
from dlaconv.frontends.keras.dialects import tfmot
from dlaconv.frontends.keras.dialects.emitting import integer_constant, quantise
from dlaconv.frontends.keras.hdf5 import StoredArray
from dlaconv.frontends.keras.network import Layer
from dlaconv.frontends.keras.parameters import Parameters, Variable, as_stored

_LINEAR: dict[str, Callable[[KerasLayer, Parameters], ir.Value]] = {
    "Conv1D": convolution.convolved,
    "Conv2D": convolution.convolved,
    "Conv2DTranspose": convolution.transposed_convolved,
    "Dense": dense.product,
    "DepthwiseConv2D": convolution.depthwise_convolved,
}
_ACTIVATION = "Default8BitActivationQuantizeConfig"
_CONFIGS = {
    _ACTIVATION,
    "Default8BitConvQuantizeConfig",
    "Default8BitConvTransposeQuantizeConfig",
    "Default8BitOutputQuantizeConfig",
    "Default8BitQuantizeConfig",
    "NoOpQuantizeConfig",
}
_BEFORE, _BEHIND = "pre_activation", "post_activation"
_PLACES = {
    "gelu": (_BEFORE, _BEHIND),
    "sigmoid": (_BEFORE,),
    "softmax": (_BEFORE,),
    "tanh": (_BEFORE,),
}
"""Where maps are quantised around an activation; behind all others."""
_NEVER = ("linear", "sigmoid", "softmax", "tanh")
"""What an Activation may be without its output being quantised."""
_MOST_VARIABLES = 64
_TRANSPOSED = "Default8BitConvTransposeQuantizeConfig"


def quantize_layer(layer: KerasLayer) -> list[ir.Value]:
    """QuantizeLayer: quantises the input of the network."""
    given = layer.given("quantizer")
    try:
        bits = tfmot.bits_of(given)
    except tfmot.RangeError as error:
        layer.no_form(str(error))
    inner = given.get("config", {})
    if inner.get("per_axis"):
        layer.no_form("a QuantizeLayer with a range for each channel")
    narrow = bool(inner.get("narrow_range"))
    return [_quantised(layer, layer.x, f"{layer.layer.name}", bits=bits, narrow=narrow)]


def quantize_wrapper(layer: KerasLayer) -> list[ir.Value]:
    """QuantizeWrapper and QuantizeWrapperV2."""
    from dlaconv.frontends.keras.layers import HANDLERS

    config = layer.given("quantize_config")
    kind = config.get("class_name") if isinstance(config, Mapping) else None
    if not isinstance(kind, str) or kind not in _CONFIGS:
        layer.no_form(
            f"a quantize_config of class {kind!r}", remedy="quantise with the default of 8 bits"
        )
    inner = replace(layer, layer=_inner(layer))
    build, plain = _LINEAR.get(inner.layer.kind), HANDLERS.get(inner.layer.kind)
    if build is not None:
        axis = -2 if kind == _TRANSPOSED else -1
        value = build(inner, _parameters(layer, axis))
        value = _activated(layer, inner, value)
    elif inner.layer.kind == "Activation":
        value = _activated(layer, inner, inner.x)
    elif plain is not None:
        [value] = plain(inner)
    else:
        layer.no_form(f"a wrapper around {inner.layer.kind}")
    if _range(layer, "output") is not None:
        value = _quantised(layer, value, "output")
    elif _has_output(layer):
        raise layer.absent("output_min")
    return [value]


def _inner(layer: KerasLayer) -> Layer:
    """The layer in the wrapper; its weights lie with the wrapper's."""
    wrapper, held = layer.layer, layer.given("layer")
    if wrapper.inner is None:
        kind = held.get("class_name") if isinstance(held, Mapping) else None
        config = held.get("config") if isinstance(held, Mapping) else None
        if not isinstance(kind, str) or not isinstance(config, Mapping):
            layer.refuse("a wrapper without a layer")
        wrapper.inner = Layer(
            wrapper.name, kind, "keras.layers", "", config, wrapper.names, (*wrapper.path, "layer")
        )
    return wrapper.inner


def _activated(layer: KerasLayer, inner: KerasLayer, value: ir.Value) -> ir.Value:
    """A value after the activation of the layer in the wrapper."""
    function = _function(inner.given("activation"))
    if _range(layer, _BEFORE) is not None:
        value = _quantised(layer, value, _BEFORE)
    value = apply(inner, function, value)
    if _range(layer, _BEHIND) is not None:
        value = _quantised(layer, value, _BEHIND)
    return value


def _function(function: Any) -> Any:
    """The activation that tfmot wrapped; None for none."""
    if isinstance(function, Mapping) and function.get("class_name") == "QuantizeAwareActivation":
        held = function.get("config")
        function = held.get("activation") if isinstance(held, Mapping) else None
    if isinstance(function, Mapping) and function.get("class_name") == "NoOpActivation":
        return None
    return function


def _parameters(wrapper: KerasLayer, axis: int) -> Parameters:
    config = wrapper.given("quantize_config")["config"]
    named = config.get("weight_attrs") or []

    def parameters(inner: KerasLayer, variable: Variable) -> ir.Value:
        role = next((name for name in variable.names if name in named), None)
        if role is None:
            before = len(named) if inner.graph.stored.counts else 0
            return as_stored(inner, replace(variable, position=variable.position - before))
        found = _range(wrapper, role)
        if found is None:
            raise wrapper.absent(f"{role}_min")
        array = wrapper.variable(named.index(role), variable.shape, *variable.names)
        try:
            integers = tfmot.weights(array, *found, axis)
        except tfmot.RangeError as error:
            wrapper.no_form(str(error))
        return integer_constant(inner, variable, integers)

    return parameters


def _quantised(
    layer: KerasLayer, value: ir.Value, name: str, *, bits: int = 8, narrow: bool = False
) -> ir.Value:
    found = _range(layer, name)
    if found is None:
        raise layer.absent(f"{name}_min")
    low, high = found
    if low.size != 1 or high.size != 1:
        layer.no_form(f"a map with {low.size} ranges")
    try:
        grid = tfmot.map_grid(float(low.reshape(())), float(high.reshape(())), bits, narrow=narrow)
    except tfmot.RangeError as error:
        layer.no_form(str(error))
    return quantise(layer, value, grid)


def _range(layer: KerasLayer, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Smallest and largest value of a variable or a map, None if the file has none."""
    stored = layer.graph.stored
    if not stored.counts:
        ends = [stored.find(layer.layer, 0, f"{name}_{end}") for end in ("min", "max")]
    else:
        at = _numbered(layer).get(name)
        numbers = () if at is None else (at, at + 1)
        ends = [stored.at(layer.layer, "vars", str(number)) for number in numbers] or [None, None]
    low, high = (None if item is None else item.read() for item in ends)
    return None if low is None or high is None else (low, high)


def _has_output(layer: KerasLayer) -> bool:
    """True if a wrapper quantises the output of its layer; around an Activation, not of any."""
    config = layer.given("quantize_config")
    if config["class_name"] == _ACTIVATION and _inner(layer).config.get("activation") in _NEVER:
        return False
    return bool(config["config"].get("quantize_output"))


def _numbered(layer: KerasLayer) -> dict[str, int]:
    """Where the ranges of a wrapper begin in a file that counts."""
    if layer.layer.kind == "QuantizeLayer":
        return {layer.layer.name: 0}
    held: list[StoredArray] = []
    while (item := layer.graph.stored.at(layer.layer, "vars", str(len(held)))) is not None:
        held.append(item)
        if len(held) > _MOST_VARIABLES:
            layer.refuse(f"more than {_MOST_VARIABLES} variables")
    steps = [n for n, item in enumerate(held) if item.dtype.kind == "i" and not item.shape]
    inner = layer.given("quantize_config")["config"]
    names = list(inner.get("weight_attrs") or [])
    output = ["output"] if _has_output(layer) else []
    if len(steps) != 1:
        layer.refuse(f"{len(steps)} step counters among the variables of the wrapper")
    left = len(held) - steps[0] - 1 - 2 * (len(names) + len(output))
    if left:
        function = _function(_inner(layer).config.get("activation"))
        places = _PLACES.get(function if isinstance(function, str) else "", (_BEHIND,))
        if left != 2 * len(places):
            layer.refuse(f"{len(held)} variables in the wrapper, {left} of them of no known use")
        names += places
    return {name: steps[0] + 1 + 2 * n for n, name in enumerate([*names, *output])}


HANDLERS: dict[str, Handler] = {
    "QuantizeLayer": quantize_layer,
    "QuantizeWrapper": quantize_wrapper,
    "QuantizeWrapperV2": quantize_wrapper,
}
"""What reads a layer of tfmot, by its class."""
