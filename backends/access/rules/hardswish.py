"""AC-2: HardSwish and the opset."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity


class HardSwishOpset(NodeRule):
    """The network uses HardSwish, which the guide lists but its opset does not have.

    What it does: Reports every HardSwish: as an error in a file whose opset does not know the
    operator, as a warning otherwise. Tanh and Sigmoid, the other piecewise-linear functions, exist
    in every opset.

    Why it matters on the hardware: HardSwish runs on the piecewise-linear unit, but ONNX has had
    the operator since opset 14 only, and whether the compiler reads that opset is not documented.

    What to do: Write the file with the target's opset for HardSwish and try it on your compiler, or
    train with ReLU instead.
    """

    id = "AC-2"
    name = "hardswish-opset"
    clause = "B, activations: stepwise linear approximation of Tanh, Sigmoid, Hardswish."
    ops = ("HardSwish",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields one finding per HardSwish."""
        imports, needed = model.model.graph.opset_imports, model.target.opset_hardswish
        opset = imports.get("", imports.get("ai.onnx", 0))
        if opset < needed:
            yield self.at(model, node, f"opset {opset} has no HardSwish, opset {needed} has")
        else:
            yield self.at(
                model,
                node,
                f"HardSwish needs opset {needed}, the guide speaks of {model.target.opset}",
                severity=Severity.WARNING,
            )
