"""The ONNX file as protobuf fields, walked without parsing it.

Two things need this. Telling what a file holds must not load its weights, and reading a file must
not copy them: protobuf copies every weight when it parses, so the weights are cut out of what it
gets to see, and stay where they are in the mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

Buffer = memoryview
"""The mapped file."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INITIALIZER = 7, 1, 5
_NODE_OP_TYPE, _NODE_DOMAIN, _TENSOR_RAW_DATA = 4, 7, 9
_NODE_ATTRIBUTE, _ATTRIBUTE_NAME = 5, 1
_MAX_VARINT_BYTES = 10
_KEEP_INLINE = 4096
_MOST_PARTS = 1 << 17
"""Nodes, initializers and the like of a model; two bytes suffice for one."""


class WireError(ValueError):
    """The bytes are no protobuf message; the message says what is wrong and where."""


class CrowdedError(WireError):
    """The message has more parts than anyone would wait for."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        number: its number in the schema.
        start: offset of its tag.
        begin: offset of its payload.
        end: offset behind its payload.
        is_message: True if the payload is length-delimited.
    """

    number: int
    start: int
    begin: int
    end: int
    is_message: bool


@dataclass(frozen=True, slots=True)
class Span:
    """Where the bytes of a weight lie in the file."""

    begin: int
    end: int


def fields(data: Buffer, begin: int, end: int) -> Iterator[Field]:
    """Yields the fields of the message in ``data[begin:end]``.

    Raises:
        WireError: if a field is malformed or reaches beyond ``end``.
    """
    position = begin
    while position < end:
        start = position
        tag, position = _varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"a field without number at byte {start}")
        payload = position
        if kind == _VARINT:
            _, position = _varint(data, position, end)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        elif kind == _BYTES:
            length, payload = _varint(data, position, end)
            position = payload + length
        else:
            raise WireError(f"an unknown wire type {kind} at byte {start}")
        if position > end:
            raise WireError(
                f"the field at byte {start} claims {position - payload} bytes, "
                f"{max(end - payload, 0)} are there"
            )
        yield Field(number, start, payload, position, kind == _BYTES)


def operators(data: Buffer) -> Iterator[tuple[str, str]]:
    """Yields (domain, op type) of the nodes of a model's graph.

    Raises:
        WireError: if the bytes are no ONNX model.
    """
    for graph in _messages(data, 0, len(data), _MODEL_GRAPH):
        for node in _messages(data, graph.begin, graph.end, _GRAPH_NODE):
            op_type = domain = ""
            for item in fields(data, node.begin, node.end):
                if item.is_message and item.number == _NODE_OP_TYPE:
                    op_type = _text(data, item)
                elif item.is_message and item.number == _NODE_DOMAIN:
                    domain = _text(data, item)
            yield domain, op_type


def attribute_names(data: Buffer) -> Iterator[str]:
    """Yields the names of the attributes of the nodes of a model's graph.

    Raises:
        WireError: if the bytes are no ONNX model.
    """
    for graph in _messages(data, 0, len(data), _MODEL_GRAPH):
        for node in _messages(data, graph.begin, graph.end, _GRAPH_NODE):
            for attribute in _messages(data, node.begin, node.end, _NODE_ATTRIBUTE):
                for name in _messages(data, attribute.begin, attribute.end, _ATTRIBUTE_NAME):
                    yield _text(data, name)


def without_weights(data: Buffer) -> tuple[bytes, dict[int, Span]]:
    """The model without the raw data of its larger initializers.

    Args:
        data: the whole file.

    Returns:
        The serialised model, and where the data of an initializer lies, by its index.

    Raises:
        CrowdedError: if the model and its graph have more than 131072 fields.
        WireError: if the bytes are no ONNX model.
    """
    parts: list[bytes] = []
    spans: dict[int, Span] = {}
    index = seen = 0
    for item in fields(data, 0, len(data)):
        seen = _counted(seen)
        if item.number != _MODEL_GRAPH or not item.is_message:
            parts.append(bytes(data[item.start : item.end]))
            continue
        graph: list[bytes] = []
        for member in fields(data, item.begin, item.end):
            seen = _counted(seen)
            if member.number != _GRAPH_INITIALIZER or not member.is_message:
                graph.append(bytes(data[member.start : member.end]))
                continue
            tensor, span = _without_raw_data(data, member)
            graph.append(tensor)
            if span is not None:
                spans[index] = span
            index += 1
        parts.append(_message(_MODEL_GRAPH, b"".join(graph)))
    return b"".join(parts), spans


def _counted(seen: int) -> int:
    if seen == _MOST_PARTS:
        raise CrowdedError(f"more than {_MOST_PARTS} nodes, initializers and other parts")
    return seen + 1


def _without_raw_data(data: Buffer, tensor: Field) -> tuple[bytes, Span | None]:
    kept: list[bytes] = []
    span = None
    for item in fields(data, tensor.begin, tensor.end):
        if (
            item.number == _TENSOR_RAW_DATA
            and item.is_message
            and item.end - item.begin > _KEEP_INLINE
        ):
            span = Span(item.begin, item.end)  # of a repeated field the last one counts
        else:
            kept.append(bytes(data[item.start : item.end]))
    return _message(_GRAPH_INITIALIZER, b"".join(kept)), span


def _messages(data: Buffer, begin: int, end: int, number: int) -> Iterator[Field]:
    for seen, item in enumerate(fields(data, begin, end)):
        _counted(seen)
        if item.number == number and item.is_message:
            yield item


def _message(number: int, payload: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(payload)) + payload


def _encoded(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def _varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_MAX_VARINT_BYTES):
        if position >= end:
            raise WireError(f"the file ends inside a number at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise WireError(f"a number longer than {_MAX_VARINT_BYTES} bytes before byte {position}")


def _text(data: Buffer, item: Field) -> str:
    return bytes(data[item.begin : min(item.end, item.begin + 256)]).decode("utf-8", "replace")
