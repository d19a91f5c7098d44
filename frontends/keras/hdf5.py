"""HDF5 files of strangers: only what lies in the file itself, and no more than it can hold.

Links are followed one by one, hard ones only. Arrays are views of the mapped bytes where these are
stored as they are; compressed ones are read when they are needed, from a common budget.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from dlaconv.errors import UnreadableError, UserError
from dlaconv.frontends.keras import hdf5_bytes, problems
from dlaconv.frontends.problems import too_large

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_DIMENSIONS = 32
_MOST_NAMES = 1 << 16
_MOST_TEXT = 1 << 24
_FREE = 1 << 26
_MOST_RATIO = 64
_FILTERS = {1, 2, 3}
"""Deflate, shuffle and Fletcher's checksum: what HDF5 reads without a plugin."""


@dataclass(frozen=True)
class StoredArray:
    """An array of the file, read when it is asked for.

    Attributes:
        path: where it is.
        shape: its shape.
        dtype: the type of its elements.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    _file: Hdf5File
    _dataset: Any

    def read(self) -> np.ndarray:
        """The array, in the byte order of the machine; a view of the file where that is possible.

        Raises:
            UnreadableError: if the file does not have all of it.
        """
        return self._file.array(self._dataset, self.path)


class Hdf5File:
    """One file."""

    def __init__(self, data: memoryview, file: str) -> None:
        """Opens a file.

        Args:
            data: its bytes.
            file: what messages call it.

        Raises:
            UnreadableError: if it is no HDF5 file, or is damaged.
        """
        import h5py

        self.file, self._data = file, data
        self._budget = max(_FREE, _MOST_RATIO * len(data))
        self._text_bytes: dict[str, int] = {}
        if bytes(data[: len(SIGNATURE)]) != SIGNATURE:
            self._damaged("the file is no HDF5 file")
        if why := hdf5_bytes.fault(data):
            self._damaged(why)
        if (wanted := hdf5_bytes.file_bytes(data)) > len(data):
            self._damaged(f"the file is cut off: it has {len(data)} of {wanted} bytes")
        with self._guarded("the file"):
            self._root = h5py.File(_Mapped(data), "r")

    def has(self, *path: str) -> bool:
        """True if there is a group or an array at a path, by its components."""
        return self._at(path) is not None

    def names(self, *path: str) -> list[str]:
        """The names in a group, none if there is no such group."""
        import h5py

        group = self._at(path)
        if not isinstance(group, h5py.Group):
            return []
        with self._guarded("/".join(path)):
            if len(group) > _MOST_NAMES:
                self._too_large(f"{'/'.join(path)!r} has {len(group)} members")
            return list(group)

    def stored(self, *path: str) -> StoredArray | None:
        """An array at a path, None if there is none.

        Raises:
            UnreadableError: if it is no array of numbers, or not in the file.
        """
        import h5py

        dataset, where = self._at(path), "/".join(path)
        if dataset is None:
            return None
        if not isinstance(dataset, h5py.Dataset):
            self._damaged(f"{where!r} is no array")
        with self._guarded(where):
            if dataset.is_virtual or dataset.external:
                self._unsafe(f"the values of {where!r} lie in other files")
            if dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
                self._unsafe(f"{where!r} holds {dataset.dtype}, no numbers")
            if dataset.shape is None or len(dataset.shape) > _MOST_DIMENSIONS:
                self._damaged(f"{where!r} has no shape")
            return StoredArray(where, tuple(dataset.shape), dataset.dtype, self, dataset)

    def text(self, name: str, *path: str) -> str | None:
        """An attribute that is a string, None if there is none.

        Args:
            name: the attribute.
            path: whose it is.
        """
        value = self._attribute(name, path)
        if value is None:
            return None
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError:
                self._damaged(f"the attribute {name!r} is no text")
        if not isinstance(value, str):
            self._damaged(f"the attribute {name!r} is no text")
        return value

    def texts(self, name: str, *path: str) -> list[str] | None:
        """An attribute that is a list of strings; long ones are split as Keras splits them."""
        first = self._strings(name, path)
        if first is not None:
            return first
        found: list[str] = []
        for index in itertools.count():
            part = self._strings(f"{name}{index}", path)
            if part is None:
                return found if index else None
            found += part
            if len(found) > _MOST_NAMES:
                self._too_large(f"the attribute {name!r} has more than {_MOST_NAMES} names")
        raise AssertionError

    def array(self, dataset: Any, where: str) -> np.ndarray:
        """The values of a dataset, see `StoredArray.read`."""
        with self._guarded(where):
            shape, dtype = tuple(dataset.shape), dataset.dtype
            size = math.prod(shape) * dtype.itemsize
            if size == 0:
                return np.zeros(shape, dtype.newbyteorder("="))
            offset = dataset.id.get_offset()
            if offset is not None:
                if offset < 0 or offset + size > len(self._data):
                    self._damaged(f"{where!r} is cut off")
                flat = np.frombuffer(self._data, dtype, math.prod(shape), offset)
                return self._native(flat.reshape(shape))
            self._require_readable(dataset, where, size)
            return self._native(np.asarray(dataset[()]))

    def _native(self, array: np.ndarray) -> np.ndarray:
        native = array.dtype.newbyteorder("=")
        return array if array.dtype == native else array.astype(native)

    def _require_readable(self, dataset: Any, where: str, size: int) -> None:
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if filters - _FILTERS:
            self._unsafe(f"{where!r} is compressed by HDF5 filter {min(filters - _FILTERS)}")
        if dataset.id.get_storage_size() == 0:
            self._damaged(f"the file has no values for {where!r}")
        chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
        self._budget -= max(size, chunk)
        if self._budget < 0:
            self._too_large(
                f"{where!r} would be the one that makes arrays of more than "
                f"{max(_FREE, _MOST_RATIO * len(self._data))} bytes of a file of {len(self._data)}"
            )

    def _at(self, path: Sequence[str]) -> Any:
        """What is at a path, None for nothing; every link must be a hard one."""
        import h5py

        here = self._root
        for depth, name in enumerate(path):
            if not isinstance(here, h5py.Group) or not name or name in {".", ".."} or "/" in name:
                return None
            with self._guarded("/".join(path)):
                link = here.get(name, getlink=True)
                if link is None:
                    return None
                if not isinstance(link, h5py.HardLink):
                    where = "/".join(path[: depth + 1])
                    self._unsafe(f"{where!r} is a link to somewhere else")
                here = here[name]
        return here

    def _attribute(self, name: str, path: Sequence[str], rank: int = 0) -> Any:
        import h5py

        owner = self._at(path)
        if owner is None:
            return None
        with self._guarded(f"the attribute {name!r}"):
            if name not in owner.attrs:
                return None
            described = owner.attrs.get_id(name)
            kind = h5py.check_string_dtype(described.dtype)
            shape = described.shape
            if kind is None and math.prod(shape or (0,)) == 0 and rank:
                return []  # an empty list has the type of numbers
            if kind is None or len(shape) != rank:
                self._unsafe(f"the attribute {name!r} holds {described.dtype}, no text")
            size = math.prod(shape) * (kind.length or 1)
            if kind.length is None and size <= _MOST_TEXT:
                if name not in self._text_bytes:
                    self._text_bytes[name] = hdf5_bytes.text_bytes(self._data, name)
                size = self._text_bytes[name]
            if size > _MOST_TEXT:
                self._too_large(f"the attribute {name!r} has {size} bytes; at most {_MOST_TEXT}")
            value = owner.attrs[name]
            return [*value] if rank else value

    def _strings(self, name: str, path: Sequence[str]) -> list[str] | None:
        values = self._attribute(name, path, 1)
        if values is None:
            return None
        if len(values) > _MOST_NAMES:
            self._too_large(f"the attribute {name!r} has {len(values)} names")
        try:
            found = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
        except UnicodeDecodeError:
            self._damaged(f"the attribute {name!r} is no text")
        if not all(map(is_text, found)):
            self._damaged(f"the attribute {name!r} is no text")
        return found

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Whatever HDF5 raises for a damaged file is one finding."""
        try:
            yield
        except (UserError, MemoryError):
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._damaged(f"{what} cannot be read: {lines[0]}")

    def _damaged(self, why: str) -> NoReturn:
        raise UnreadableError(problems.not_keras(self.file, why))

    def _unsafe(self, what: str) -> NoReturn:
        raise UnreadableError(problems.unsafe(self.file, what))

    def _too_large(self, why: str) -> NoReturn:
        raise UnreadableError(too_large(self.file, why))


def is_text(string: str) -> bool:
    """True if a string can be written: damaged files have halves of characters."""
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Mapped(io.RawIOBase):
    """Mapped bytes as a file that can be read, for HDF5."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        block = self._data[self._at : self._at + len(buffer)]
        buffer[: len(block)] = block
        self._at += len(block)
        return len(block)
