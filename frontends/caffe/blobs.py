"""Weights of a caffemodel, by name of the layer, as views of the mapped file.

Only names and blobs are taken from the binary: its other fields have numbers that forks use
differently. A blob's floats are packed, so that the bytes of the field are the array; older writers
gave each float a tag of its own, which is read by copying.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlaconv.errors import UnreadableError
from dlaconv.frontends.caffe import problems
from dlaconv.frontends.caffe.schema import caffe_schema
from dlaconv.frontends.onnx.weights import mapped
from dlaconv.frontends.onnx.wire import Field, WireError, fields
from dlaconv.frontends.problems import too_large

_MOST_LAYERS = 1 << 16
_MOST_BLOBS = 1 << 16
_MOST_AXES = 32
_HALF = 2
_FOREIGN = (
    (b"\x89HDF\r\n", "an HDF5 file: save it with snapshot_format BINARYPROTO"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the real file with git lfs pull"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
)
_HEAD = 64
_MOST_PIECES = 1 << 12
_MOST_ROWS = 1 << 20
_LEGACY = ("num", "channels", "height", "width")
_NUMBERS = {"data": "<f4", "diff": "<f4", "double_data": "<f8", "raw_data": "u1"}
_BLOB = caffe_schema().messages["BlobProto"]


@dataclass
class Blob:
    """One array of weights.

    Attributes:
        shape: as stored; a legacy blob has four dimensions.
        legacy: True if ``num``, ``channels``, ``height`` and ``width`` give the shape.
        array: its values, flat; of the file, in float32 or what the file has.
    """

    shape: tuple[int, ...]
    legacy: bool
    array: np.ndarray

    def fits(self, wanted: tuple[int, ...]) -> bool:
        """True if Caffe takes the blob for one of a shape: a legacy one may begin with ones."""
        if self.legacy:
            missing = 4 - len(wanted)
            return missing >= 0 and self.shape == (1,) * missing + wanted
        return self.shape == wanted

    def shaped(self, shape: tuple[int, ...]) -> np.ndarray:
        """Its values in a shape of as many elements."""
        return self.array.reshape(shape)


@dataclass
class StoredLayer:
    """A layer of a caffemodel.

    Attributes:
        name: its name.
        blobs: where its blobs lie in the file.
    """

    name: str = ""
    blobs: list[Field] = field(default_factory=list)


class Weights:
    """The layers of a caffemodel."""

    def __init__(self, path: Path) -> None:
        """Maps a file and finds its layers.

        Raises:
            UnreadableError: if it is no caffemodel.
        """
        self.file = str(path)
        data = mapped(path)
        if data is None:
            why = "the file cannot be read" if path.exists() else "there is no such file"
            why = "this is a folder" if path.is_dir() else why
            raise UnreadableError(problems.unreadable(self.file, f"{self.file}: {why}"))
        for magic, kind in _FOREIGN:
            if bytes(data[: len(magic)]) == magic:
                raise self._unreadable(f"this is {kind}")
        self._data = data
        self.layers: dict[str, StoredLayer] = {}
        self._cache: dict[Field, Blob] = {}
        try:
            self._scan()
        except WireError as error:
            if _is_text(bytes(data[:_HEAD])):
                raise self._unreadable("this is a text file") from error
            raise self._unreadable(f"{error} of {len(data)}") from error
        if not self.layers:
            raise self._unreadable("it holds no layers")

    def blobs(self, layer: str) -> list[Blob]:
        """The blobs of a layer; none if the file has no layer of the name.

        Raises:
            UnreadableError: if one is damaged.
        """
        stored = self.layers.get(layer)
        try:
            return [self._blob(item, layer) for item in stored.blobs] if stored else []
        except WireError as error:
            raise self._unreadable(f"layer {layer!r}: {error}") from error

    def _unreadable(self, why: str) -> UnreadableError:
        return UnreadableError(problems.not_weights(self.file, why))

    def _scan(self) -> None:
        """Finds the layers, of all versions; of one name the last counts, as in Caffe."""
        number = caffe_schema().number
        new, old = number("NetParameter", "layer"), number("NetParameter", "layers")
        for count, item in enumerate(fields(self._data, 0, len(self._data))):
            if count > 2 * _MOST_LAYERS:
                raise UnreadableError(too_large(self.file, f"{count} fields"))
            if item.number not in {new, old} or not item.is_message:
                continue
            kind = "LayerParameter" if item.number == new else "V1LayerParameter"
            layer = StoredLayer()
            self._read_layer(item, kind, layer)
            self.layers[layer.name] = layer

    def _read_layer(self, item: Field, kind: str, layer: StoredLayer) -> None:
        number = caffe_schema().number
        name, blobs = number(kind, "name"), number(kind, "blobs")
        inner = number(kind, "layer") if kind == "V1LayerParameter" else 0
        for part in fields(self._data, item.begin, item.end):
            if not part.is_message:
                continue
            if part.number == name:
                layer.name = bytes(self._data[part.begin : part.end]).decode("utf-8", "replace")
            elif part.number == blobs:
                layer.blobs.append(part)
                if len(layer.blobs) > _MOST_BLOBS:
                    raise UnreadableError(too_large(self.file, "a layer's blobs"))
            elif part.number == inner:
                self._read_layer(part, "V0LayerParameter", layer)

    def _blob(self, item: Field, layer: str) -> Blob:
        if item not in self._cache:
            self._cache[item] = self._parse(item, layer)
        return self._cache[item]

    def _parse(self, item: Field, layer: str) -> Blob:
        names = {kind.number: name for name, kind in _BLOB.fields.items()}
        legacy: dict[str, int] = {}
        shape: tuple[int, ...] | None = None
        chunks: dict[str, list[np.ndarray]] = {}
        half, pieces, position = False, 0, item.begin
        while position < item.end:
            part = next(fields(self._data, position, item.end))
            position = part.end
            name = names.get(part.number, "")
            if name in _LEGACY:
                legacy[name] = self._varint(part)
            elif name == "shape" and part.is_message:
                shape = self._dims(part)
            elif name == "raw_data_type":
                half = self._varint(part) == _HALF
            elif name in _NUMBERS:
                numbers, position = self._numbers(part, item.end, name, layer)
                chunks.setdefault(name, []).append(numbers)
                pieces += 1
                if pieces > _MOST_PIECES:
                    raise UnreadableError(too_large(self.file, "a blob in pieces"))
        if shape is None:
            shape = tuple(legacy.get(name, 0) for name in _LEGACY) if legacy else ()
        array = self._values(chunks, half=half, layer=layer)
        return self._checked(Blob(shape, bool(legacy), array), layer, with_diff="diff" in chunks)

    def _checked(self, blob: Blob, layer: str, *, with_diff: bool) -> Blob:
        if any(size < 0 for size in blob.shape) or len(blob.shape) > _MOST_AXES:
            raise self._unreadable(f"layer {layer!r} has a blob of shape {list(blob.shape)}")
        count = math.prod(blob.shape)
        if count != blob.array.size:
            why = f"a blob of shape {list(blob.shape)} with {blob.array.size} values"
            if blob.array.size == 0 and with_diff:
                why += ": only its gradients are stored"
            raise self._unreadable(f"layer {layer!r} has {why}")
        return blob

    def _values(self, chunks: dict[str, list[np.ndarray]], *, half: bool, layer: str) -> np.ndarray:
        """The numbers of a blob; doubles go before floats, as in Caffe."""
        for name in ("double_data", "data"):
            if parts := chunks.get(name):
                whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
                return whole.astype(np.float32) if name == "double_data" else whole
        if raw := chunks.get("raw_data"):
            if not half:
                raise self._unreadable(f"layer {layer!r} has raw data of a type other than FLOAT16")
            return np.concatenate(raw).view("<f2").astype(np.float32)
        return np.zeros(0, np.float32)

    def _numbers(self, part: Field, end: int, name: str, layer: str) -> tuple[np.ndarray, int]:
        """The numbers of a field, or of a run of unpacked fields, and where they end."""
        dtype = np.dtype(_NUMBERS[name])
        size = part.end - part.begin
        if part.is_message:
            if size % (2 if name == "raw_data" else dtype.itemsize):
                raise self._unreadable(f"layer {layer!r}: {size} bytes of {name} are damaged")
            return np.frombuffer(self._data, dtype, size // dtype.itemsize, part.begin), part.end
        row = part.end - part.start
        if size != dtype.itemsize or row != size + 1:
            raise WireError(f"{name} is no number at byte {part.start}")
        count = min((end - part.start) // row, _MOST_ROWS)
        table = np.frombuffer(self._data, np.uint8, count * row, part.start).reshape(count, row)
        other = np.flatnonzero(table[:, 0] != self._data[part.start])
        count = int(other[0]) if other.size else count
        numbers = np.ascontiguousarray(table[:count, 1:]).view(dtype)[:, 0]
        return numbers, part.start + count * row

    def _dims(self, part: Field) -> tuple[int, ...]:
        dims: list[int] = []
        for item in fields(self._data, part.begin, part.end):
            if item.is_message:
                position = item.begin
                while position < item.end:
                    value, position = _varint(self._data, position, item.end)
                    dims.append(value)
                    if len(dims) > _MOST_AXES:
                        raise WireError("too many dimensions")
            else:
                dims.append(self._varint(item))
        return tuple(dims)

    def _varint(self, item: Field) -> int:
        if item.is_message:
            raise WireError(f"text where a number should be, at byte {item.begin}")
        return _varint(self._data, item.begin, item.end)[0]


def _is_text(head: bytes) -> bool:
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in head)


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value - (1 << 64) if value >> 63 else value), position
        shift += 7
        if shift > 63:
            break
    raise WireError(f"a damaged number at byte {position}")
