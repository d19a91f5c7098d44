"""HDF5's global heaps, which hold texts: HDF5 walks some damaged ones for ever.

A heap is ``GCOL``, version 1, its size, and objects behind one another: number, count of
references, size. Number 0 is free space, whose size counts its head; HDF5 advances by that size
without a look whether it is 0.
"""

from __future__ import annotations

import re
import struct

_HEAP = re.compile(rb"GCOL\x01\0\0\0")
_HEAD, _OBJECT = struct.Struct("<8xQ"), struct.Struct("<HHIQ")
_MOST_OBJECTS = 1 << 20
_LENGTHS = {0: 14, 1: 14, 2: 10, 3: 10}
"""Where a file says how wide its lengths are, by the version of the superblock."""


def fault(data: memoryview) -> str:
    """Why HDF5 must not read the texts of a file, empty if it may.

    Args:
        data: a file with HDF5's signature.
    """
    at = _LENGTHS.get(data[8]) if len(data) > 8 else None
    if at is not None and len(data) > at and data[at] != 8:
        return f"lengths of {data[at]} bytes, where Keras has 8"
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
