"""Dense: a product over the last axis of whatever rank."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.keras.activation import activated
from dlaconv.frontends.keras.building import KerasLayer, shape_of
from dlaconv.frontends.keras.parameters import Parameters, Variable, as_stored
from dlaconv.frontends.keras.windows import known


def dense(layer: KerasLayer) -> list[ir.Value]:
    """Dense."""
    return activated(layer, product(layer, as_stored))


def product(layer: KerasLayer, parameters: Parameters) -> ir.Value:
    """A Dense before its activation."""
    if layer.given("lora_rank") is not None:
        layer.no_form(
            "a kernel with LoRA weights beside it", remedy="merge them with layer.enable_lora off"
        )
    shape, units = shape_of(layer.x), layer.integer("units")
    if len(shape) < 2:
        layer.refuse(f"a Dense on {list(shape)}")
    [size] = known(layer, shape[-1:])
    kernel = parameters(layer, Variable(0, (size, units), ("kernel",)))
    bias = []
    if layer.flag("use_bias", True):
        bias = [parameters(layer, Variable(1, (units,), ("bias",)))]
    result = (*shape[:-1], units)
    if len(shape) == 2:
        return layer.op("Gemm", [layer.x, kernel, *bias], result)
    value = layer.op("MatMul", [layer.x, kernel], result)
    return layer.op("Add", [value, *bias], result) if bias else value
