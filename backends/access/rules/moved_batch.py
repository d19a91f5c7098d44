"""TR-1: Transpose and Reshape that move the batch axis."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import RESHAPING, AccessModel, Unknown, input_of, output_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import by
from dlaconv.diagnostics import Diagnostic, Severity


class MovedBatch(NodeRule):
    """A Transpose or Reshape moves the batch axis.

    What it does: Checks that axis 0 stays first and keeps its size through Transpose, Reshape,
    Flatten, Squeeze and Unsqueeze. That their scales do not change is SC-7.

    Why it matters on the hardware: A map is channels, rows and columns of one image; there is no
    batch axis to move data into.

    What to do: Leave axis 0 where it is.
    """

    id = "TR-1"
    name = "moved-batch"
    clause = "B, Transpose / Reshape: silent on axes."
    severity = Severity.WARNING
    ops = RESHAPING

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per node."""
        before, after = model.shape(input_of(node, 0)), model.shape(output_of(node))
        if node.op_type == "Transpose":
            order = model.integers(node, "perm")
            if order is None and before is not None:
                order = tuple(reversed(range(len(before))))
            if order is None:
                raise Unknown("the order of axes depends on a rank that is not known")
            if order and order[0] != 0:
                yield self.at(model, node, f"perm {list(order)} moves the batch")
        elif before is None or after is None:
            raise Unknown("a shape is not known")
        elif before[:1] != after[:1] and None not in {*before[:1], *after[:1]}:
            yield self.at(model, node, f"{by(before)} becomes {by(after)}: the batch is merged")
