"""The layers of HGQ2: quantisers at inputs, in parameters, and perhaps at outputs.

A map is quantised where it is read. Widths may differ within it, and it may wrap: what that becomes
on hardware is decided later.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import convolution, dense, merging, pooling
from dlaconv.frontends.keras.activation import activated
from dlaconv.frontends.keras.building import Handler, KerasLayer, shape_of
from dlaconv.frontends.keras.dialects import hgq, hgq_stored
from dlaconv.frontends.keras.dialects.emitting import fixed_point, integer_constant, quantise
from dlaconv.frontends.keras.normalisation import affine, channel_axis, statistics
from dlaconv.frontends.keras.parameters import Parameters, Variable, as_stored
from dlaconv.frontends.keras.windows import known

_MOST_ELEMENTS = 1 << 24

Change = Callable[[KerasLayer, Variable, np.ndarray], np.ndarray]
"""What a layer does to a variable before it is quantised."""


def quantiser_of(
    layer: KerasLayer, config: object, role: str = "", place: tuple[int, int] | None = None
) -> hgq.FixedPoint | None:
    """A quantiser of the layer, None for one that does nothing.

    Args:
        layer: the layer.
        config: its parameters as stored.
        role: see `hgq_stored.variables`.
        place: see there.
    """
    try:
        kind = hgq.kind_of(config)
        if kind is None:
            return None
        found = hgq_stored.variables(layer, role, place, kind.order)
        held = {}
        for name, stored in zip(kind.order, found, strict=True):
            if stored is None:
                raise layer.refusal(
                    "DLA176",
                    "absent-weights",
                    f"{layer.graph.stored.file} has no width {name} of the layer's quantiser"
                    f"{f' {role}' if role else ''}",
                    remedy="give the file that was saved together with the model",
                )
            if int(np.prod(stored.shape)) > _MOST_ELEMENTS:
                layer.refuse(f"widths of shape {list(stored.shape)}")
            held[name] = stored.read()
        return hgq.fixed_point(kind, held)
    except hgq.WidthError as error:
        layer.no_form(str(error))


def quantised_map(layer: KerasLayer, value: ir.Value, quantiser: hgq.FixedPoint) -> ir.Value:
    """A map behind its quantiser."""
    try:
        grids = hgq.element_grids(quantiser)
    except hgq.WidthError as error:
        layer.no_form(str(error))
    shape = shape_of(value)
    widths = quantiser.f.shape
    if len(widths) > len(shape) or any(
        a not in {1, b} for a, b in zip(reversed(widths), reversed(shape), strict=False)
    ):
        layer.refuse(f"widths of shape {list(widths)} for a map of {list(shape)}")
    grid = grids.one_grid()
    alike = grids.live.all() and grids.same_step and grids.same_range
    if grid is None or not alike or grids.wraps:
        return fixed_point(layer, value, grids)
    return quantise(layer, value, grid)


def _parameters(layer: KerasLayer, variable: Variable, *, change: Change | None = None) -> ir.Value:
    """A kernel or bias, changed in floating point first if that is asked for."""
    role = variable.names[0]
    name = {"kernel": "kq", "bias": "bq"}[role]
    quantiser = quantiser_of(layer, layer.given(f"{name}_conf"), name)
    if quantiser is None and change is None:
        return as_stored(layer, variable)
    if quantiser is None:
        layer.no_form(f"{layer.layer.kind} without a quantiser of its {role}")
    array = layer.variable(variable.position, variable.shape, *variable.names)
    array = array if change is None else change(layer, variable, array)
    try:
        return integer_constant(layer, variable, hgq.constant(quantiser, array))
    except hgq.WidthError as error:
        layer.no_form(str(error))


def _read(layer: KerasLayer) -> KerasLayer:
    """The layer with its inputs on their grids."""
    if not layer.flag("enable_iq", True):
        return layer
    if len(layer.inputs) == 1 and layer.given("iq_confs") is None:
        quantisers = [quantiser_of(layer, layer.given("iq_conf"), "iq")]
    else:
        configs = layer.given("iq_confs")
        configs = configs if isinstance(configs, list) else [configs] * len(layer.inputs)
        if len(configs) != len(layer.inputs):
            layer.refuse(f"{len(configs)} quantisers for {len(layer.inputs)} tensors")
        quantisers = []
        for count, config in enumerate(configs):
            held = sum(quantiser is not None for quantiser in quantisers)
            quantisers.append(quantiser_of(layer, config, "iq", (count, held)))
    values = [
        value if quantiser is None else quantised_map(layer, value, quantiser)
        for value, quantiser in zip(layer.inputs, quantisers, strict=True)
    ]
    return replace(layer, inputs=values, arguments=(values,), keywords={})


def _given(layer: KerasLayer, value: ir.Value) -> list[ir.Value]:
    """What a layer gives, on the grid of its output if it has one."""
    if layer.flag("enable_oq", False):
        quantiser = quantiser_of(layer, layer.given("oq_conf"), "oq")
        value = value if quantiser is None else quantised_map(layer, value, quantiser)
    return [value]


def _linear(build: Callable[[KerasLayer, Parameters], ir.Value]) -> Handler:
    def handler(layer: KerasLayer) -> list[ir.Value]:
        read = _read(layer)
        [value] = activated(layer, build(read, _parameters))
        return _given(layer, value)

    return handler


def _plain(handler: Handler) -> Handler:
    """A layer without parameters."""

    def quantised(layer: KerasLayer) -> list[ir.Value]:
        [value] = handler(_read(layer))
        return _given(layer, value)

    return quantised


def _epsilon(layer: KerasLayer) -> np.float32:
    return np.float32(layer.number("epsilon", default=1e-3))


def batch_normalisation(layer: KerasLayer) -> list[ir.Value]:
    """QBatchNormalization: the factor and the offset that it folds to are quantised."""
    read = _read(layer)
    shape = shape_of(layer.x)
    axis = channel_axis(layer, len(shape))
    found = statistics(layer, *known(layer, (shape[axis],)), prefix="bn_")  # beta is another's
    factor: np.ndarray = found.get("gamma", np.float32(1)) / np.sqrt(
        found["moving_variance"] + _epsilon(layer)
    )
    offset: np.ndarray = found.get("beta", np.float32(0)) - found["moving_mean"] * factor
    parts = {"kq": factor, "bq": offset}
    for name, array in parts.items():
        quantiser = quantiser_of(layer, layer.given(f"{name}_conf"), name)
        if quantiser is not None:
            try:
                parts[name] = hgq.constant(quantiser, array).reals
            except hgq.WidthError as error:
                layer.no_form(str(error))
    spread = [-1 if other == axis else 1 for other in range(len(shape))]
    factors, offsets = (parts[name].reshape(spread) for name in ("kq", "bq"))
    return _given(layer, affine(layer, read.x, factors, offsets))


def batch_normalised_dense(layer: KerasLayer) -> list[ir.Value]:
    """QBatchNormDense: kernel and bias normalise what it reads, and are quantised then.

    The bias takes the mean times the kernel as it is stored, not as it is normalised: that is what
    HGQ2 computes.
    """
    has_gamma = layer.flag("scale", True)
    at = 2 + int(has_gamma) + (2 if layer.flag("enable_ebops", True) else 0)  # with two of its own
    size = tuple(known(layer, shape_of(layer.x)[-1:]))
    mean = layer.variable(at, size, "moving_mean")
    deviation = np.sqrt(layer.variable(at + 1, size, "moving_variance") + _epsilon(layer))
    gamma = layer.variable(2, size, "bn_gamma") if has_gamma else np.float32(1)

    def normalised(own: KerasLayer, variable: Variable, array: np.ndarray) -> np.ndarray:
        if variable.names[0] == "kernel":
            return np.asarray((gamma / deviation)[:, None] * array)
        kernel = own.variable(0, (*size, *variable.shape), "kernel")
        return np.asarray(array - mean @ kernel)

    read = _read(layer)
    [value] = activated(layer, dense.product(read, partial(_parameters, change=normalised)))
    return _given(layer, value)


def average_of_power(layer: KerasLayer) -> list[ir.Value]:
    """QAveragePow2: a sum, divided by the power of two that is nearest to the number of terms."""
    [total] = merging.merge("Add")(layer)
    factor = np.float32(2.0 ** round(math.log2(1 / len(layer.inputs))))
    return [layer.op("Mul", [total, layer.constant("share", factor)], shape_of(total))]


def quantizer(layer: KerasLayer) -> list[ir.Value]:
    """Quantizer, a layer of its own."""
    found = quantiser_of(layer, layer.given("config"))
    return [layer.x if found is None else quantised_map(layer, layer.x, found)]


HANDLERS: dict[str, Handler] = {
    "QAdd": _plain(merging.merge("Add")),
    "QAveragePow2": _plain(average_of_power),
    "QBatchNormDense": batch_normalised_dense,
    "QBatchNormalization": batch_normalisation,
    "QDense": _linear(dense.product),
    "QMaximum": _plain(merging.merge("Max")),
    "QMinimum": _plain(merging.merge("Min")),
    "QMultiply": _plain(merging.merge("Mul")),
    "QSubtract": _plain(merging.subtract),
    "Quantizer": quantizer,
    **{f"QConv{d}D": _linear(convolution.convolved) for d in (1, 2, 3)},
    **{f"QMaxPooling{d}D": _plain(pooling.maximum) for d in (1, 2, 3)},
    **{f"QAveragePooling{d}D": _plain(pooling.average) for d in (1, 2, 3)},
    **{f"QGlobalMaxPooling{d}D": _plain(pooling.global_maximum) for d in (1, 2, 3)},
    **{f"QGlobalAveragePooling{d}D": _plain(pooling.global_average) for d in (1, 2, 3)},
}
"""What reads a layer of HGQ2, by its class."""
