"""Stacked samples in ``.npz`` and ``.npy`` files, read sample by sample."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NoReturn

import numpy as np

from dlaconv.arrays import Shape, array_header, array_members, match_shapes, not_finite, readable
from dlaconv.diagnostics import Diagnostics, Location
from dlaconv.errors import UsageError
from dlaconv.files import require_file
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.execution import Arrays

_MAGIC = b"\x93NUMPY"
_NEITHER = "it is neither an .npz (a zip of .npy arrays, as numpy.savez writes) nor an .npy"


@dataclass(frozen=True)
class _Array:
    """One array of a file.

    Attributes:
        member: its name in the archive, "" in a ``.npy``.
        shape: samples first.
        dtype: plain numbers.
        fortran: True if the samples do not lie one behind the other.
        offset: where its numbers begin.
    """

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    offset: int


class ArrayFiles(Dataset):
    """The arrays of one file, one per graph input, as float32 samples.

    Memory is that of one sample, unless an array is stored column by column.
    """

    def __init__(self, path: Path, shapes: Mapping[str, Shape | None]) -> None:
        """Reads the headers.

        Args:
            path: an ``.npz``, or an ``.npy`` for a network with one input.
            shapes: the graph inputs with their shapes, None where the rank is unknown.

        Raises:
            UnreadableError: if it is no file of plain numbers.
            UsageError: if names or shapes do not fit.
        """
        self._path = require_file(path)
        with readable(path, _NEITHER):
            arrays = _headers(path)
        known = {name: array.shape for name, array in arrays.items()}
        places = match_shapes(known, shapes, str(path))
        self._arrays = {
            name: replace(arrays[key], shape=(1, *arrays[key].shape)) if single else arrays[key]
            for name, (key, single) in places.items()
        }
        self.names = tuple(places)

    def __len__(self) -> int:
        return min((array.shape[0] for array in self._arrays.values()), default=0)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`.

        Raises:
            UnreadableError: if the file is damaged.
            UsageError: if a value is not finite.
        """
        with contextlib.ExitStack() as stack:
            with readable(self._path, _NEITHER):
                streams = {
                    name: _values(_open(self._path, array, stack), array)
                    for name, array in self._arrays.items()
                }
            for _ in range(len(self)):
                with readable(self._path, _NEITHER):
                    feeds = {name: next(stream) for name, stream in streams.items()}
                if bad := [name for name, array in feeds.items() if not_finite(array)]:
                    _refuse(bad, self._path)
                with np.errstate(over="ignore"):
                    yield {name: array.astype(np.float32) for name, array in feeds.items()}


def _headers(path: Path) -> dict[str, _Array]:
    """The arrays of a file by name."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) == _MAGIC:
            file.seek(0)
            return {path.stem: _header("", file, path.stat().st_size)}
    with zipfile.ZipFile(path) as archive:
        found = {}
        for name, member in array_members(archive).items():
            with archive.open(member) as content:
                found[name] = _header(member.filename, content, member.file_size)
        return found


def _header(name: str, file: IO[bytes], size: int) -> _Array:
    shape, fortran, dtype = array_header(file, name, size)
    return _Array(name, shape, dtype, fortran and len(shape) > 1, file.tell())


def _open(path: Path, array: _Array, stack: contextlib.ExitStack) -> IO[bytes]:
    if not array.member:
        return stack.enter_context(path.open("rb"))
    archive = stack.enter_context(zipfile.ZipFile(path))
    return stack.enter_context(archive.open(array.member))


def _values(file: IO[bytes], array: _Array) -> Iterator[np.ndarray]:
    """The samples of an array with a batch of one."""
    file.read(array.offset)
    one = (1, *array.shape[1:])
    size = array.dtype.itemsize * int(np.prod(one))
    if array.fortran:
        content = file.read(size * array.shape[0])
        shape = array.shape if array.shape[0] > 1 else array.shape[1:]
        whole = np.frombuffer(content, array.dtype).reshape(shape, order="F").reshape(array.shape)
        yield from (whole[index : index + 1] for index in range(len(whole)))
        return
    for _ in range(array.shape[0]):
        content = file.read(size)
        if len(content) < size:
            raise EOFError("it ends within its numbers")
        yield np.frombuffer(content, array.dtype).reshape(one)


def _refuse(names: list[str], path: Path) -> NoReturn:
    problems = Diagnostics()
    for name in names:
        problems.error(
            "DLA433",
            "input-array",
            f"array {name!r} holds values that are not finite in 32 bits",
            location=Location(file=str(path)),
        )
    raise UsageError(problems)
