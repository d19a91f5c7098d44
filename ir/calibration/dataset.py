"""Samples of a network's inputs, one at a time: memory does not grow with their number."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import onnx_ir as ir

from dlaconv.ir.execution import Arrays, Executor

_LOG = logging.getLogger(__name__)
_KEPT_BYTES = 1 << 26
"""Memory for samples that are not to be made again; more than that is made again each time."""


class Dataset(ABC):
    """Samples for the inputs of a network, which can be gone through again and again.

    A sample is a feed by graph input: arrays with a batch of one.
    """

    names: tuple[str, ...]
    """The graph inputs that have values."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def samples(self) -> Iterator[Arrays]:
        """The samples, always in the same order and with the same values."""

    def __iter__(self) -> Iterator[Arrays]:
        count = len(self)
        for index, feeds in enumerate(self.samples()):
            _LOG.info("sample %d of %d", index + 1, count)
            yield feeds

    def first(self, count: int) -> Dataset:
        """The first samples, as many as there are."""
        return self if count >= len(self) else _First(self, count)

    def part(self, first: int, of: int) -> Dataset:
        """Every so many-th sample, from ``first`` on."""
        return _Part(self, first, of)

    def digest(self) -> str:
        """A hash of every value, which tells data sets apart wherever they come from."""
        digest = hashlib.blake2b(digest_size=20)
        for feeds in self.samples():
            for name in self.names:
                array = np.ascontiguousarray(feeds[name])
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(array.data)
        return digest.hexdigest()


class Stacked(Dataset):
    """Samples in arrays ``[N, ...]`` by graph input, in memory or memory-mapped."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)
        self.names = tuple(arrays)

    def __len__(self) -> int:
        return min((len(array) for array in self.arrays.values()), default=0)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`."""
        for index in range(len(self)):
            yield {name: array[index : index + 1] for name, array in self.arrays.items()}


class Computed(Dataset):
    """Samples with further values, which a network computes of them each time they are read."""

    def __init__(self, model: ir.Model, fetch: Sequence[str], data: Dataset) -> None:
        """Prepares the values; nothing is run yet.

        Args:
            model: computes the values.
            fetch: names of the values.
            data: samples for the model's inputs.
        """
        self._model, self._fetch, self._data = model, tuple(fetch), data
        self.names = tuple(dict.fromkeys((*data.names, *fetch)))

    def __len__(self) -> int:
        return len(self._data)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`; the network is in memory only while it is run."""
        executor = Executor(self._model, self._fetch)
        for feeds in self._data.samples():
            yield feeds | executor.run(feeds)


class Kept(Dataset):
    """Samples that stay in memory once they have been read, if all of them fit."""

    def __init__(self, data: Dataset, limit: int = _KEPT_BYTES) -> None:
        """Keeps nothing yet.

        Args:
            data: the samples.
            limit: bytes that all samples may take together.
        """
        self.names = data.names
        self._data, self._limit = data, limit
        self._kept: list[Arrays] | None = None

    def __len__(self) -> int:
        return len(self._data)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Arrays] = []
        free = self._limit
        for feeds in self._data.samples():
            free -= sum(array.nbytes for array in feeds.values())
            if free >= 0:
                kept.append(feeds)
            else:
                kept.clear()
            yield feeds
        if free >= 0:
            self._kept = kept


class _First(Dataset):
    def __init__(self, data: Dataset, count: int) -> None:
        self._data, self._count = data, count
        self.names = data.names

    def __len__(self) -> int:
        return self._count

    def samples(self) -> Iterator[Arrays]:
        return islice(self._data.samples(), self._count)


class _Part(Dataset):
    def __init__(self, data: Dataset, first: int, of: int) -> None:
        self._data, self._first, self._of = data, first, of
        self.names = data.names

    def __len__(self) -> int:
        return len(range(self._first, len(self._data), self._of))

    def samples(self) -> Iterator[Arrays]:
        return islice(self._data.samples(), self._first, None, self._of)
