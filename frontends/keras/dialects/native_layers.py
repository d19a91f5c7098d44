"""Keras's own quantisation, ``model.quantize("int8")``: kernels of Dense are integers.

The stored scale multiplies, so one unit is worth its reciprocal. Maps are scaled at run time by
what they hold; a file has no scale for them, so they are imported as real values, to be calibrated.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import dense
from dlaconv.frontends.keras.activation import activated
from dlaconv.frontends.keras.building import Handler, KerasLayer
from dlaconv.frontends.keras.dialects.detection import mode_of
from dlaconv.frontends.keras.dialects.emitting import integer_constant
from dlaconv.frontends.keras.dialects.integers import Integers
from dlaconv.frontends.keras.parameters import Variable, as_stored


def quantised_dense(layer: KerasLayer) -> list[ir.Value]:
    """Dense with a kernel of 8 bits."""
    mode = mode_of(layer.layer)
    if mode != "int8":
        layer.no_form(
            f"a Dense quantised as {mode!r}", remedy='quantise it with model.quantize("int8")'
        )
    return activated(layer, dense.product(layer, _parameters))


def _parameters(layer: KerasLayer, variable: Variable) -> ir.Value:
    if variable.names[0] != "kernel":
        return as_stored(layer, variable)
    kernel = layer.variable(0, variable.shape, "kernel")
    at = 2 if layer.flag("use_bias", True) else 1
    scale = layer.variable(at, variable.shape[-1:], "kernel_scale")
    if kernel.dtype != np.int8 or scale.dtype != np.float32:
        layer.refuse(f"a kernel of {kernel.dtype} with a scale of {scale.dtype}")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        layer.refuse("a kernel_scale that is not positive")
    step = (1 / scale.astype(np.float64)).astype(np.float32)
    return integer_constant(layer, variable, Integers(kernel, step[None, :]))


HANDLERS: dict[str, Handler] = {"Dense": quantised_dense}
"""What reads a layer of Keras with a quantised policy, by its class."""
