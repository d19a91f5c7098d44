"""MM-1: what a MatMul may multiply."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic


class ConstantMatMul(NodeRule):
    """A MatMul multiplies by a constant.

    What it does: Checks that both operands of a MatMul are feature maps.

    Why it matters on the hardware: MatMul states one scale for each of two maps; constants are
    weights, which need weight_ch_scales and belong into a fully connected layer.

    What to do: Write it (with the Add that follows as bias) as Gemm with transB = 1.
    """

    id = "MM-1"
    name = "constant-matmul"
    clause = "B.10, III.B.3: matrix multiplication of A and B."
    ops = ("MatMul",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per MatMul."""
        constants = [v.name for v in node.inputs if v is not None and model.is_constant(v)]
        if constants:
            yield self.at(model, node, f"operand {constants[0]!r} is a constant")
