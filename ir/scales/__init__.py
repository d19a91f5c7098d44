"""Scale assignment: power-of-two steps for maps, 2^n/a for weights."""

from __future__ import annotations

from dlaconv.ir.pipeline import Pass
from dlaconv.ir.scales.assign import assign_scales

SCALED: tuple[Pass, ...] = (assign_scales,)

__all__ = ["SCALED", "assign_scales"]
