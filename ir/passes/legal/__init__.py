"""From CANONICAL to LEGAL: rewrites that make operators and windows fit the hardware.

One legalisation a file; ``docs/legalisation.md`` is made of their docstrings.
"""

from __future__ import annotations

from dlaconv.ir.passes.legal.grouped_conv import grouped_conv
from dlaconv.ir.passes.legal.legalisation import Legalisation
from dlaconv.ir.pipeline import Pass

LEGALISATIONS: tuple[Legalisation, ...] = (grouped_conv,)
"""Every legalisation, in the order in which they are tried; later ones see the results."""

LEGAL: tuple[Pass, ...] = tuple(item.as_pass() for item in LEGALISATIONS)
"""What brings a model from stage CANONICAL to stage LEGAL."""

__all__ = ["LEGAL", "LEGALISATIONS"]
