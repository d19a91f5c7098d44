"""The layers of QKeras: those of Keras with quantised variables.

An ``activation`` in them may be a quantiser, which is read wherever activations are. What their
parameters say of ranges and initial values is for training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import activation, convolution, dense, pooling
from dlaconv.frontends.keras.activation import activated
from dlaconv.frontends.keras.building import Handler, KerasLayer, shape_of
from dlaconv.frontends.keras.dialects import qkeras
from dlaconv.frontends.keras.dialects.emitting import integer_constant
from dlaconv.frontends.keras.dialects.integers import Integers
from dlaconv.frontends.keras.dialects.qkeras_spec import Spec, SpecError, spec_of
from dlaconv.frontends.keras.normalisation import channel_axis, normalised, statistics
from dlaconv.frontends.keras.parameters import Parameters, Variable, as_stored
from dlaconv.frontends.keras.windows import known, space

_QUANTISERS = {
    "kernel": "kernel_quantizer",
    "depthwise_kernel": "depthwise_quantizer",
    "pointwise_kernel": "pointwise_quantizer",
    "bias": "bias_quantizer",
}


def quantiser_of(layer: KerasLayer, name: str, *, trained: bool) -> Spec | None:
    """A quantiser among the layer's parameters, None for none.

    Args:
        layer: the layer.
        name: the parameter, such as ``kernel_quantizer``.
        trained: True for what QKeras gives a scale of its own: kernels, gammas and variances.
    """
    given = layer.given(name)
    if given is None:
        return None
    try:
        spec = spec_of(given)
    except SpecError as error:
        layer.no_form(str(error))
    if spec is None:
        layer.no_form(f"{name} is {str(given)[:80]}, which is no quantiser of QKeras that is read")
    return spec.trained() if trained else spec


def integers_of(layer: KerasLayer, spec: Spec, array: np.ndarray) -> Integers:
    """What a quantiser makes of a constant of the layer."""
    if not np.isfinite(array).all():
        layer.refuse("weights that are not finite")
    try:
        return qkeras.weights(spec, np.asarray(array, np.float32))
    except SpecError as error:
        layer.no_form(str(error))


def quantised(layer: KerasLayer, variable: Variable, array: np.ndarray | None = None) -> ir.Value:
    """A variable on the grid of its quantiser; ``array`` stands for what the file has."""
    role = variable.names[0]
    spec = quantiser_of(layer, _QUANTISERS[role], trained=role != "bias")
    if array is None:
        if spec is None:
            return as_stored(layer, variable)
        array = layer.variable(variable.position, variable.shape, *variable.names)
    if spec is None:
        moved = variable.change(array)
        return layer.shared(role, lambda: layer.graph.constant(f"{layer.name}/{role}", moved))
    return integer_constant(layer, variable, integers_of(layer, spec, array))


def _linear(build: Callable[[KerasLayer, Parameters], ir.Value]) -> Handler:
    def handler(layer: KerasLayer) -> list[ir.Value]:
        if layer.given("mask") is not None:
            layer.no_form("a kernel with a mask")
        return activated(layer, build(layer, quantised))

    return handler


def _folded(build: Callable[[KerasLayer, Parameters], ir.Value], kernel: int) -> Handler:
    """A layer that has a BatchNormalization in it.

    Args:
        build: adds the linear layer.
        kernel: the axis of the kernel that counts the channels, from the end.
    """

    def handler(layer: KerasLayer) -> list[ir.Value]:
        factor, offset = None, None

        def parameters(biased: KerasLayer, variable: Variable) -> ir.Value:
            nonlocal factor, offset
            if factor is None:  # the kernel comes first
                outputs = variable.shape[-1] if kernel == -1 else variable.shape[-2]
                if kernel == -2 and variable.shape[-1] != 1:
                    layer.no_form("a depth_multiplier with a BatchNormalization in the layer")
                factor, offset = _batch_norm(layer, outputs)
            if variable.names[0] == "bias":
                assert offset is not None
                return quantised(biased, variable, offset)
            array = layer.variable(variable.position, variable.shape, *variable.names)
            spread = factor if kernel == -1 else factor[:, None]
            return quantised(layer, variable, (spread * array).astype(np.float32))

        return activated(layer, build(replace(layer, overrides={"use_bias": True}), parameters))

    return handler


def _batch_norm(layer: KerasLayer, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset by channel that a BatchNormalization in the layer folds to, float32."""
    found = statistics(layer, outputs, inner=("batchnorm",))
    epsilon = np.float32(layer.number("epsilon", default=1e-3))
    factor = np.float32(1) / np.sqrt(found["moving_variance"] + epsilon)
    factor = factor * found.get("gamma", np.float32(1))
    bias = layer.variable(1, (outputs,), "bias") if layer.flag("use_bias", True) else np.float32(0)
    offset = factor * (bias - found["moving_mean"]) + found.get("beta", np.float32(0))
    return factor, offset.astype(np.float32)


