"""Caffe's two files, written without Caffe: the prototxt as text, the caffemodel byte by byte."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from network import LAYERS, Layer

_PARAMETERS = {
    "BatchNorm": "batch_norm_param",
    "Convolution": "convolution_param",
    "Eltwise": "eltwise_param",
    "InnerProduct": "inner_product_param",
    "Pooling": "pooling_param",
    "Scale": "scale_param",
}
_HEADER = """name: "digits"
layer {
  name: "data"
  type: "Input"
  top: "data"
  input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } }
}
"""

# numbers of fields in caffe.proto
_NET_NAME, _NET_LAYER = 1, 100
_LAYER_NAME, _LAYER_TYPE, _LAYER_BLOBS = 1, 2, 7
_BLOB_DATA, _BLOB_SHAPE, _SHAPE_DIM = 5, 7, 1

Precision = Mapping[str, Mapping[str, object]]
"""Fields of the ``precision_param`` of layers."""


def prototxt(precision: Precision | None = None) -> str:
    """The network as text.

    Args:
        precision: how its numbers are stored; None for floating point.
    """
    return _HEADER + "".join(_layer(layer, (precision or {}).get(layer.name)) for layer in LAYERS)


def caffemodel(weights: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """The weights as a NetParameter in protobuf's wire format."""
    found = _bytes(_NET_NAME, b"digits")
    for layer in LAYERS:
        body = _bytes(_LAYER_NAME, layer.name.encode()) + _bytes(_LAYER_TYPE, layer.type.encode())
        blobs = weights.get(layer.name, [])
        found += _bytes(_NET_LAYER, body + b"".join(_bytes(_LAYER_BLOBS, _blob(b)) for b in blobs))
    return found


def _layer(layer: Layer, precision: Mapping[str, object] | None) -> str:
    lines = [f'name: "{layer.name}"', f'type: "{layer.type}"']
    lines += [f'bottom: "{name}"' for name in layer.bottoms]
    lines.append(f'top: "{layer.top}"')
    if layer.fields:
        lines += _message(_PARAMETERS[layer.type], layer.fields)
    if precision is not None:
        lines += _message("precision_param", precision)
    return "layer {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _message(name: str, fields: Mapping[str, object]) -> list[str]:
    lines = [f"  {key}: {_text(item)}" for key, value in fields.items() for item in _each(value)]
    return [f"{name} {{", *lines, "}"]


def _each(value: object) -> Iterable[object]:
    return value if isinstance(value, (list, tuple)) else [value]


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _blob(array: np.ndarray) -> bytes:
    shape = b"".join(_varint(size) for size in array.shape)
    data = array.astype("<f4").tobytes()
    return _bytes(_BLOB_DATA, data) + _bytes(_BLOB_SHAPE, _bytes(_SHAPE_DIM, shape))


def _bytes(number: int, payload: bytes) -> bytes:
    """A field of a message, a string or packed numbers."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
