"""Writes a network with the formats of its layers, as CHaiDNN reads it.

What is written are layers of version 2 as they run at inference, with every field that was read and
every format in full, so nothing is left to defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from dlaconv.frontends.caffe.message import Message
from dlaconv.frontends.caffe.network import Layer
from dlaconv.frontends.caffe.precision import FilterThresholds, MapFormat, Mode, Precision
from dlaconv.frontends.caffe.precision.kinds import MOVING, Kind, kind_of
from dlaconv.frontends.caffe.schema import UNREAD, caffe_schema
from dlaconv.ir.formats import Threshold

_FIELDS = ("precision_param", "quantization_param")
_LEFT_OUT = {"name", "type", "bottom", "top", "include", "exclude", "blobs", *_FIELDS}
_CARRYING = MOVING | {"Concat", "PReLU", "Pooling", "ReLU"}
"""Layers without formats of their own whose results have that of what they read."""


def write_precision(layers: Sequence[Layer]) -> None:
    """Replaces the message of every layer by one of version 2 that says its precision.

    CHaiDNN wants the thresholds of max pooling in Xilinx mode, too; they are those of what it
    reads.
    """
    carried: dict[str, tuple[Mode, MapFormat]] = {}
    for layer in layers:
        precision = layer.precision if kind_of(layer) is not Kind.NONE else None
        read = {carried.get(name) for name in layer.bottoms}
        known = read.pop() if len(read) == 1 else None
        if precision is None and layer.type == "Pooling" and known is not None:
            mode, form = known
            if mode is Mode.XILINX and kind_of(layer) is Kind.NONE:
                precision = Precision(mode, form, form)
        layer.message = _version_2(layer, precision)
        for name in layer.tops:
            if layer.precision is not None and layer.precision.maps_out is not None:
                carried[name] = layer.precision.mode, layer.precision.maps_out
            elif known is not None and layer.type in _CARRYING:
                carried[name] = known
            else:
                carried.pop(name, None)


def network_message(name: str, layers: Sequence[Layer]) -> Message:
    """A network of layers of version 2."""
    net = Message(caffe_schema(), "NetParameter")
    if name:
        net.put("name", name)
    for layer in layers:
        net.put("layer", layer.message)
    return net


def precision_message(precision: Precision) -> Message:
    """A precision as CHaiDNN's message; formats that it does not have are left out."""
    message = Message(caffe_schema(), "PrecisionParameter")
    message.put("quant_type", str(precision.mode))
    weights = precision.weights
    sides = {"layer_in": precision.maps_in, "layer_out": precision.maps_out, "params": weights}
    for side, form in sides.items():
        if form is not None:
            message.put(f"bw_{side}", form.bits)
    for side, form in sides.items():
        if isinstance(form, Threshold):
            message.put(f"th_{side}", _shortest(form.th))
        elif isinstance(form, FilterThresholds):
            for threshold in form.thresholds:
                message.put(f"th_{side}", _shortest(threshold))
        elif form is not None:
            message.put(f"fl_{side}", form.frac)
    _put_statistics(message, precision.statistics)
    return message


def _put_statistics(message: Message, statistics: Mapping[str, MapFormat]) -> None:
    for name, form in statistics.items():
        assert not isinstance(form, Threshold)
        message.put(f"{name}_bw", form.bits)
        message.put(f"{name}_fl", form.frac)


def _version_2(layer: Layer, precision: Precision | None) -> Message:
    """A layer's message with all that the layer knows, and the precision."""
    old = layer.message
    new = Message(caffe_schema(), "LayerParameter", layer.line)
    new.put("name", layer.name)
    new.put("type", layer.type)
    for name in layer.bottoms:
        new.put("bottom", name)
    for name in layer.tops:
        new.put("top", name)
    for name in old.names():
        if name not in _LEFT_OUT and old.kind.fields[name].type_name != UNREAD:
            old.move(name, new)
    if any(layer.shared) and not old.has("param"):  # versions before 2 have names only
        for name in layer.shared:
            item = Message(caffe_schema(), "ParamSpec", layer.line)
            item.put("name", name)
            new.put("param", item)
    if precision is not None:
        new.put("precision_param", precision_message(precision))
    return new


def _shortest(value: Fraction) -> float:
    """A number of float32 as the shortest decimal that stands for it there."""
    return float(str(np.float32(float(value))))
