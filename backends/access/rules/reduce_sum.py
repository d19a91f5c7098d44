"""RS-1: forms of ReduceSum."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, Unknown, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity


class ReduceSumForm(NodeRule):
    """A ReduceSum drops axes, or sums over the batch.

    What it does: Checks that keepdims is 1 and that the axes are given and leave out the batch;
    axes may be an attribute (opset 12) or a constant input (13 and later).

    Why it matters on the hardware: A map is channels, rows and columns of one image; the guide does
    not speak of axes.

    What to do: Export with keepdims = 1 and the axes of channels, rows or columns.
    """

    id = "RS-1"
    name = "reduce-sum-form"
    clause = "B.10: ReduceSum; silent on axes."
    severity = Severity.WARNING
    ops = ("ReduceSum",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for keepdims and axes."""
        if (keep := model.integer(node, "keepdims", 1)) != 1:
            yield self.at(model, node, f"keepdims is {keep}, it must be 1")
        axes = _axes(model, node)
        if not axes:
            yield self.at(model, node, "no axes are given, so the batch is summed, too")
            return
        shape = model.shape(input_of(node, 0))
        if min(axes) < 0 and shape is None:
            raise Unknown("negative axes of a map of unknown rank")
        if any(axis == 0 or (shape is not None and axis == -len(shape)) for axis in axes):
            yield self.at(model, node, f"axes {list(axes)} contain the batch")


def _axes(model: AccessModel, node: ir.Node) -> tuple[int, ...]:
    stated = model.integers(node, "axes")
    if stated is not None:
        return stated
    value = input_of(node, 1)
    if value is None:
        return ()
    array = model.array(value)
    if array is None or not np.isfinite(array).all():
        raise Malformed("the axes are no constant")
    return tuple(int(axis) for axis in array.reshape(-1))
