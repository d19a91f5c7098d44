"""Where real values enter and leave a network."""

from __future__ import annotations

from dataclasses import dataclass

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
        border: axis and integer of a further channel that the host adds, None if there is none.
    """

    real_step: float
    low: int
    high: int
    sign: bool = False
    zero: int = 0
    border: tuple[int, int] | None = None
