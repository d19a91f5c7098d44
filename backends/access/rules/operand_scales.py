"""SC-8: operands of Add whose scales are far apart."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity


class DistantOperandScales(NodeRule):
    """The operands of an Add have scales that are far apart.

    What it does: Compares the scales of the two operands of every Add. They may differ (as input
    and output of Conv, FC, MatMul, average pooling, Tanh, Sigmoid, Div and ReduceSum may), but by
    at most 2 to the power of a map's bits.

    Why it matters on the hardware: The operand of the larger scale is shifted left to that of the
    other before they are added. How far the adder can shift is not documented; beyond the width of
    a map the smaller operand is less than one unit of the other.

    What to do: Give the operands closer scales, or leave the Add out: one operand hardly counts.
    """

    id = "SC-8"
    name = "distant-operand-scales"
    clause = (
        "II: Conv, FC, MatMul, average pooling, Tanh, Sigmoid, Add and Div may change the scale."
    )
    severity = Severity.WARNING
    ops = ("Add",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per Add."""
        left, right = (model.map_step(input_of(node, index)) for index in (0, 1))
        if left is None or right is None:
            return
        ratio = max(left, right) / min(left, right)
        if ratio > 2**model.target.map_bits:
            yield self.at(
                model,
                node,
                f"the scales of the operands differ by a factor of {ratio:g}, more than "
                f"2^{model.target.map_bits}",
            )
