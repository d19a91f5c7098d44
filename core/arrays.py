"""Arrays in ``.npz`` files: read with care, matched to the inputs of a network."""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

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
    kind = "it is no .npz file (a zip of .npy arrays, as numpy.savez writes)"
    with readable(path, kind), zipfile.ZipFile(path) as archive:
        return {
            name: _read_member(archive, member)
            for name, member in array_members(archive, limit).items()
        }


def array_members(archive: zipfile.ZipFile, limit: int = LARGEST) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an open ``.npz`` by name.

    Raises:
        ValueError: if there are none, or they take more than ``limit`` bytes.
    """
    members = [item for item in archive.infolist() if not item.is_dir()]
    total = sum(member.file_size for member in members)
    if total > limit:
        raise ValueError(f"its arrays take {total:,} bytes; the limit is {limit:,}")
    if not members:
        raise ValueError("it holds no array")
    return {member.filename.removesuffix(_MEMBER_SUFFIX): member for member in members}


@contextlib.contextmanager
def readable(path: Path, otherwise: str) -> Iterator[None]:
    """Turns what a damaged file of arrays leads to into a diagnostic.

    Args:
        path: the file.
        otherwise: the reason to give where it is no such file at all.

    Raises:
        UnreadableError: naming the file and the reason.
    """
    try:
        yield
    except (zipfile.BadZipFile, NotImplementedError):
        reason = otherwise
    except (ValueError, EOFError, OSError, RuntimeError, zlib.error) as error:
        reason = str(error) or type(error).__name__
    else:
        return
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
        array_header(file, member.filename, member.file_size)
    with archive.open(member) as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array


def array_header(
    file: IO[bytes], name: str, size: int
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Reads the header of an ``.npy``: shape, whether it is stored column by column, and type.

    Args:
        file: at its start; afterwards where the numbers begin.
        name: what to call it.
        size: its length in bytes.

    Raises:
        ValueError: if it does not hold plain numbers, as many as it says.
    """
    version = np.lib.format.read_magic(file)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read_header(file)
    called = f"array {name!r}" if name else "the array"
    if dtype.kind not in "biuf":
        raise ValueError(f"{called} has dtype {dtype}, not plain numbers")
    if file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{called} is not as long as its header says")
    return shape, fortran, dtype


Shape = Sequence[int | None]
"""Sizes with the batch first; None where unknown."""


def match_inputs(
    arrays: Mapping[str, Any], shapes: Mapping[str, Shape | None], file: str = ""
) -> dict[str, np.ndarray]:
    """Finds the array of each graph input, as stacked samples.

    A network with one input takes the only array of any name; an input that no array is named
    after takes the only one whose shape fits. An array without the batch axis is one sample.

    Args:
        arrays: arrays by name, as `read_npz` returns them.
        shapes: the graph inputs with their shapes, None where the rank is unknown.
        file: where the arrays come from, for the message.

    Returns:
        One array ``[samples, ...]`` per graph input, all with equally many samples.

    Raises:
        UsageError: if names or shapes do not fit; every misfit is named.
    """
    given = {name: np.asarray(array) for name, array in arrays.items()}
    problems = Diagnostics()
    places = match_shapes({name: array.shape for name, array in given.items()}, shapes, file)
    found = {
        name: given[key][None] if single else given[key] for name, (key, single) in places.items()
    }
    for name, array in found.items():
        if not_finite(array):
            problems.error(
                "DLA433",
                "input-array",
                f"array {name!r} holds values that are not finite in 32 bits",
                location=Location(file=file),
            )
    if problems.errors:
        raise UsageError(problems)
    return found


def match_shapes(
    known: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Shape | None], file: str = ""
) -> dict[str, tuple[str, bool]]:
    """Finds the array of each graph input by names and shapes alone; see `match_inputs`.

    Args:
        known: shapes of the arrays by name.
        shapes: the graph inputs with their shapes, None where the rank is unknown.
        file: where the arrays come from, for the message.

    Returns:
        By graph input the name of its array, and whether that is one sample without a batch.

    Raises:
        UsageError: if names or shapes do not fit; every misfit is named.
    """
    found: dict[str, tuple[str, bool]] = {}
    counts: dict[str, int] = {}
    problems = Diagnostics()
    place = Location(file=file)
    alone = next(iter(known)) if len(shapes) == 1 and len(known) == 1 else None
    fitting = _fitting(known, shapes)
    for name, shape in shapes.items():
        key = name if name in known else alone or fitting.get(name, name)
        if key not in known:
            problems.error(
                "DLA432",
                "input-missing",
                f"there is no array {name!r} for the graph input, only {', '.join(known)}",
                location=place,
                help=f"name the arrays after the inputs ({', '.join(shapes)}): "
                f"numpy.savez(file, **{{{name!r}: array, ...}})",
            )
            continue
        sizes = known[key]
        single = shape is not None and _fits(sizes, shape[1:])
        if problem := _shape_problem((1, *sizes) if single else sizes, shape):
            problems.error("DLA433", "input-array", f"array {name!r} {problem}", location=place)
            continue
        found[name] = key, single
        counts[name] = 1 if single else sizes[0]
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        problems.error(
            "DLA434", "sample-count", f"inputs differ in their samples ({listed})", location=place
        )
    if problems.errors:
        raise UsageError(problems)
    return found


def _fitting(
    known: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Shape | None]
) -> dict[str, str]:
    """For inputs that no array is named after, the only array whose shape fits."""
    found: dict[str, str] = {}
    for name, shape in shapes.items():
        keys = [
            key
            for key, sizes in known.items()
            if shape is not None and key not in shapes and _fits(sizes[1:], shape[1:])
        ]
        if name not in known and len(keys) == 1:
            found[name] = keys[0]
    claims = Counter(found.values())
    return {name: key for name, key in found.items() if claims[key] == 1}


def not_finite(array: np.ndarray) -> bool:
    """True if a value has no finite float32."""
    return array.dtype.kind == "f" and not (np.abs(array) <= np.finfo(np.float32).max).all()


def _shape_problem(sizes: Sequence[int], shape: Shape | None) -> str:
    if shape is not None and not (len(sizes) == len(shape) and _fits(sizes[1:], shape[1:])):
        wanted = ", ".join("?" if size is None else str(size) for size in shape[1:])
        return f"has shape {list(sizes)}, the graph input takes [samples, {wanted}]"
    if not sizes or math.prod(sizes) == 0:
        return "holds no sample"
    return ""


def _fits(sizes: Sequence[int], wanted: Shape) -> bool:
    return len(sizes) == len(wanted) and all(
        known is None or size == known for size, known in zip(sizes, wanted, strict=True)
    )
