"""Mutations of a file as bytes: what bad disks, transfers and editors do."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

ByteMutation = Callable[[bytearray, Random, bytes], str]
"""Changes the bytes in place, perhaps with those of another file; returns what it did."""

_WORTHY = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 9 + b"\x01", b"\x80" * 10, b"\n\x00")


def flip_bits(data: bytearray, random: Random, other: bytes) -> str:
    count = random.choice((1, 1, 2, 8, 64))
    for _ in range(count):
        data[_place(data, random)] ^= 1 << random.randrange(8)
    return f"{count} bits flipped"


def set_bytes(data: bytearray, random: Random, other: bytes) -> str:
    at = _place(data, random)
    data[at : at + 1] = random.choice(_WORTHY)
    return f"byte {at} replaced"


def truncate(data: bytearray, random: Random, other: bytes) -> str:
    at = random.choice((_place(data, random), random.randrange(min(64, len(data)) + 1)))
    del data[at:]
    return f"cut off at {at}"


def cut_out(data: bytearray, random: Random, other: bytes) -> str:
    at, size = _place(data, random), random.choice((1, 2, 7, 100, 5000))
    del data[at : at + size]
    return f"{size} bytes removed at {at}"


def insert_noise(data: bytearray, random: Random, other: bytes) -> str:
    at, size = _place(data, random), random.choice((1, 2, 8, 300))
    data[at:at] = random.randbytes(size)
    return f"{size} bytes inserted at {at}"


def fill(data: bytearray, random: Random, other: bytes) -> str:
    at, size = _place(data, random), random.choice((4, 30, 1000))
    size = min(size, len(data) - at)
    same = bytes([random.randrange(256)]) * size
    data[at : at + size] = random.choice((random.randbytes(size), bytes(size), same))
    return f"{size} bytes filled at {at}"


def repeat_slice(data: bytearray, random: Random, other: bytes) -> str:
    at, size, times = _place(data, random), random.choice((2, 16, 500)), random.choice((1, 2, 50))
    data[at:at] = data[at : at + size] * times
    return f"{size} bytes at {at} repeated {times} times"


def move_slice(data: bytearray, random: Random, other: bytes) -> str:
    start, size = _place(data, random), random.choice((1, 8, 64, 1000))
    taken = bytes(data[start : start + size])
    to = _place(data, random)
    data[to : to + size] = taken
    return f"{size} bytes of {start} written over those at {to}"


def splice(data: bytearray, random: Random, other: bytes) -> str:
    at, start = _place(data, random), random.randrange(len(other))
    data[at:] = other[start:]
    return f"from {at} on another file from {start} on"


def cross(data: bytearray, random: Random, other: bytes) -> str:
    size = random.choice((8, 200, 4000))
    at, start = _place(data, random), random.randrange(len(other))
    data[at : at + size] = other[start : start + size]
    return f"{size} bytes of another file at {at}"


def join(data: bytearray, random: Random, other: bytes) -> str:
    data += other
    return "another file appended"


def foreign(data: bytearray, random: Random, other: bytes) -> str:
    head = random.choice((b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x04.", b"{", b"\xef\xbb\xbf"))
    data[0:0] = head
    return f"{head!r} put before"


MUTATIONS: tuple[ByteMutation, ...] = (
    flip_bits, flip_bits, set_bytes, truncate, cut_out, insert_noise, fill, repeat_slice,
    move_slice, splice, cross, join, foreign,
)  # fmt: skip


def mutate(data: bytearray, random: Random, other: bytes) -> str:
    """Applies one mutation; returns what it did."""
    if not data:
        data += random.randbytes(random.choice((1, 2, 300)))
        return "random bytes"
    return random.choice(MUTATIONS)(data, random, other)


def _place(data: bytearray, random: Random) -> int:
    """An offset: anywhere, or where structure is dense: at the start and at the end."""
    size = len(data)
    if not size:
        return 0
    near = random.randrange(min(size, 3000))
    return random.choice((random.randrange(size), near, size - 1 - near))
