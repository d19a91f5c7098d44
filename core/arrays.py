"""Arrays in ``.npz`` files: read with care, matched to the inputs of a network."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlaconv.diagnostics import Diagnostic, Diagnostics, Location
from dlaconv.errors import UnreadableError, UsageError
from dlaconv.files import replacing, require_file

LARGEST = 4 << 30
"""Bytes that the arrays of one file may take together."""

_MEMBER_SUFFIX = ".npy"


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays to a compressed ``.npz``, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_npz(path: Path, limit: int = LARGEST) -> dict[str, np.ndarray]:
    """Reads the arrays of an ``.npz`` file that may come from anywhere.

    Nothing is unpickled, and every size is checked before memory is taken.

    Args:
        path: the file.
        limit: bytes that all arrays together may take.

    Raises:
        UnreadableError: if it is no ``.npz`` of plain numbers, or too large.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [item for item in archive.infolist() if not item.is_dir()]
            total = sum(member.file_size for member in members)
            if total > limit:
                raise ValueError(f"its arrays take {total:,} bytes; the limit is {limit:,}")
            if not members:
                raise ValueError("it holds no array")
            return {
                member.filename.removesuffix(_MEMBER_SUFFIX): _read_member(archive, member)
                for member in members
            }
    except (zipfile.BadZipFile, NotImplementedError):
        reason = "it is no .npz file (a zip of .npy arrays, as numpy.savez writes)"
    except (ValueError, EOFError, OSError, RuntimeError, zlib.error) as error:
        reason = str(error) or type(error).__name__
    raise UnreadableError(
        Diagnostic(
            "DLA431",
            "unreadable-arrays",
            f"{path.name} cannot be read: {reason}",
            location=Location(file=str(path)),
            help='write it with numpy.savez("x.npz", input=array)',
        )
    )


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        if dtype.kind not in "biuf":
            raise ValueError(f"array {member.filename!r} has dtype {dtype}, not plain numbers")
        count = 1
        for size in shape:
            count *= size
        if file.tell() + count * dtype.itemsize != member.file_size:
            raise ValueError(f"array {member.filename!r} is not as long as its header says")
    with archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


Shape = Sequence[int | None]
"""Sizes with the batch first; None where unknown."""


def match_inputs(
    arrays: Mapping[str, Any], shapes: Mapping[str, Shape | None], file: str = ""
) -> dict[str, np.ndarray]:
    """Finds the array of each graph input, as stacked samples.

    A network with one input takes the only array of any name. An array without the batch axis is
    one sample.

    Args:
        arrays: arrays by name, as `read_npz` returns them.
        shapes: the graph inputs with their shapes, None where the rank is unknown.
        file: where the arrays come from, for the message.

    Returns:
        One array ``[samples, ...]`` per graph input, all with equally many samples.

    Raises:
        UsageError: if names or shapes do not fit; every misfit is named.
    """
    found: dict[str, np.ndarray] = {}
    problems = Diagnostics()
    place = Location(file=file)
    if len(shapes) == 1 and len(arrays) == 1:
        arrays = {next(iter(shapes)): next(iter(arrays.values()))}
    for name, shape in shapes.items():
        if name not in arrays:
            problems.error(
                "DLA432",
                "input-missing",
                f"there is no array {name!r} for the graph input, only {', '.join(arrays)}",
                location=place,
                help=f"the inputs are {', '.join(shapes)}",
            )
            continue
        array = np.asarray(arrays[name])
        if shape is not None and _fits(array.shape, shape[1:]):
            array = array[None]
        if problem := _array_problem(array, shape):
            problems.error("DLA433", "input-array", f"array {name!r} {problem}", location=place)
            continue
        found[name] = array
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        problems.error(
            "DLA434", "sample-count", f"inputs differ in their samples ({listed})", location=place
        )
    if problems.errors:
        raise UsageError(problems)
    return found


def _array_problem(array: np.ndarray, shape: Shape | None) -> str:
    if shape is not None and not (array.ndim == len(shape) and _fits(array.shape[1:], shape[1:])):
        wanted = ", ".join("?" if size is None else str(size) for size in shape[1:])
        return f"has shape {list(array.shape)}, the graph input takes [samples, {wanted}]"
    if array.size == 0 or array.ndim == 0:
        return "holds no sample"
    if array.dtype.kind == "f" and not (np.abs(array) <= np.finfo(np.float32).max).all():
        return "holds values that are not finite in 32 bits"
    return ""


def _fits(sizes: Sequence[int], wanted: Shape) -> bool:
    return len(sizes) == len(wanted) and all(
        known is None or size == known for size, known in zip(sizes, wanted, strict=True)
    )
