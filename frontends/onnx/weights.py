"""Weights as views of mapped files: checked against their shape, read when they are used."""

from __future__ import annotations

import math
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic
from dlaconv.frontends.onnx import problems
from dlaconv.frontends.onnx.wire import Span

if TYPE_CHECKING:
    import onnx

_MOST_DIMENSIONS = 32
_MOST_SHARING = 4
_TYPED_FIELDS = {
    **dict.fromkeys(("FLOAT", "COMPLEX64"), "float_data"),
    **dict.fromkeys(("DOUBLE", "COMPLEX128"), "double_data"),
    **dict.fromkeys(("UINT32", "UINT64"), "uint64_data"),
    "INT64": "int64_data",
    "STRING": "string_data",
}


class Weights:
    """Checks the tensors of one model and gives the large ones a view of the file they lie in."""

    def __init__(self, path: Path, data: memoryview) -> None:
        """Prepares for one file.

        Args:
            path: the model's file.
            data: its mapped bytes.
        """
        self.file = str(path)
        self.found: list[Diagnostic] = []
        self._folder = path.parent
        self._maps: dict[str, memoryview] = {}
        self._data = data
        self._claimed = 0

    @property
    def files(self) -> list[Path]:
        """The files of external data that are mapped."""
        return [Path(path) for path in self._maps]

    def check(self, tensor: onnx.TensorProto, span: Span | None = None) -> ir.TensorProtocol | None:
        """Checks one tensor; findings are added to ``found``.

        Args:
            tensor: the tensor as parsed.
            span: where its data lies in the model's file, if it was left out when parsing.

        Returns:
            The tensor on the mapped file, None if its data is in ``tensor`` itself.
        """
        problem, count, dtype = _described(tensor)
        if dtype is None:
            self._invalid(tensor, problem)
            return None
        text = dtype is ir.DataType.STRING
        bits = 8 if text else dtype.bitwidth
        size = math.ceil(count * bits / 8)
        if tensor.data_location == 1 and not text:
            return self._external(tensor, dtype, size)
        there = len(tensor.raw_data) if span is None else span.end - span.begin
        if span is not None or tensor.HasField("raw_data"):
            if there != size or text:
                self._invalid(tensor, f"{_shape(tensor)} needs {size} bytes, {there} are there")
            elif span is not None:
                return _view(tensor, dtype, self._data, span.begin)
            return None
        field = _TYPED_FIELDS.get(dtype.name, "int32_data")
        needed = size if bits < 8 else count
        if dtype.name.startswith("COMPLEX"):
            needed *= 2
        if (values := len(getattr(tensor, field))) != needed:
            self._invalid(tensor, f"{_shape(tensor)} needs {needed} values, {values} are there")
        return None

    def _invalid(self, tensor: onnx.TensorProto, why: str) -> None:
        self.found.append(problems.invalid_tensor(self.file, tensor.name, why))

    def _external(
        self, tensor: onnx.TensorProto, dtype: ir.DataType, size: int
    ) -> ir.TensorProtocol | None:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        offset = _number(entries.get("offset", "0"))
        length = _number(entries.get("length", str(size)))
        try:
            data = self._external_file(location)
        except ValueError as error:
            self._outside(tensor, str(error))
            return None
        if offset is None or length is None:
            self._invalid(tensor, f"offset or length of its data in {location!r} is no number")
        elif length != size:
            self._invalid(tensor, f"{_shape(tensor)} needs {size} bytes, {length} are declared")
        elif data is None:
            self.found.append(
                problems.external_data(
                    self.file,
                    tensor.name,
                    f"its data file {location!r} is missing or cannot be read",
                    f"put {location!r} beside the .onnx file, as the exporter wrote it",
                )
            )
        elif offset + size > len(data):
            self.found.append(
                problems.external_data(
                    self.file,
                    tensor.name,
                    f"its data ends at byte {offset + size} of {location!r}, "
                    f"which has {len(data)} bytes",
                    f"copy {location!r} again: it is cut off or belongs to another export",
                )
            )
        else:
            self._claimed += size
            return _view(tensor, dtype, data, offset)
        return None

    @property
    def bomb(self) -> Diagnostic | None:
        """A finding if tensors claim the same external bytes over and over."""
        there = sum(len(data) for data in self._maps.values())
        if self._claimed <= _MOST_SHARING * there:
            return None
        return problems.too_large(
            self.file, f"its tensors claim {self._claimed} bytes of data files of {there} bytes"
        )

    def _outside(self, tensor: onnx.TensorProto, why: str) -> None:
        self.found.append(
            problems.external_data(
                self.file,
                tensor.name,
                why,
                "weights are only read from the model's own folder; save the model with its "
                "data beside it",
            )
        )

    def _external_file(self, location: str) -> memoryview | None:
        """The bytes of a data file, None if it cannot be read.

        Raises:
            ValueError: if it lies outside the model's folder.
        """
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location:
            raise ValueError("it says that its data is external, but not where")
        if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
            raise ValueError(f"its data {location!r} lies outside the model's folder")
        path = os.path.realpath(self._folder / location)
        folder = os.path.realpath(self._folder)
        if os.path.commonpath([path, folder]) != folder:
            raise ValueError(f"its data {location!r} is a link out of the model's folder")
        if path not in self._maps:
            data = mapped(Path(path))
            if data is None:
                return None
            self._maps[path] = data
        return self._maps[path]


def mapped(path: Path) -> memoryview | None:
    """The bytes of a regular file, mapped; None if there is no such file or it cannot be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError:
        return None


def _described(tensor: onnx.TensorProto) -> tuple[str, int, ir.DataType | None]:
    """What is wrong with shape or type, the number of elements, the type (None if wrong)."""
    if len(tensor.dims) > _MOST_DIMENSIONS:
        return f"{len(tensor.dims)} dimensions", 0, None
    if any(dim < 0 for dim in tensor.dims):
        return f"shape {list(tensor.dims)} has a negative dimension", 0, None
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        return f"unknown element type {tensor.data_type}", 0, None
    if dtype is ir.DataType.UNDEFINED:
        return "no element type", 0, None
    if tensor.HasField("segment"):
        return "stored in segments", 0, None
    return "", math.prod(tensor.dims), dtype


def _shape(tensor: onnx.TensorProto) -> str:
    return f"shape {list(tensor.dims)}"


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _view(
    tensor: onnx.TensorProto, dtype: ir.DataType, data: memoryview, offset: int
) -> ir.TensorProtocol | None:
    if dtype.bitwidth < 8:  # packed: onnx_ir unpacks it from the message
        size = math.ceil(math.prod(tensor.dims) * dtype.bitwidth / 8)
        tensor.raw_data = bytes(data[offset : offset + size])
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        return None
    shape = tuple(tensor.dims)
    array = np.frombuffer(data, dtype.numpy(), count=math.prod(shape), offset=offset)
    return ir.Tensor(array.reshape(shape), dtype, name=tensor.name)
