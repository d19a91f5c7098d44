"""EL-1, EL-3, EL-4: what Add and Div may read."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity

ELEMENTWISE = ("Add", "Div")


class OperandCount(NodeRule):
    """An element-wise operator does not have two operands.

    What it does: Checks that Add and Div have exactly two inputs. Sum, which may have more, is no
    operator of the hardware (GR-3).

    Why it matters on the hardware: The guide defines element-wise operators on two sources.

    What to do: Add more than two maps in a chain of Add.
    """

    id = "EL-1"
    name = "operand-count"
    clause = "B.7: addition / division of two sources."
    ops = ELEMENTWISE

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        count = sum(value is not None for value in node.inputs)
        if count != 2:
            yield self.at(model, node, f"{count} operands, not 2")


class ConstantOperand(NodeRule):
    """An element-wise operator has a constant operand.

    What it does: Checks that no operand of Add or Div is an initializer or Constant node.

    Why it matters on the hardware: The scale of an operand is that of the operator that made it; a
    constant has no such operator, and the guide has no attribute for its scale.

    What to do: Fold a constant Add into the bias, a constant Div into the weights of the layer
    before; standing alone it is a 1x1 depth-wise convolution.
    """

    id = "EL-3"
    name = "constant-operand"
    clause = "Silent; the sources of an element-wise operation are maps."
    ops = ELEMENTWISE

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        constants = [v.name for v in node.inputs if v is not None and model.is_constant(v)]
        if constants:
            yield self.at(model, node, f"operand {constants[0]!r} is a constant")


class GraphInputOperand(NodeRule):
    """An element-wise operator reads a graph input, whose scale it cannot state.

    What it does: Checks that no operand of Add or Div is a graph input, unless the target has an
    attribute for the scale of that operand.

    Why it matters on the hardware: The guide gives element-wise operators an output scale only; the
    scale of an operand comes from its producer, and a graph input has none. Field compilers then
    assume 0 bits and abort.

    What to do: Put a 1x1 depth-wise identity convolution between the input and the operator.
    """

    id = "EL-4"
    name = "graph-input-operand"
    clause = "III.B.4: element-wise operators carry output_* attributes only."
    severity = Severity.WARNING
    ops = ELEMENTWISE

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields one finding per operand that is a graph input."""
        inputs = set(model.inputs)
        for index, value in enumerate(node.inputs):
            if value in inputs and model.input_scale_name(node, index) is None:
                yield self.at(model, node, f"operand {value.name!r} is a graph input")
