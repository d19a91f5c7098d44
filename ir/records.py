"""What became of each tensor: the rows of the report."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Fidelity(enum.StrEnum):
    """How a tensor of the source survives."""

    EXACT = "exact"
    """The same integers at the same real step."""
    RESCALED = "rescaled"
    """Maps: another step or rounding. Weights: the same integers, the step rounded to the grid."""
    REQUANTISED = "requantised"
    """The integers were rounded anew."""
    CLIPPED = "clipped"
    """The hardware's range is smaller than the source's: at its own, finer step, or at that of the
    stored map from which it requantises an input that the source quantises twice."""
    DERIVED = "derived"
    """The source does not quantise it; the step comes from data or bounds."""


@dataclass(frozen=True)
class TensorRecord:
    """One row of the report.

    Attributes:
        name: the tensor's name.
        kind: ``map``, ``weight`` or ``bias``.
        layer: the source layer.
        fidelity: how it survives.
        source: the source's quantisation as JSON values, None where it has none.
        target: the hardware's quantisation as JSON values.
        note: what else the user should know, empty for nothing.
        channels: channels that the fidelity concerns (guarded ones, say), empty for all.
        override: what the user asked for here: file, line and text; None for nothing.
    """

    name: str
    kind: str
    layer: str
    fidelity: Fidelity
    source: dict[str, Any] | None
    target: dict[str, Any]
    note: str = ""
    channels: tuple[int, ...] = ()
    override: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The record as JSON values; see ``schemas/report.schema.json``."""
        row: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "layer": self.layer,
            "class": str(self.fidelity),
            "source": self.source,
            "target": self.target,
            "note": self.note,
        }
        if self.channels:
            row["channels"] = list(self.channels)
        if self.override is not None:
            row["override"] = self.override
        return row
