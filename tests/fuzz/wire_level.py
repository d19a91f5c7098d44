"""Mutations of a file as protobuf fields: lengths, types, order, nesting that no writer makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import onnx

_VARINT, _FIXED64, _BYTES, _START, _FIXED32 = 0, 1, 2, 3, 5
_HUGE = (0, 1, 127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**33, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_TEXTS = (
    b"", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\x00", b"a\x00b", b"\x1b[31m", b"../../x",
    b"/dev/zero", "ä漢🙂\u202e".encode(), b"x" * 3000,
)  # fmt: skip


@dataclass
class Field:
    """One field: payload bytes, a number for varints, or the fields of a message."""

    number: int
    kind: int
    payload: bytes | int | list[Field]
    stated: int | None = None  # a length that is not that of the payload

    def encoded(self) -> bytes:
        tag = varint(self.number << 3 | self.kind)
        if isinstance(self.payload, int):
            return tag + varint(self.payload)
        content = self.payload if isinstance(self.payload, bytes) else encoded(self.payload)
        if self.kind != _BYTES:
            return tag + content
        return tag + varint(len(content) if self.stated is None else self.stated) + content


def varint(value: int) -> bytes:
    """A number as protobuf writes it; negative ones take ten bytes."""
    value &= 2**64 - 1
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])


def encoded(fields: list[Field]) -> bytes:
    """Fields one behind the other."""
    return b"".join(field.encoded() for field in fields)


def parsed(data: bytes, descriptor: Any = None) -> list[Field]:
    """The fields of a well-formed ``ModelProto``, those of its messages included."""
    descriptor = descriptor or onnx.ModelProto.DESCRIPTOR
    fields, position = [], 0
    while position < len(data):
        tag, position = _number(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _number(data, position)
            fields.append(Field(number, kind, value))
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if size is None:
            size, position = _number(data, position)
        content = data[position : position + size]
        position += size
        known = descriptor.fields_by_number.get(number)
        is_message = known is not None and known.message_type is not None
        payload = parsed(content, known.message_type) if is_message else content
        fields.append(Field(number, kind, payload))
    return fields


def _number(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def drop(fields: list[Field], index: int, random: Random) -> str:
    del fields[index]
    return "removed"


def double(fields: list[Field], index: int, random: Random) -> str:
    times = random.choice((1, 1, 2, 30))
    fields[index:index] = [fields[index]] * times
    return f"repeated {times} times"


def swap(fields: list[Field], index: int, random: Random) -> str:
    other = random.randrange(len(fields))
    fields[index], fields[other] = fields[other], fields[index]
    return f"exchanged with number {fields[index].number}"


def shuffle(fields: list[Field], index: int, random: Random) -> str:
    random.shuffle(fields)
    return "in another order, with all its neighbours"


def renumber(fields: list[Field], index: int, random: Random) -> str:
    number = random.choice((0, 1, 2, 5, 7, 9, 13, 14, 20, 999, 2**29 - 1))
    fields[index].number = number
    return f"numbered {number}"


def retype(fields: list[Field], index: int, random: Random) -> str:
    fields[index].kind = kind = random.choice(
        (_VARINT, _FIXED64, _BYTES, _START, 4, _FIXED32, 6, 7)
    )
    if isinstance(fields[index].payload, int):
        fields[index].payload = varint(fields[index].payload)
    return f"of wire type {kind}"


def lie_about_length(fields: list[Field], index: int, random: Random) -> str:
    field = fields[index]
    content = b"" if isinstance(field.payload, int) else field.encoded()
    field.stated = random.choice((*_HUGE, len(content), len(content) + 1, max(len(content) - 3, 0)))
    if isinstance(field.payload, int):
        field.kind, field.payload = _BYTES, b"?"
    return f"with length {field.stated}"


def change_content(fields: list[Field], index: int, random: Random) -> str:
    field = fields[index]
    if isinstance(field.payload, int):
        field.payload = random.choice((*_HUGE, -1, -(2**31), -(2**63), random.getrandbits(16)))
        return f"with the number {field.payload}"
    text = random.choice((*_TEXTS, random.randbytes(8), random.randbytes(200)))
    field.payload = text
    return f"with the bytes {text[:24]!r}"


def overlong_number(fields: list[Field], index: int, random: Random) -> str:
    length = random.choice((5, 9, 10, 11, 40))
    fields[index].payload, fields[index].kind = b"\x80" * length + b"\x00", _VARINT
    return f"as a number of {length} bytes"


def nest(fields: list[Field], index: int, random: Random) -> str:
    """The field inside itself, as a graph in an attribute in a node, say, that often."""
    depth = random.choice((3, 30, 98, 110, 3000))
    content = fields[index].encoded()
    numbers = random.choice(((1, 5, 6), (fields[index].number,), (1, 5, 11)))
    for level in range(depth):
        number = numbers[level % len(numbers)]
        content = varint(number << 3 | _BYTES) + varint(len(content)) + content
    fields[index] = Field(numbers[(depth - 1) % len(numbers)], _BYTES, content)
    return f"nested {depth} deep"


def many(fields: list[Field], index: int, random: Random) -> str:
    count = random.choice((1000, 20_000))
    small = len(fields[index].encoded()) < 60
    fields[index:index] = [fields[index] if small else Field(fields[index].number, _BYTES, b"")] * (
        count
    )
    return f"{count} times"


def unpack(fields: list[Field], index: int, random: Random) -> str:
    """A packed list as single values, or a single value as a list."""
    field = fields[index]
    if isinstance(field.payload, int):
        field.payload = varint(field.payload) * random.choice((1, 2, 9))
        field.kind = _BYTES
        return "packed"
    content = field.payload if isinstance(field.payload, bytes) else encoded(field.payload)
    fields[index : index + 1] = [Field(field.number, _VARINT, byte) for byte in content[:500]]
    return "as single numbers"


MUTATIONS: tuple[Callable[[list[Field], int, Random], str], ...] = (
    drop, drop, double, swap, shuffle, renumber, retype, lie_about_length, change_content,
    change_content, change_content, overlong_number, nest, many, unpack,
)  # fmt: skip


def mutate(top: list[Field], random: Random) -> str:
    """Mutates one field of a model, at any depth, in place; returns what was done."""
    fields, path = _message(top, random)
    if not fields:
        top.append(Field(random.randrange(1, 40), _VARINT, random.getrandbits(40)))
        return "a number appended"
    index = random.randrange(len(fields))
    path.append(fields[index].number)
    done = random.choice(MUTATIONS)(fields, index, random)
    return f"field {'.'.join(map(str, path))} {done}"


def _message(fields: list[Field], random: Random) -> tuple[list[Field], list[int]]:
    """A message somewhere below, with equal chances for each kind of field on the way."""
    path: list[int] = []
    while random.random() < 0.85:
        inner = [field for field in fields if isinstance(field.payload, list)]
        if not inner:
            break
        number = random.choice(sorted({field.number for field in inner}))
        chosen = random.choice([field for field in inner if field.number == number])
        assert isinstance(chosen.payload, list)
        fields = chosen.payload
        path.append(number)
    return fields, path
