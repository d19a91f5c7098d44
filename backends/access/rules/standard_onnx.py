"""GR-4: valid ONNX under the private attributes."""

from __future__ import annotations

from collections.abc import Iterator

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.backends.access.standard_form import checker_complaint
from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir.passes.misfits import misfits

_LONGEST = 300


class InvalidOnnx(Rule):
    """The file is no valid ONNX even without its private attributes.

    What it does: Takes the private attributes away and runs onnx's own full checker, which also
    compares stated with inferred types and shapes. Large constants are replaced by their shapes.
    Values that nothing defines are named first. Both are warnings; an error is what the checker
    lets pass although nothing can compute it, such as weights for other channels.

    Why it matters on the hardware: The compiler reads the file as ONNX before it looks at scales;
    what the checker refuses is likely to be misread. (With the private attributes the checker
    refuses every ACCESS file.)

    What to do: Export the network again; if dlaconv wrote the file, please report it.
    """

    id = "GR-4"
    name = "invalid-onnx"
    clause = "Silent; the format is called fixed-point ONNX."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields a finding per undefined value, else one from the checker, else those of shapes."""
        graph = model.model.graph
        known = set(graph.inputs) | set(graph.initializers.values())
        undefined = False
        for node in graph:
            for value in dict.fromkeys(node.inputs):
                if value is None or value in known or value.producer() is not None:
                    continue
                undefined = True
                yield self.finding(
                    model.location(node),
                    f"{value.name!r} is read, but nothing defines it",
                    severity=Severity.WARNING,
                )
        if undefined:
            return
        if complaint := checker_complaint(model.model, model.target):
            words = " ".join(complaint.split())
            words = words if len(words) <= _LONGEST else words[:_LONGEST] + " ..."
            yield self.finding(
                model.location(None),
                f"the ONNX checker says: {words}",
                severity=Severity.WARNING,
            )
            return
        for node, why in misfits(model.model, model.static_shape):
            yield self.finding(model.location(node), why)
