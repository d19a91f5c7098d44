"""Layers that only make blobs: graph inputs, and constants of DummyData and Parameter.

Layers that read a training set become inputs of the shape that they would give. What they do to
pixels is no part of the network, so it is reported.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.frontends.building import MOST_ELEMENTS, RefusalError
from dlaconv.frontends.caffe.building import (
    MOST_CONSTANT,
    CaffeLayer,
    Shape,
)
from dlaconv.frontends.caffe.message import Message

_PARAMETERS = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
    "MemoryData": "memory_data_param",
}
DATA = {*_PARAMETERS, "HDF5Data", "AnnotatedData", "VideoData", "Python"}
"""Types of layers that read data where they have no bottoms."""


def graph_input(layer: CaffeLayer) -> list[ir.Value]:
    """Input: a graph input for each top."""
    shapes = [
        tuple(shape.integers("dim")) for shape in layer.param("input_param").messages("shape")
    ]
    if len(shapes) not in {0, 1, len(layer.tops)}:
        layer.refuse(f"{len(shapes)} shapes for {len(layer.tops)} tops")
    if len(shapes) == 1:
        shapes *= len(layer.tops)
    return [_input(layer, top, shapes[i] if shapes else None) for i, top in enumerate(layer.tops)]


def data(layer: CaffeLayer) -> list[ir.Value]:
    """Data and its like: a graph input for each top that a layer reads, reported."""
    if layer.layer.type == "Python" and layer.bottoms:
        layer.no_form(
            "a Python layer; what it computes is not in the file, and code is never run",
            remedy="remove it from the prototxt and compute it on the host",
        )
    _report(layer)
    shape = _shape_of_data(layer)
    return [_input(layer, top, None if index else shape) for index, top in enumerate(layer.tops)]


def dummy_data(layer: CaffeLayer) -> list[ir.Value]:
    """DummyData: constants."""
    param, found = layer.param("dummy_data_param"), []
    fillers = param.messages("data_filler")
    shapes = [tuple(shape.integers("dim")) for shape in param.messages("shape")]
    if not shapes:
        sides = [param.integers(name) for name in ("num", "channels", "height", "width")]
        shapes = list(zip(*sides, strict=False))
    count = len(layer.tops)
    if len(shapes) not in {1, count} or len(fillers) not in {0, 1, count}:
        layer.refuse(f"{len(shapes)} shapes and {len(fillers)} fillers for {count} tops")
    for index, top in enumerate(layer.tops):
        shape = shapes[index % len(shapes)]
        filler = fillers[index % len(fillers)] if fillers else None
        if filler is not None and filler.text("type") != "constant":
            layer.no_form(f"data of a {filler.text('type')!r} filler, which differ each time")
        if any(size < 1 for size in shape) or math.prod(shape) > MOST_CONSTANT:
            layer.refuse(f"constant data of shape {list(shape)}")
        value = filler.number("value") if filler is not None else 0.0
        found.append(layer.constant(top, np.full(shape, value, np.float32)))
    return found


def parameter(layer: CaffeLayer) -> list[ir.Value]:
    """Parameter: a learnt constant."""
    shape = tuple(layer.param("parameter_param").message("shape").integers("dim"))
    if any(size < 1 for size in shape):
        layer.refuse(f"shape {list(shape)}")
    return [layer.weight(0, shape, "value")]


def _input(layer: CaffeLayer, name: str, shape: Shape | None) -> ir.Value:
    """A graph input; one whose shape is not known is refused where something reads it."""
    shape = layer.graph.shapes.get(name, shape)
    if shape is None:
        return ir.val(name, ir.DataType.FLOAT)
    if not shape or any(size < 1 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
        layer.refuse(f"an input of shape {list(shape)}")
    value = ir.val(name, ir.DataType.FLOAT, list(shape))
    layer.graph.inputs.append(value)
    return value


def open_shape(layer: CaffeLayer, name: str) -> RefusalError:
    """The error for an input of unknown shape."""
    return RefusalError(
        Diagnostic(
            "DLA311",
            "open-input-shape",
            f"the prototxt does not say which shape {name!r} has",
            location=layer.layer.location(layer.graph.file),
            help=f"give it, such as --set-shape {name}=1,3,224,224, or use the deploy.prototxt",
            notes=("the accelerator runs a network for one fixed input size",),
        )
    )


def _shape_of_data(layer: CaffeLayer) -> Shape | None:
    """The shape of the first top, as far as the layer's parameters say it."""
    kind = layer.layer.type
    if kind == "MemoryData":
        param = layer.param("memory_data_param")
        names = ("batch_size", "channels", "height", "width")
        return tuple(param.integer(name) for name in names)
    transform = layer.param("transform_param")
    own = layer.param(_PARAMETERS[kind]) if kind in _PARAMETERS else None
    channels = _channels(transform, own)
    size = transform.integer("crop_size") or (own.integer("crop_size") if own is not None else 0)
    sides = (size, size)
    if not size and own is not None and kind == "ImageData":
        sides = own.integer("new_height"), own.integer("new_width")
    return (1, channels, *sides) if channels and min(sides) else None


def _channels(transform: Message, own: Message | None) -> int:
    """The number of channels, 0 where nothing tells it."""
    if transform.flag("force_gray"):
        return 1
    means = len(transform.numbers("mean_value"))
    if means > 1 or transform.flag("force_color"):
        return means if means > 1 else 3
    if own is not None and "is_color" in own.kind.fields:
        return 3 if own.flag("is_color") else 1
    return 3 if own is not None and own.kind.name == "WindowDataParameter" else 0


def _report(layer: CaffeLayer) -> None:
    """Says what the layer does to the data before the network sees them."""
    transform = layer.param("transform_param")
    kind = layer.layer.type
    places = [transform, *([layer.param(_PARAMETERS[kind])] if kind in _PARAMETERS else [])]
    scale, means, said = 1.0, transform.numbers("mean_value"), []
    for message in places:
        if "mean_file" in message.kind.fields and message.has("mean_file"):
            said.append(f"mean_file {message.text('mean_file')}")
        if "scale" in message.kind.fields and message.has("scale"):
            scale = message.number("scale")
            said.append(f"scale {scale:g}")
    if means:
        said.append(f"mean_value {_listed(means)}")
    options = ["--bgr"]
    options += [f"--scale {scale:g}"] if scale != 1 else []
    options += [f"--mean {_listed([mean * scale for mean in means])}"] if means else []
    layer.graph.diagnostics.note(
        "DLA136",
        "data-layer",
        f"the {kind} layer becomes an input of the network"
        + (f"; the host does what it did: {', '.join(said)}" if said else ""),
        location=layer.layer.location(layer.graph.file),
        help=f"to calibrate on pictures as Caffe reads them: {' '.join(options)}",
        notes=("Caffe subtracts the mean before it scales; --mean is subtracted after --scale",),
    )


def _listed(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
