"""What a conversion returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlaconv.diagnostics import Diagnostics

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass
class Conversion:
    """The result of a conversion.

    Attributes:
        model: the ACCESS model; the first one if the network is cut into several.
        diagnostics: everything there is to say.
        report: the JSON report, see ``schemas/report.schema.json``.
        output: where the file was put, None if it was not written.
        emitted: where further models were put, by kind.
        parts: every part of a network that was cut, in the order in which they run.
    """

    model: ir.Model
    diagnostics: Diagnostics
    report: dict[str, Any]
    output: Path | None = None
    emitted: dict[str, Path] = field(default_factory=dict)
    parts: list[Path] = field(default_factory=list)
