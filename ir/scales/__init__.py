"""Scale assignment: power-of-two steps for maps, 2^n/a for weights."""

from __future__ import annotations

from dlaconv.ir.pipeline import Pass
from dlaconv.ir.scales.assign import assign_scales
from dlaconv.ir.scales.linearise import linearise

SCALED: tuple[Pass, ...] = (
    # before the scales are assigned: it decides which maps must share gamma
    linearise,
    assign_scales,
)

__all__ = ["SCALED", "assign_scales"]
