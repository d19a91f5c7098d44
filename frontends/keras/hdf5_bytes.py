"""What HDF5 believes of a file, read from its bytes before HDF5 opens it: its size, and its texts.

Texts lie in global heaps. A heap is ``GCOL``, version 1, its size, and objects behind one another:
number, count of references, size. Number 0 is free space, whose size counts its head; HDF5 advances
by that size without a look whether it is 0.

An attribute refers to its texts by length, heap and number. HDF5 fills as much memory with zeros as
the length says, up to 4 GiB for each text, before it compares it with the object's. An attribute is
its version, flags, the sizes of its name, type and shape, then these (each to a multiple of 8 bytes
in version 1), then its values; version 3 has the name's character set before the name.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator

_HEAP = re.compile(rb"GCOL\x01\0\0\0")
_HEAD, _OBJECT = struct.Struct("<8xQ"), struct.Struct("<HHIQ")
_MOST_OBJECTS = 1 << 20
_ATTRIBUTE, _REFERENCE = struct.Struct("<BBHHH"), struct.Struct("<IQI")
_BEFORE_NAME = {1: 8, 2: 8, 3: 9}
"""Bytes of an attribute before its name, by its version."""
_WIDTHS = {0: 13, 1: 13, 2: 9, 3: 9}
"""Where a file says how wide its addresses and lengths are, by the version of the superblock."""
_ENDS = {0: 40, 1: 44, 2: 28, 3: 28}
"""Where a file says how many bytes it has."""


def fault(data: memoryview) -> str:
    """Why HDF5 must not read the texts of a file, empty if it may.

    Args:
        data: a file with HDF5's signature.
    """
    at = _WIDTHS.get(data[8]) if len(data) > 8 else None
    widths = bytes(data[at : at + 2]) if at is not None else b""
    if any(width != 8 for width in widths):
        return f"addresses and lengths of {widths[0]} and {widths[-1]} bytes, where Keras has 8"
    objects = 0
    for found in _HEAP.finditer(data):
        start = found.start()
        if start + _HEAD.size > len(data):
            break
        end = min(start + _HEAD.unpack_from(data, start)[0], len(data))
        place = start + _HEAD.size
        while place + _OBJECT.size <= end:
            objects += 1
            if objects > _MOST_OBJECTS:
                return f"its heaps have more than {_MOST_OBJECTS} objects"
            number, _, _, size = _OBJECT.unpack_from(data, place)
            if number == 0 and size == 0:
                return f"the heap at byte {start} has free space of 0 bytes"
            place += size if number == 0 else _OBJECT.size + -(-size // 8) * 8
    return ""


def file_bytes(data: memoryview) -> int:
    """How many bytes a file has by what it says; 0 if that is cut off."""
    at = _ENDS.get(data[8]) if len(data) > 8 else None
    if at is None or len(data) < at + 8:
        return 0
    end: int = struct.unpack_from("<Q", data, at)[0]
    return end


def text_bytes(data: memoryview, name: str) -> int:
    """How long the texts of an attribute are by what the file says; of several of a name, the most.

    Args:
        data: a file with HDF5's signature.
        name: the attribute.
    """
    sizes = [0]
    for begin, count in _texts(data, name.encode() + b"\0"):
        if count > (len(data) - begin) // _REFERENCE.size:
            continue  # the values are cut off, or this is no attribute
        references = data[begin : begin + count * _REFERENCE.size]
        sizes.append(sum(size for size, _, _ in _REFERENCE.iter_unpack(references)))
    return max(sizes)


def _texts(data: memoryview, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the values of attributes begin, and how many they are, by a name with its zero."""
    for found in re.finditer(re.escape(name), data):
        for version, before in _BEFORE_NAME.items():
            start = found.start() - before
            if start < 0:
                continue
            stored, _, *sizes = _ATTRIBUTE.unpack_from(data, start)
            if stored != version or sizes[0] != len(name):
                continue
            step = 8 if version == 1 else 1
            named, typed, shaped = (-(-size // step) * step for size in sizes)
            shape = found.start() + named + typed
            yield shape + shaped, _count(data[shape : shape + shaped])


def _count(shape: memoryview) -> int:
    """How many values there are: version, rank, flags, then sizes; 1 without sizes."""
    begin = {1: 8, 2: 4}.get(shape[0], 0) if len(shape) > 1 else 0
    if not begin or len(shape) < begin + 8 * shape[1]:
        return 0
    return math.prod(struct.unpack_from(f"<{shape[1]}Q", shape, begin))
