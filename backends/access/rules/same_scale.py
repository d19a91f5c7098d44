"""SC-7: operators that keep the scale."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, output_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.shared_scale import differ
from dlaconv.diagnostics import Diagnostic, Severity


class ScaleChange(NodeRule):
    """An operator changes the scale, but has no arithmetic to do so.

    What it does: Checks that input and output of the target's same-scale operators have one scale:
    max pooling, ReLU and its kin, Concat (all parts), Transpose and reshaping. For HardSwish it is
    a warning, since the guide counts it among the piecewise-linear functions, too.

    Why it matters on the hardware: These operators select or move integers; none of them shifts
    bits, so the integers mean the same before and after.

    What to do: Give all maps around the operator one scale; dlaconv chooses it for the whole group.
    """

    id = "SC-7"
    name = "scale-change"
    clause = "II: max pooling, other activations and other operators have one scale in and out."

    def subjects(self, model: AccessModel) -> Iterator[ir.Node]:
        """The target's same-scale operators."""
        return model.nodes_of(*model.target.same_scale_ops)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields one finding per input whose scale is not the output's."""
        stated = model.number(node, "output_scale")
        after = stated if stated is not None else model.map_scale(output_of(node))
        for index, value in enumerate(node.inputs):
            if value is None or not model.is_map(value):
                continue
            # Concat states one scale for all of its parts, whatever theirs are
            stated = None if node.op_type == "Concat" else model.input_scale(node, index)
            before = stated if stated is not None else model.map_scale(value)
            if before is not None and after is not None and differ(before, after):
                yield self.at(
                    model,
                    node,
                    f"{node.op_type} reads {value.name!r} with scale {before:.9g} and writes scale "
                    f"{after:.9g}",
                    severity=Severity.WARNING if node.op_type == "HardSwish" else None,
                )
