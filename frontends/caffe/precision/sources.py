"""Where formats can come from beside the prototxt: options of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Uniform:
    """One format for all layers, as XportDNN's DynamicFixed mode gives it.

    Attributes:
        bits: bits of inputs, parameters and outputs.
        fractions: those behind the binary point.
    """

    bits: tuple[int, int, int]
    fractions: tuple[int, int, int]


@dataclass(frozen=True)
class PrecisionSources:
    """What the user gives.

    Attributes:
        thresholds: a file of thresholds, None without one.
        uniform: one format for all layers, None without it.
    """

    thresholds: Path | None = None
    uniform: Uniform | None = None
