"""How rules put numbers into words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dlaconv.diagnostics import listed
from dlaconv.ir.target import Interval


def by(extents: Iterable[int | None]) -> str:
    """``3x5``."""
    return "x".join("?" if extent is None else str(extent) for extent in extents)


def span(limits: Interval) -> str:
    """``1 to 7``."""
    return f"{limits[0]} to {limits[1]}"


def one_of(choices: Sequence[object]) -> str:
    """``1 or 2``; ``1, 2 or 4``."""
    *first, last = map(str, choices)
    return f"{', '.join(first)} or {last}" if first else last


def within(value: int, limits: Interval) -> bool:
    """True if a number lies in an inclusive range."""
    return limits[0] <= value <= limits[1]


def some(channels: np.ndarray, most: int = 4) -> str:
    """Channel numbers, the first few of them: ``3, 5, 8, 9 and 12 more``."""
    return listed([str(int(channel)) for channel in channels], most)
