"""CT-1: what may be concatenated."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic


class ConcatAxis(NodeRule):
    """A concatenation is not one of whole channel groups.

    What it does: Checks that maps are concatenated on the channel axis, that none of them is a
    constant, and that a graph input among them fills whole channel groups (all others are held to
    that by IO-3).

    Why it matters on the hardware: Maps are kept in groups of channels, so parts of whole groups
    are put one behind the other; along another axis values would have to be moved, of which the
    guide does not speak.

    What to do: Concatenate on axis 1. Pad a graph input with zero channels first.
    """

    id = "CT-1"
    name = "concat-axis"
    clause = "B, concatenation: multiple sources."
    ops = ("Concat",)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields findings for the axis and for single parts."""
        axis = model.integer(node, "axis", 1)
        shapes = [model.shape(value) for value in node.inputs]
        rank = next((len(shape) for shape in shapes if shape is not None), None)
        if (axis + rank if axis < 0 and rank is not None else axis) != 1:
            yield self.at(model, node, f"axis {axis}, it must be the channel axis 1")
        multiple, inputs = model.target.channel_multiple, set(model.inputs)
        for value, shape in zip(node.inputs, shapes, strict=True):
            if value is not None and model.is_constant(value):
                yield self.at(model, node, f"part {value.name!r} is a constant")
                continue
            channels = shape[1] if shape is not None and len(shape) == 4 else None
            if value in inputs and channels is not None and channels % multiple:
                yield self.at(
                    model,
                    node,
                    f"part {value.name!r} is a graph input of {channels} channels, no multiple of "
                    f"{multiple}",
                )
