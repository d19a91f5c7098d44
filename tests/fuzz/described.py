"""Mutations of what a file describes in words: JSON in archives and HDF5, and text of protobuf."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

import h5py

from tests.fuzz import byte_level
from tests.fuzz.semantic.draft import FLOATS, INTEGERS, SMALL, WORDS

_CONFIG = "config.json"
_BROKEN = (OSError, ValueError, LookupError, RuntimeError, TypeError)
"""What a file raises that an earlier step has broken."""
_FIELD = re.compile(rb"^(\s*\w+: ?)(.*)$")
_WAYS_OF_JSON = ("removed", "value", "value", "value", "part", "repeated", "deep", "called")
_WAYS_OF_TEXT = ("value", "value", "value", "removed", "repeated", "moved", "from", "brace")
_BRACES = (b"{", b"}", b"", b"layer {", b"}\n}")


def keras(data: bytes, random: Random, other: bytes) -> tuple[bytes, str]:
    """Mutates a ``.keras`` or ``.h5`` file; returns it and what was done."""
    change = _hdf5 if data.startswith(b"\x89HDF") else _zipped
    try:
        return change(data, random, other)
    except (*_BROKEN, zipfile.BadZipFile):
        broken = bytearray(data)
        done = byte_level.mutate(broken, random, other)
        return bytes(broken), done


def _zipped(data: bytes, random: Random, other: bytes) -> tuple[bytes, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    index = random.randrange(len(members))
    name, content = members[index]
    way = random.random()
    if way < 0.7:
        index = next((at for at, (one, _) in enumerate(members) if one == _CONFIG), index)
        text, done = _document(members[index][1], random)
        members[index] = members[index][0], text
    elif way < 0.85:
        changed = bytearray(content)
        done = f"{name}: {byte_level.mutate(changed, random, other)}"
        members[index] = name, bytes(changed)
    elif way < 0.9:
        members[index] = random.choice((f"../{name}", f"/{name}", "", "x" * 300)), content
        done = f"{name} called {members[index][0][:20]!r}"
    elif way < 0.95:
        members += [(name, content)] * random.choice((1, 1 + (1 << 20) // (1 + len(content))))
        done = f"{name} several times"
    else:
        del members[index]
        done = f"{name} removed"
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    return archive_of(members, method), done


def archive_of(members: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive that is the same every time."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # names twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def _hdf5(data: bytes, random: Random, other: bytes) -> tuple[bytes, str]:
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        if random.random() < 0.7:
            text, done = _document(str(file.attrs["model_config"]).encode(), random)
            file.attrs["model_config"] = text.decode("utf-8", "replace")
        else:
            paths: list[str] = []
            file.visit(paths.append)
            done = _changed(file, random.choice(paths), random)
    return buffer.getvalue(), done


def _changed(file: Any, path: str, random: Random) -> str:
    """Puts something else at a path of an HDF5 file."""
    kept = file[path]
    way = random.choice(("removed", "external", "soft", "itself", "other", "attributes"))
    if way == "attributes":
        for key in list(kept.attrs):
            kept.attrs[key] = random.choice((b"", [b"a", b"a"], 7, "x" * 3000))
        return f"{path}: other attributes"
    del file[path]
    if way == "external":
        file[path] = h5py.ExternalLink("../elsewhere.h5", "/x")
    elif way == "soft":
        file[path] = h5py.SoftLink(random.choice(("/nothing", f"/{path}", "/")))
    elif way == "itself":
        file[path] = file["/"]
    elif way == "other":
        kind = random.choice(("f4", "f2", "i8", "S5", "c8", "?"))
        shape = random.choice(((), (0,), (1,), (3, 3, 16, 16), (2,) * 9, (1 << 40, 1 << 20)))
        chunks = (1,) * (len(shape) - 1) + (16,) if shape and shape[0] > 9 else None
        file.create_dataset(path, shape, kind, chunks=chunks)
        return f"{path}: {kind} of shape {shape}"
    return f"{path}: {way}"


def _document(text: bytes, random: Random) -> tuple[bytes, str]:
    """Mutates one place of a JSON document."""
    document = json.loads(text)
    places = list(_places(document))
    holder, key = random.choice(places)
    where, old = f"{key!r}", holder[key]
    way = random.choice(
        ("removed", "value", "value", "value", "part", "repeated", "deep", "called")
    )
    if way == "removed":
        del holder[key]
    elif way == "repeated" and isinstance(holder, list):
        holder[key:key] = [old] * random.choice((1, 2, 300))
    elif way == "called" and isinstance(holder, dict):
        holder[random.choice((*holder, "shape", ""))] = holder.pop(key)
    elif way == "deep":
        for _ in range(random.choice((2, 20, 250))):
            old = random.choice(([old], {"config": old}))
        holder[key] = old
    elif way == "part":
        other, name = random.choice(places)
        holder[key] = json.loads(json.dumps(other[name]))
    else:
        way = "value"
        holder[key] = random.choice(
            (*INTEGERS, *FLOATS, *WORDS, None, True, False, [], {}, [1, 1], [0], "same", "Lambda")
        )
    return json.dumps(document).encode(), f"{where}: {way}, was {str(old)[:60]}"


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document with each of its keys."""
    pending = [document]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                pending.append(holder[key])


def prototxt(data: bytes, random: Random, other: bytes) -> tuple[bytes, str]:
    """Mutates a line of a prototxt; returns the text and what was done."""
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    old, found = lines[at], _FIELD.match(lines[at])
    way = random.choice(
        ("value", "value", "value", "removed", "repeated", "moved", "from", "brace")
    )
    if way == "value" and found is not None:
        word = str(random.choice((*SMALL, *SMALL, *INTEGERS, *FLOATS, "TRAIN", "MAX", "true")))
        text = word if random.random() < 0.8 else repr(random.choice((*WORDS, "data", "a", "b")))
        lines[at] = found[1] + text.encode("utf-8", "replace")
    elif way == "removed":
        del lines[at]
    elif way == "repeated":
        lines[at:at] = [old] * random.choice((1, 2, 3000))
    elif way == "moved":
        lines.insert(random.randrange(len(lines)), lines.pop(at))
    elif way == "from":
        lines[at] = random.choice(other.split(b"\n"))
    else:
        way = "brace"
        lines[at] = random.choice(_BRACES) * random.choice((1, 1, 300))
    return b"\n".join(lines), f"line {at} {old[:40]!r}: {way}"