def batch_normalisation(layer: KerasLayer) -> list[ir.Value]:
    """QBatchNormalization: each of its parameters is quantised, the result is not."""
    if layer.given("inverse_quantizer") is not None:
        layer.no_form("a QBatchNormalization with an inverse_quantizer")
    shape = shape_of(layer.x)
    axis = channel_axis(layer, len(shape))
    found = statistics(layer, *known(layer, (shape[axis],)))
    for name, array in found.items():
        quantiser = f"{name.removeprefix('moving_')}_quantizer"
        spec = quantiser_of(layer, quantiser, trained=name in {"gamma", "moving_variance"})
        if spec is not None:
            found[name] = integers_of(layer, spec, array).reals
    return [normalised(layer, found, axis)]


def average(layer: KerasLayer) -> list[ir.Value]:
    """QAveragePooling2D: what it multiplies a sum by may be quantised."""
    area = int(np.prod(layer.integers("pool_size", 2)))
    if layer.given("average_quantizer") is not None and layer.given("padding") != "valid":
        layer.no_form("a QAveragePooling2D with padding and an average_quantizer")
    [value] = pooling.average(layer)
    return activated(layer, _averaged(layer, value, area))


def global_average(layer: KerasLayer) -> list[ir.Value]:
    """QGlobalAveragePooling2D."""
    shape = shape_of(layer.x)
    sides = known(layer, tuple(shape[axis] for axis in space(layer, len(shape))))
    [value] = pooling.global_average(layer)
    return activated(layer, _averaged(layer, value, int(np.prod(sides))))


def _averaged(layer: KerasLayer, value: ir.Value, area: int) -> ir.Value:
    spec = quantiser_of(layer, "average_quantizer", trained=False)
    if spec is None:
        return value
    share = integers_of(layer, spec, np.asarray([1 / area])).reals[0]
    factor = layer.constant("share", np.float32(area) * share)
    return layer.op("Mul", [value, factor], shape_of(value))


HANDLERS: dict[str, Handler] = {
    "QActivation": activation.activation,
    "QAveragePooling2D": average,
    "QBatchNormalization": batch_normalisation,
    "QConv1D": _linear(convolution.convolved),
    "QConv2D": _linear(convolution.convolved),
    "QConv2DBatchnorm": _folded(convolution.convolved, -1),
    "QConv2DTranspose": _linear(convolution.transposed_convolved),
    "QDense": _linear(dense.product),
    "QDenseBatchnorm": _folded(dense.product, -1),
    "QDepthwiseConv2D": _linear(convolution.depthwise_convolved),
    "QDepthwiseConv2DBatchnorm": _folded(convolution.depthwise_convolved, -2),
    "QGlobalAveragePooling2D": global_average,
    "QSeparableConv1D": _linear(convolution.separably_convolved),
    "QSeparableConv2D": _linear(convolution.separably_convolved),
}
"""What reads a layer of QKeras, by its class."""
