"""Where real values enter and leave a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlaconv.ir.pixels import TO_LAST, pads_behind, resized

INTEGERS = "/integers"
"""Ends the name of a value that holds the integers of the map named before it."""


@dataclass(frozen=True)
class Port:
    """A graph input or output in terms of the source.

    Attributes:
        real_step: real value of one unit. It is the hardware's step unless a hidden ratio lies
            between the two.
        low: smallest integer that the host feeds; without meaning for outputs.
        high: largest integer that the host feeds.
        sign: the host feeds ``high`` for what is not negative, else ``low``, and nothing between.
        zero: the real value that is fed as 0.
        border: axis, integer and number of further channels that the host adds, None for none.
        turn: the host puts the last axis behind the first one.
    """

    real_step: float
    low: int
    high: int
    sign: bool = False
    zero: int = 0
    border: tuple[int, int, int] | None = None
    turn: bool = False

    def taken(self, stored: Sequence[int]) -> tuple[int, ...]:
        """The shape of what the host is given, from that of the map."""
        shape = [stored[index] for index in TO_LAST] if self.turn else stored
        if self.border is None:
            return tuple(shape)
        axis, _, count = self.border
        return resized(shape, axis, -count)

    def pads(self, rank: int) -> np.ndarray:
        """The further channels as the ``pads`` of ONNX's Pad, int64."""
        axis, _, count = self.border or (None, 0, 0)
        return pads_behind(axis, rank, count)
