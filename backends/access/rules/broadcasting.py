"""EL-2: element-wise operators on maps of different shapes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Unknown, input_of, is_standard
from dlaconv.backends.access.rules.elementwise_operands import ELEMENTWISE
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import by
from dlaconv.diagnostics import Diagnostic, Severity


class BroadcastOperand(NodeRule):
    """An element-wise operator reads maps of different shapes.

    What it does: Checks that both operands of Add and Div have the same shape; a divisor may have a
    single channel (linear attention divides by one). The channels of a matrix product are its last
    axis, too.

    Why it matters on the hardware: The guide defines the operation on two maps and does not speak
    of broadcasting.

    What to do: Expand the smaller map, for instance with a convolution whose rows are equal.
    """

    id = "EL-2"
    name = "broadcast-operand"
    clause = "Silent on broadcasting."
    severity = Severity.WARNING
    ops = ELEMENTWISE

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        left, right = (model.shape(input_of(node, index)) for index in (0, 1))
        if left is None or right is None:
            raise Unknown("the shape of an operand is not known")
        free = _channel_axes(node, len(left)) if node.op_type == "Div" else ()
        same = len(left) == len(right) and all(
            a == b or a is None or b is None or (axis in free and b == 1)
            for axis, (a, b) in enumerate(zip(left, right, strict=True))
        )
        if not same:
            yield self.at(model, node, f"operands of shape {by(left)} and {by(right)}")


def _channel_axes(node: ir.Node, rank: int) -> tuple[int, ...]:
    """The axes along which a divisor may have one value for all channels."""
    dividend = input_of(node, 0)
    maker = dividend.producer() if dividend is not None else None
    return (1, rank - 1) if is_standard(maker, "MatMul") else (1,)
