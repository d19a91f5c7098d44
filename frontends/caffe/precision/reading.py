"""Gives every layer its precision, from wherever it is said."""

from __future__ import annotations

from collections.abc import Sequence

from dlaconv.diagnostics import Diagnostics
from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import Mode
from dlaconv.frontends.caffe.precision.declared import LayerFormats
from dlaconv.frontends.caffe.precision.kinds import Kind, kind_of, taken_along
from dlaconv.frontends.caffe.precision.sources import PrecisionSources

_FIELDS = ("precision_param", "quantization_param")


def read_precision(
    layers: Sequence[Layer], sources: PrecisionSources, file: str, found: Diagnostics
) -> None:
    """Sets ``precision`` of every layer that has one.

    Args:
        layers: the layers that run, in the order of the file.
        sources: what the user gives beside the prototxt.
        file: path of the prototxt.
        found: takes findings.
    """
    messages = {id(layer): message for layer in layers if (message := _message(layer))}
    if not any(id(layer) in messages and kind_of(layer) is not Kind.NONE for layer in layers):
        return
    absorbed = {id(layer) for chain in taken_along(layers) for layer in chain[1:]}
    for layer in layers:
        message = messages.get(id(layer))
        if message is None or kind_of(layer) is Kind.NONE:
            continue
        mode = Mode.XILINX if message.text("quant_type") == "Xilinx" else Mode.DYNAMIC_FIXED
        layer.precision = LayerFormats(
            layer, message, mode, file, found, taken_along=id(layer) in absorbed
        ).read()


def _message(layer: Layer) -> Message | None:
    for name in _FIELDS:
        if layer.message.has(name):
            return layer.message.message(name)
    return None
