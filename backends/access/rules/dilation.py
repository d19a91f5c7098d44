"""CV-6: dilated convolutions."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import CONV, DEPTHWISE, WindowRule
from dlaconv.backends.access.rules.wording import by, span, within
from dlaconv.diagnostics import Diagnostic


class DilatedConv(WindowRule):
    """A convolution is dilated.

    What it does: Checks that the dilation of every convolution, depth-wise ones too, is 1.

    Why it matters on the hardware: The window is read without gaps; the guide has no parameter for
    them.

    What to do: Insert zeros between the kernel's weights, which is exact, as long as the larger
    kernel is legal: 3x3 with dilation 2 is a 5x5, with dilation 3 a 7x7.
    """

    id = "CV-6"
    name = "dilated-conv"
    clause = "Silent; there is no parameter for dilation."
    kinds = (CONV, DEPTHWISE)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per convolution."""
        dilations = window.dilations(model, node)
        if set(dilations) == {1}:
            return
        kernel = window.kernel(model, node)
        dense = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        limits = self.limits(model, node).kernel
        remedy = f"write it as a dense {by(dense)} kernel with zeros between the weights"
        if not all(within(extent, limits) for extent in dense):
            remedy = f"as a dense kernel it would be {by(dense)}, beyond {span(limits)}; retrain it"
        yield self.at(model, node, f"dilation {by(dilations)}, it must be 1", help=remedy)
