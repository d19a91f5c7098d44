"""CV-7: grouped convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, input_of
from dlaconv.backends.access.rules.window_rule import CONV, WindowRule
from dlaconv.diagnostics import Diagnostic


class GroupedConv(WindowRule):
    """A convolution has groups, but is not depth-wise.

    What it does: Checks that the group attribute is 1, or that each channel is a group of its own
    with one filter.

    Why it matters on the hardware: The guide knows standard and depth-wise convolutions only.

    What to do: Write it as a standard convolution whose weights are zero between different groups,
    which is exact. A depth-wise convolution with several filters per channel is such a case, too.
    """

    id = "CV-7"
    name = "grouped-conv"
    clause = "B, convolution: standard and depth-wise convolution."
    kinds = (CONV,)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per convolution."""
        group = model.integer(node, "group", 1)
        shape = model.shape(input_of(node, 1))
        if group < 1:
            raise Malformed(f"group is {group}")
        if group != 1:
            channels = ""
            if shape is not None and len(shape) > 1 and None not in shape[:2]:
                channels = f" for {(shape[1] or 0) * group} channels in and {shape[0]} out"
            yield self.at(model, node, f"{group} groups{channels}: neither standard nor depth-wise")
