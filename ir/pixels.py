"""Graph inputs that take pixels: how they become what the source takes, and what the host feeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlaconv.diagnostics import Diagnostic
from dlaconv.errors import UsageError
from dlaconv.ir.calibration.dataset import Dataset
from dlaconv.ir.execution import Arrays

MARK = "/pixels"
"""Ends the name of what the host feeds in place of a graph input."""
LARGEST = 255
CENTRE = 128
"""The pixel that is fed as 0 where maps have a sign."""
TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Permutations that put the channels of pictures first, and last."""
_MOST_CHANNELS = 1 << 16


@dataclass(frozen=True)
class Pixels:
    """What a graph input takes in place of the source's values.

    The source's channel c takes ``factors[c] * p + offsets[c]``, p being channel c of the picture,
    or the last but c if the source takes blue first. The host feeds ``p - zero``, and may feed
    further channels of a constant, which tell the inside of the picture from what is padded.

    Attributes:
        zero: the pixel that is fed as 0.
        factors: one for all channels, or one for each.
        offsets: likewise.
        axis: where the channels are, None if all are alike.
        reverse: the source takes the channels in the opposite order.
        border: the constant in the further channels.
        further: number of further channels, which are the last ones.
        turn: pictures have their channels last, and the host feeds them first.
    """

    zero: int
    factors: tuple[float, ...] = (1.0,)
    offsets: tuple[float, ...] = (0.0,)
    axis: int | None = None
    reverse: bool = False
    border: int = 0
    further: int = 0
    turn: bool = False

    @property
    def low(self) -> int:
        """The smallest integer that is fed."""
        return -self.zero

    @property
    def high(self) -> int:
        """The largest integer that is fed."""
        return LARGEST - self.zero

    def affine(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset of the source's values as float64 arrays of a rank, in its order."""
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = -1
        return tuple(np.array(v, np.float64).reshape(shape) for v in (self.factors, self.offsets))  # type: ignore[return-value]

    def fed(self, name: str, values: np.ndarray) -> np.ndarray:
        """The integers that the host feeds for pixels; floats stay floats.

        Where the map has a sign, int8 is what the host feeds but for its order. Channels are put
        first, and further ones are added, where that is so.

        Args:
            name: the graph input.
            values: any numbers, batch first.

        Raises:
            UsageError: if a value is no pixel.
        """
        if values.dtype == np.int8 and self.zero:
            return self._arranged(values)
        bad = (values < 0) | (values > LARGEST)
        if values.dtype.kind == "f":
            bad |= values != np.rint(values)
        if bad.any():
            raise UsageError(_no_pixels(name, values[bad]))
        wide = values if values.dtype.kind == "f" else values.astype(np.int64)
        return self._arranged(wide - self.zero)

    def shown(self, fed: np.ndarray) -> np.ndarray:
        """The pixels of what the host feeds; what lies between two of them is rounded."""
        pixels = np.clip(np.rint(fed), self.low, self.high) + np.float32(self.zero)
        pixels = pixels.transpose(TO_LAST) if self.turn else pixels
        found: np.ndarray = pixels[tuple(slice(size) for size in self.picture(fed.shape))]
        return found

    def picture(self, fed: Sequence[int]) -> tuple[int, ...]:
        """The shape of pictures, from that of what is fed."""
        shape = [fed[index] for index in TO_LAST] if self.turn else fed
        return resized(shape, self.axis, -self.further)

    def stored(self, picture: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is fed, from that of pictures."""
        shape = resized(picture, self.axis, self.further)
        return tuple(shape[index] for index in TO_FIRST) if self.turn else shape

    def fits(self, picture: Sequence[int | None]) -> bool:
        """False if pictures of this shape cannot be meant; None stands for an unknown size."""
        if self.axis is None and not self.turn:
            return True
        if len(picture) != len(TO_FIRST):
            return False
        channels = None if self.axis is None else picture[self.axis]
        counts = {len(self.factors), len(self.offsets)}
        return channels is None or (channels > 0 and counts <= {1, channels})

    def _arranged(self, values: np.ndarray) -> np.ndarray:
        if self.further:
            widths = [(0, self.further * (index == self.axis)) for index in range(values.ndim)]
            values = np.pad(values, widths, constant_values=self.border)
        return np.ascontiguousarray(values.transpose(TO_FIRST)) if self.turn else values

    def as_json(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return {
            "zero": self.zero,
            "factors": [float(value) for value in self.factors],
            "offsets": [float(value) for value in self.offsets],
            "axis": self.axis,
            "reverse": self.reverse,
            "border": self.border,
            "further": self.further,
            "turn": self.turn,
        }

    @classmethod
    def from_json(cls, given: Any) -> Pixels:
        """Reads what `as_json` wrote, or anybody.

        Raises:
            ValueError: if it says nothing, or nothing that can be.
        """
        if not isinstance(given, dict) or given.keys() != cls(0).as_json().keys():
            raise ValueError("not what pixels become")
        zero, axis, reverse = given["zero"], given["axis"], given["reverse"]
        border, further, turn = given["border"], given["further"], given["turn"]
        if zero not in (0, CENTRE) or type(zero) is not int or type(reverse) is not bool:
            raise ValueError("no pixel is fed as 0")
        if axis is not None and (type(axis) is not int or not 0 < axis < len(TO_FIRST)):
            raise ValueError("there is no such axis")
        factors, offsets = (_numbers(given[name]) for name in ("factors", "offsets"))
        if {len(factors), len(offsets)} - ({1} if axis is None else {1, max(len(factors), 1)}):
            raise ValueError("numbers of channels differ")
        if type(border) is not int or not -zero <= border <= LARGEST - zero:
            raise ValueError("no pixel in further channels")
        if type(further) is not int or not 0 <= further < _MOST_CHANNELS or (further and not axis):
            raise ValueError("no number of further channels")
        if type(turn) is not bool or (turn and axis not in (None, len(TO_FIRST) - 1)):
            raise ValueError("no axis is the last one")
        return cls(zero, factors, offsets, axis, reverse, border, further, turn)


def pads_behind(axis: int | None, rank: int, count: int) -> np.ndarray:
    """More elements at the end of an axis, as the ``pads`` of ONNX's Pad, int64."""
    found = np.zeros(2 * rank, np.int64)
    if axis is not None:
        found[rank + axis] = count
    return found


def resized(shape: Sequence[int], axis: int | None, more: int) -> tuple[int, ...]:
    """A shape with more elements on one axis."""
    return tuple(size + more * (index == axis) for index, size in enumerate(shape))


def _numbers(given: Any) -> tuple[float, ...]:
    if not isinstance(given, list) or not 0 < len(given) <= _MOST_CHANNELS:
        raise ValueError("not a number for each channel")
    if not all(type(value) is float and math.isfinite(value) for value in given):
        raise ValueError("not numbers")
    return tuple(given)


def _no_pixels(name: str, bad: np.ndarray) -> Diagnostic:
    return Diagnostic(
        "DLA338",
        "no-pixels",
        f"graph input {name!r} takes pixels, integers of 0 to 255; {bad.size} of the values given "
        f"are none, the first is {bad[0]:.6g}",
        help="give pictures as they are, in bytes, without --mean, --std and --scale applied",
        notes=("the network was converted with --fold-preprocess, which does that itself",),
    )


class Fed(Dataset):
    """What the host feeds for samples of pixels."""

    def __init__(self, data: Dataset, pixels: Mapping[str, Pixels]) -> None:
        """Nothing is read yet.

        Args:
            data: samples, float32.
            pixels: the graph inputs that take pixels.
        """
        self._data, self._pixels = data, dict(pixels)
        self.names = data.names

    def __len__(self) -> int:
        return len(self._data)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`.

        Raises:
            UsageError: if a value is no pixel.
        """
        for feeds in self._data.samples():
            yield feeds | {name: how.fed(name, feeds[name]) for name, how in self._pixels.items()}


class Shown(Dataset):
    """The pixels of samples of what the host feeds; what lies between two of them is rounded."""

    def __init__(self, data: Dataset, pixels: Mapping[str, Pixels]) -> None:
        """See `Fed`."""
        self._data, self._pixels = data, dict(pixels)
        self.names = data.names

    def __len__(self) -> int:
        return len(self._data)

    def samples(self) -> Iterator[Arrays]:
        """See `Dataset.samples`."""
        for feeds in self._data.samples():
            yield feeds | {name: how.shown(feeds[name]) for name, how in self._pixels.items()}
