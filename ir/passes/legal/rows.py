"""Values whose channels lie on another axis, as maps of rows and columns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.legal.building import Builder, Shape
from dlaconv.ir.target import Target


@dataclass(frozen=True)
class Rows:
    """How the rows of a value become the positions of a map.

    Attributes:
        shape: of the value.
        axis: its axis of channels.
        size: height and width of the map.
    """

    shape: Shape
    axis: int
    size: tuple[int, int]

    @classmethod
    def of(cls, shape: Shape, axis: int, target: Target) -> Rows | None:
        """The rows of a value of ``shape``; None if they make no map that is small enough."""
        low, high = target.map_size
        if len(shape) == 4 and axis == 3 and shape[0] == 1:
            height, width = shape[1:3]
            if low <= min(height, width) and max(height, width) <= high:
                return cls(shape, axis, (height, width))
        size = rectangle(math.prod(shape) // shape[axis], high)
        return None if size is None else cls(shape, axis, size)

    @property
    def channels_last(self) -> bool:
        """True for a map that only has its axes in another order."""
        return self.axis == 3 and self.shape == (1, *self.size, self.shape[3])

    @property
    def around(self) -> tuple[int, int]:
        """The number of values before and behind the channels."""
        return math.prod(self.shape[: self.axis]), math.prod(self.shape[self.axis + 1 :])

    def to_map(self, builder: Builder, x: ir.Value) -> ir.Value:
        """The map ``[1, C, H, W]`` of a value."""
        if self.channels_last:
            return builder.transpose(x, (0, 3, 1, 2))
        channels, (before, behind) = self.shape[self.axis], self.around
        value = x
        if before > 1:
            inner = (behind,) if behind > 1 else ()
            value = _reshaped(builder, x, (1, before, channels, *inner))
            value = builder.transpose(value, (0, 2, 1, 3)[: 3 + len(inner)])
        return _reshaped(builder, value, (1, channels, *self.size))

    def back(self, builder: Builder, value: ir.Value, result: Shape) -> ir.Value:
        """A map ``[1, O, H, W]`` in the shape of the result."""
        if self.channels_last:
            return _reshaped(builder, builder.transpose(value, (0, 2, 3, 1)), result)
        channels, (before, behind) = (shape_of(value) or (0, 0))[1], self.around
        if before > 1:
            inner = (behind,) if behind > 1 else ()
            value = _reshaped(builder, value, (1, channels, before, *inner))
            value = builder.transpose(value, (0, 2, 1, 3)[: 3 + len(inner)])
        return _reshaped(builder, value, result)


def rectangle(count: int, most: int) -> tuple[int, int] | None:
    """Height and width of a map with ``count`` positions, as square as can be.

    Args:
        count: height times width.
        most: the largest width.
    """
    heights = range(math.isqrt(count), 0, -1)
    found = next((height for height in heights if count % height == 0), 1)
    return (found, count // found) if count // found <= most else None


def _reshaped(builder: Builder, value: ir.Value, shape: Shape) -> ir.Value:
    return value if shape_of(value) == shape else builder.reshape(value, shape)
