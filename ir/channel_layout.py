"""Where the channels of a map lie once zeros have been put between and behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Run = tuple[int, int]
"""First position and number of channels that follow one another."""


@dataclass(frozen=True)
class ChannelLayout:
    """The positions of a map's own channels, in their order, among more.

    Attributes:
        count: number of channels with those between and behind them.
        runs: where the own channels lie, ascending, no two of them adjacent.
    """

    count: int
    runs: tuple[Run, ...]

    @classmethod
    def dense(cls, channels: int) -> ChannelLayout:
        """Nothing but own channels."""
        return cls.behind(channels, channels)

    @classmethod
    def behind(cls, channels: int, count: int) -> ChannelLayout:
        """``channels`` of its own, and then others up to ``count``."""
        return cls(count, ((0, channels),) if channels else ())

    @classmethod
    def at(cls, positions: Iterable[int], count: int) -> ChannelLayout:
        """Own channels at ascending positions."""
        runs: list[Run] = []
        for position in positions:
            if runs and sum(runs[-1]) == position:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((position, 1))
        return cls(count, tuple(runs))

    @classmethod
    def joined(cls, parts: Sequence[ChannelLayout]) -> ChannelLayout:
        """The channels of several maps one behind the other."""
        runs: list[Run] = []
        start = 0
        for part in parts:
            for first, length in part.runs:
                if runs and sum(runs[-1]) == start + first:
                    runs[-1] = (runs[-1][0], runs[-1][1] + length)
                else:
                    runs.append((start + first, length))
            start += part.count
        return cls(start, tuple(runs))

    def repeated(self, size: int) -> ChannelLayout:
        """Each channel as a block of ``size``."""
        runs = tuple((first * size, length * size) for first, length in self.runs)
        return ChannelLayout(self.count * size, runs)

    def divided(self, size: int) -> ChannelLayout | None:
        """Each block of ``size`` channels as one; None where a block is not kept together."""
        if self.count % size or any(n % size for run in self.runs for n in run):
            return None
        return ChannelLayout(
            self.count // size, tuple((f // size, n // size) for f, n in self.runs)
        )

    @property
    def channels(self) -> int:
        """Number of own channels."""
        return sum(length for _, length in self.runs)

    @property
    def is_dense(self) -> bool:
        """True if there are no others."""
        return self.channels == self.count

    @cached_property
    def positions(self) -> np.ndarray:
        """Int64 position of each own channel."""
        parts = [np.arange(first, first + length) for first, length in self.runs]
        return np.concatenate([*parts, np.zeros(0, np.int64)]).astype(np.int64)

    @cached_property
    def own(self) -> np.ndarray:
        """Bool for each position: is it an own channel?"""
        found = np.zeros(self.count, bool)
        found[self.positions] = True
        return found

    @cached_property
    def nearest(self) -> np.ndarray:
        """Int64 own channel for each position: the one there, else the one before it."""
        found: np.ndarray = np.maximum(np.cumsum(self.own) - 1, 0)
        return found

    def select(self, array: np.ndarray, axis: int = 1) -> np.ndarray:
        """The own channels of an array with ``count`` along an axis."""
        return array if self.is_dense else np.take(array, self.positions, axis)

    def own_of(self, array: np.ndarray, axis: int) -> np.ndarray:
        """The same for an array that may be alike along the axis, or not have it."""
        fits = axis < array.ndim and array.shape[axis] == self.count
        return self.select(array, axis) if fits else array

    def spread(self, array: np.ndarray, axis: int = 1) -> np.ndarray:
        """An array of own channels with zeros for the others."""
        if self.is_dense:
            return array
        shape = list(array.shape)
        shape[axis] = self.count
        found = np.zeros(shape, array.dtype)
        np.moveaxis(found, axis, 0)[self.positions] = np.moveaxis(array, axis, 0)
        return found

    def repeat(self, array: np.ndarray, axis: int = 1) -> np.ndarray:
        """An array of own channels in which each of the others is like the one before it."""
        return array if self.is_dense else np.take(array, self.nearest, axis)
