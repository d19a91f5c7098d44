"""Writes models without holding them: weights are computed and written a block at a time.

protobuf would serialise a whole model in memory, and none above 2 GB. Here it serialises
everything but the large weights; their fields are written around data that comes from
`dlaconv.ir.blocks`. Fields of a message may come in any order and a list may be interleaved with
other fields (protocol buffers encoding, "order"), so the weights follow at the graph's end. Models
that would be too large for protobuf get their weights in a second file, as ONNX's external data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
import onnx_ir as ir

from dlaconv.ir.blocks import ahead, little_endian, row_blocks, shape_tuple

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
    prefixes = []
    for field, (_, tensor) in zip(fields, large, strict=True):
        data = _tag(_RAW_DATA, tensor.nbytes)
        length = len(field) + len(data) + tensor.nbytes
        prefixes.append(_tag(_INITIALIZER, length) + field + data)
    size = len(graph) + sum(len(prefix) for prefix in prefixes)
    size += sum(tensor.nbytes for _, tensor in large)
    head = proto.SerializeToString() + _tag(_GRAPH, size) + graph
    pieces = []
    end = len(head)
    for prefix, (_, tensor) in zip(prefixes, large, strict=True):
        pieces.append(_Piece(end, prefix, tensor))
        end += len(prefix) + tensor.nbytes
    _write_pieces(path, [_Piece(0, head), *pieces])


class _Piece(NamedTuple):
    """Bytes at a place of a file, and the data of a tensor behind them."""

    begin: int
    head: bytes
    tensor: ir.TensorProtocol | None = None


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
    pieces = []
    end = 0
    for header, tensor in zip(headers, tensors, strict=True):
        end += -end % _ALIGNMENT
        header.data_location = header.EXTERNAL
        fields = {"location": weights.name, "offset": end, "length": tensor.nbytes}
        for key, value in fields.items():
            header.external_data.add(key=key, value=str(value))
        pieces.append(_Piece(end, b"", tensor))
        end += tensor.nbytes
    _write_pieces(weights, pieces)


def _write_pieces(path: Path, pieces: Sequence[_Piece]) -> None:
    """Writes pieces one after the other, with zeros between them where they do not touch."""
    with path.open("wb", buffering=0) as file:
        place = 0
        for begin, data in ahead((piece.begin, data) for piece in pieces for data in _data(piece)):
            _write(file, bytes(max(0, begin - place)))
            _write(file, data)
            place = max(place, begin) + len(data)


def _data(piece: _Piece) -> Iterator[bytes | memoryview]:
    """The bytes of a piece; a tensor's are computed as they are asked for."""
    yield piece.head
    tensor = piece.tensor
    if tensor is None:
        return
    if tensor.dtype.bitwidth < 8 or not len(tensor.shape):  # packed: onnx_ir knows how
        yield tensor.tobytes()
        return
    for _, block in row_blocks(tensor):
        yield little_endian(block).reshape(-1).view(np.uint8).data


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
