"""Samples out of any Python iterable: a list, a generator, a loader of a framework."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from dlaconv.arrays import LARGEST, Shape, match_inputs
from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.ir.calibration.dataset import Dataset, Kept
from dlaconv.ir.execution import Arrays


class Spooled(Dataset):
    """Samples of fixed shapes that lie in a temporary file, which no one else can see."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Begins without samples.

        Args:
            shapes: shape of each graph input, batch of one included.
        """
        self.names = tuple(shapes)
        self._shapes = dict(shapes)
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as we
        self._count = 0

    def append(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Adds a sample."""
        for name in self.names:
            self._file.write(np.ascontiguousarray(feeds[name], np.float32).data)
        self._count += 1

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return self._file.tell()

    def __len__(self) -> int:
        return self._count

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`."""
        place = 0
        for _ in range(self._count):
            self._file.seek(place)
            feeds = {}
            for name, shape in self._shapes.items():
                content = self._file.read(4 * int(np.prod(shape)))
                feeds[name] = np.frombuffer(content, np.float32).reshape(shape)
            place = self._file.tell()
            yield feeds


def spooled(items: Iterable[Any], shapes: Mapping[str, Shape | None]) -> Dataset:
    """Goes through an iterable once and keeps its samples, in a file if they are many.

    An item is an array for a network with one input, or a mapping from graph inputs to arrays;
    with the batch axis it may hold several samples.

    Args:
        items: the samples.
        shapes: the graph inputs with their shapes, None where the rank is unknown.

    Raises:
        UsageError: if an item does not fit, there are none, or they do not end.
    """
    found: Spooled | None = None
    for index, item in enumerate(items):
        arrays = match_inputs(_named(item, shapes, index), shapes, f"item {index}")
        first = next(iter(arrays.values()))
        if found is None:
            found = Spooled({name: (1, *array.shape[1:]) for name, array in arrays.items()})
        for row in range(len(first)):
            feeds = {name: array[row : row + 1] for name, array in arrays.items()}
            if any(found._shapes[name] != array.shape for name, array in feeds.items()):
                raise _unusable(f"item {index} has another shape than the first one")
            found.append(feeds)
        if found.size > LARGEST:
            raise _unusable(f"it gives more than {LARGEST:,} bytes, and may not end at all")
    if found is None:
        raise _unusable("it gives no sample")
    return Kept(found)


def _named(item: Any, shapes: Mapping[str, Shape | None], index: int) -> dict[str, np.ndarray]:
    given = item if isinstance(item, Mapping) else None
    if given is None:
        if len(shapes) != 1:
            names = ", ".join(shapes)
            raise _unusable(f"item {index} is no mapping, and the graph inputs are {names}")
        given = {next(iter(shapes)): item}
    arrays = {}
    for name, value in given.items():
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise _unusable(f"{name!r} of item {index} is no array: {error}") from error
        if array.dtype.kind not in "biuf":
            raise _unusable(f"{name!r} of item {index} is no array of numbers ({array.dtype})")
        arrays[str(name)] = array
    return arrays


def _unusable(why: str) -> UsageError:
    return UsageError(
        Diagnostic(
            "DLA335",
            "calibration-items",
            f"the iterable given for calibration cannot be used: {why}",
            help="yield arrays, or mappings from graph inputs to arrays, and end",
        )
    )
