"""Where the values of maps lie: the integers of a format and what one of them is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from dlaconv.frontends.caffe.precision import MapFormat
from dlaconv.ir.formats import QFormat
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

ROUNDING = Rounding.HALF_AWAY
"""How CHaiDNN and Ristretto round: C's ``round``."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The values of a map: integers times a step.

    Attributes:
        format: the format that they were rounded to.
        low: smallest integer.
        high: largest integer.
    """

    format: MapFormat
    low: int
    high: int

    @classmethod
    def of(cls, form: MapFormat, *, narrow: bool = False) -> Grid:
        """All integers of a format.

        Args:
            form: the format.
            narrow: leaves out the smallest integer of a threshold, as CHaiDNN does where it clips
                real values to it; results of layers saturate at all integers.
        """
        low, high = form.range
        return cls(form, -high if narrow and not isinstance(form, QFormat) else low, high)

    @property
    def step(self) -> Fraction:
        """Real value of one unit."""
        return self.format.step

    @property
    def quantisation(self) -> Quantisation:
        """The quantisation that puts values here."""
        made = Quantisation.of(float(self.step), self.format.bits, rounding=ROUNDING)
        return replace(made, qmin=self.low, qmax=self.high)

    @property
    def rectified(self) -> Grid:
        """The values that a ReLU leaves."""
        return replace(self, low=max(self.low, 0))

    def within(self, other: Grid) -> bool:
        """True if every value here is one of the other grid."""
        return self.step == other.step and other.low <= self.low and self.high <= other.high

    def __str__(self) -> str:
        return words_of(self.format)


def words_of(form: MapFormat) -> str:
    """A format in the words of the files."""
    if isinstance(form, QFormat):
        return f"{form.bits} bits with fl {form.frac}"
    return f"{form.bits} bits with th {float(form.th):.6g}"


def joined(grids: Sequence[Grid | None]) -> Grid | None:
    """The grid of values of several maps together; None if they lie on none, or on several."""
    if not grids or any(grid is None for grid in grids):
        return None
    known = [grid for grid in grids if grid is not None]
    if any(grid.step != known[0].step for grid in known):
        return None
    low, high = min(grid.low for grid in known), max(grid.high for grid in known)
    widest = max(known, key=lambda grid: grid.format.bits)
    return Grid(widest.format, low, high)
