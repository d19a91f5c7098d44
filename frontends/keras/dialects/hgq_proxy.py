"""Proxies of HGQ, the first version: layers of Keras 2 with quantisers between them.

`HGQ.to_proxy_model` makes them of trained networks. A FixedPointQuantizer has a number of bits and
of integer bits for each element, both with the sign. Kernels and biases are stored as the quantised
values, so the grid of each output channel is the coarsest that has all of its weights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import convolution, dense
from dlaconv.frontends.keras.activation import activated
from dlaconv.frontends.keras.building import Handler, KerasLayer
from dlaconv.frontends.keras.dialects import hgq
from dlaconv.frontends.keras.dialects.emitting import integer_constant
from dlaconv.frontends.keras.dialects.hgq_layers import quantised_map
from dlaconv.frontends.keras.dialects.integers import dyadic
from dlaconv.frontends.keras.parameters import Parameters, Variable, as_stored
from dlaconv.ir.rounding import Rounding

_ROUNDINGS = {
    "RND": Rounding.HALF_UP,
    "RND_CONV": Rounding.HALF_EVEN,
    "RND_INF": Rounding.HALF_AWAY,
    "RND_ZERO": Rounding.HALF_ZERO,
    "TRN": Rounding.FLOOR,
    "TRN_ZERO": Rounding.DOWN,
}
_OVERFLOWS = {"SAT", "SAT_SYM", "WRAP"}
_VARIABLES = ("keep_negative", "bits", "integers")
_MOST_ELEMENTS = 1 << 24
_WEIGHT_BITS = 16
"""Weights that take more are no quantised ones."""


def fixed_point_quantizer(layer: KerasLayer) -> list[ir.Value]:
    """FixedPointQuantizer."""
    rounding, overflow = str(layer.given("RND")).upper(), str(layer.given("SAT")).upper()
    if rounding not in _ROUNDINGS or overflow not in _OVERFLOWS:
        layer.no_form(f"a quantiser that rounds as {rounding} and overflows as {overflow}")
    shape = layer.given("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        layer.refuse(f"widths of shape {shape!r}")
    if int(np.prod(shape, dtype=np.float64)) > _MOST_ELEMENTS:
        layer.refuse(f"widths of shape {shape}")
    sign, bits, integers = (
        layer.variable(n, tuple(shape), name).astype(np.float64)
        for n, name in enumerate(_VARIABLES)
    )
    if not np.isin(sign, (0, 1)).all() or not all((abs(a) < 128).all() for a in (bits, integers)):
        layer.refuse("widths that are no numbers of bits")
    sign = np.where(bits > 0, sign, 0)
    kind = hgq.Kind((), _ROUNDINGS[rounding], overflow)
    quantiser = hgq.FixedPoint(kind, sign, integers - sign, bits - integers)
    return [quantised_map(layer, layer.x, quantiser)]


def _parameters(layer: KerasLayer, variable: Variable) -> ir.Value:
    array = layer.variable(variable.position, variable.shape, *variable.names)
    try:
        return integer_constant(layer, variable, dyadic(array, _WEIGHT_BITS))
    except OverflowError:
        return as_stored(layer, variable)


def _linear(build: Callable[[KerasLayer, Parameters], ir.Value]) -> Handler:
    return lambda layer: activated(layer, build(layer, _parameters))


HANDLERS: dict[str, Handler] = {"FixedPointQuantizer": fixed_point_quantizer}
"""What reads a layer of HGQ, by its class."""

LINEAR: dict[str, Handler] = {
    "Dense": _linear(dense.product),
    **{f"Conv{d}D": _linear(convolution.convolved) for d in (1, 2, 3)},
}
"""What reads layers of Keras whose weights HGQ has quantised, by their class."""
