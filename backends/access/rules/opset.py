"""GR-1: the ONNX version that the compiler reads."""

from __future__ import annotations

from collections.abc import Iterator

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import Rule
from dlaconv.diagnostics import Diagnostic


class UnexpectedOpset(Rule):
    """The file uses another ONNX version than the guide's.

    What it does: Compares the opset of the ONNX domain and the file's IR version with the target's.
    A file with HardSwish, which the guide's opset lacks, uses the newer opset named by the target.

    Why it matters on the hardware: The compiler's front end is written against one opset; operators
    changed between opsets (ReduceSum and Squeeze take their axes elsewhere since 13).

    What to do: Write the file with dlaconv, which uses the target's opset, or export it again with
    that opset.
    """

    id = "GR-1"
    name = "unexpected-opset"
    clause = "The guide's demo exports with opset 12."

    def check(self, model: AccessModel) -> Iterator[Diagnostic]:
        """Yields at most one finding each for opset and IR version."""
        target, graph = model.target, model.model.graph
        location = model.location(None)
        opset = graph.opset_imports.get("", graph.opset_imports.get("ai.onnx"))
        expected = target.opset
        if any(model.nodes_of("HardSwish")):
            expected = target.opset_hardswish
        if opset != expected:
            found = "no opset" if opset is None else f"opset {opset}"
            yield self.finding(location, f"the file has {found}, not {expected}")
        version = model.model.ir_version
        if version > target.ir_version:
            yield self.finding(
                location, f"the file has IR version {version}, newer than {target.ir_version}"
            )
