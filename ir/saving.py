"""Writes models without holding them: weights are computed and written a block at a time.

protobuf would serialise a whole model in memory, and none above 2 GB. Here it serialises
everything but the large weights; their fields are written around data that comes from
`dlaconv.ir.blocks`. Fields of a message may come in any order and a list may be interleaved with
other fields (protocol buffers encoding, "order"), so the weights follow at the graph's end. Models
that would be too large for protobuf get their weights in a second file, as ONNX's external data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import onnx_ir as ir

from dlaconv.ir.blocks import little_endian, row_blocks, shape_tuple

if TYPE_CHECKING:
    import onnx

LARGEST_FILE = (1 << 31) - (1 << 24)
"""Bytes of a file without external data; protobuf reads no message of 2 GB."""
_LARGE = 1 << 12
_ALIGNMENT = 1 << 12
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
"""Field numbers in ModelProto, GraphProto and TensorProto (onnx.proto)."""


def save(model: ir.Model, path: Path, weights: Path) -> None:
    """Writes a model as one file, or as two if it is too large for one.

    Args:
        model: the model; it is not changed.
        path: where to put it.
        weights: where to put the weights if they do not fit into the file, in the same folder.
    """
    proto, large = _without_large(model)
    headers = [proto.graph.initializer[index] for index, _ in large]
    external = sum(tensor.nbytes for _, tensor in large) > LARGEST_FILE
    if external:
        _write_external(headers, [tensor for _, tensor in large], weights)
        path.write_bytes(proto.SerializeToString())
        return
    fields = [header.SerializeToString() for header in headers]
    for index, _ in reversed(large):
        del proto.graph.initializer[index]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    prefixes = [
        _tag(_INITIALIZER, len(field) + len(_tag(_RAW_DATA, tensor.nbytes)) + tensor.nbytes)
        + field
        + _tag(_RAW_DATA, tensor.nbytes)
        for field, (_, tensor) in zip(fields, large, strict=True)
    ]
    size = len(graph) + sum(
        len(prefix) + tensor.nbytes for prefix, (_, tensor) in zip(prefixes, large, strict=True)
    )
    with path.open("wb", buffering=0) as file:
        _write(file, proto.SerializeToString() + _tag(_GRAPH, size) + graph)
        for prefix, (_, tensor) in zip(prefixes, large, strict=True):
            _write(file, prefix)
            _write_data(file, tensor)


def _without_large(model: ir.Model) -> tuple[onnx.ModelProto, list[tuple[int, ir.TensorProtocol]]]:
    """The model without the data of large initializers, and where they are in its list."""
    copy = model.clone()
    large = []
    for index, value in enumerate(copy.graph.initializers.values()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= _LARGE and tensor.dtype != ir.DataType.STRING:
            tensor.name = value.name
            large.append((index, tensor))
            value.const_value = ir.ExternalTensor(
                "",
                None,
                None,
                tensor.dtype,
                shape=ir.Shape(shape_tuple(tensor)),
                name=value.name or "",
            )
    proto: onnx.ModelProto = ir.to_proto(copy)
    for index, _ in large:
        proto.graph.initializer[index].ClearField("data_location")
        proto.graph.initializer[index].ClearField("external_data")
    return proto, large


def _write_external(
    headers: Sequence[onnx.TensorProto], tensors: Sequence[ir.TensorProtocol], weights: Path
) -> None:
    with weights.open("wb", buffering=0) as file:
        offset = 0
        for header, tensor in zip(headers, tensors, strict=True):
            padding = -offset % _ALIGNMENT
            _write(file, bytes(padding))
            offset += padding
            header.data_location = header.EXTERNAL
            fields = {"location": weights.name, "offset": offset, "length": tensor.nbytes}
            for key, value in fields.items():
                header.external_data.add(key=key, value=str(value))
            _write_data(file, tensor)
            offset += tensor.nbytes


def _write_data(file: BinaryIO, tensor: ir.TensorProtocol) -> None:
    if tensor.dtype.bitwidth < 8 or not len(tensor.shape):  # packed: onnx_ir knows how
        _write(file, tensor.tobytes())
        return
    for _, block in row_blocks(tensor):
        _write(file, little_endian(block).reshape(-1).view(np.uint8).data)


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    """Writes all of it; an unbuffered file may take less than it is given."""
    rest = memoryview(data)
    while rest.nbytes:
        rest = rest[file.write(rest) :]


def _tag(field: int, size: int) -> bytes:
    """The beginning of a length-delimited field: its number with wire type 2, and its length."""
    return _varint(field << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
