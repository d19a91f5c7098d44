"""PL-5, PL-6: on which sides a pooling may be padded."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import AVERAGE_POOL, MAX_POOL, WindowRule
from dlaconv.backends.access.rules.wording import by
from dlaconv.diagnostics import Diagnostic


class MaxPoolTopLeftPadding(WindowRule):
    """A max pooling is padded at the top or left.

    What it does: Checks that max pooling is padded at the bottom and right only; auto_pad is
    resolved first.

    Why it matters on the hardware: The guide says that max pooling pads in these two directions
    only, so padding on the others has no mapping. This meets every ResNet stem (3x3, stride 2,
    padding 1).

    What to do: Let a 1x1 depth-wise identity convolution before it add the top and left padding;
    exact where the map is not negative, that is after ReLU.
    """

    id = "PL-5"
    name = "max-pool-top-left-padding"
    clause = "B, max pooling: padding only in bottom and right directions."
    kinds = (MAX_POOL,)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per pooling."""
        start, _ = window.pads(model, node)
        if any(start):
            yield self.at(model, node, f"padding {by(start)} at the top and left, it must be 0")


class AveragePoolBottomRightPadding(WindowRule):
    """An average pooling is padded at the bottom or right.

    What it does: Checks that average pooling is padded at the top and left only; auto_pad is
    resolved first.

    Why it matters on the hardware: The guide says that average pooling pads in these two directions
    only, so padding on the others has no mapping.

    What to do: Write it as a depth-wise convolution with weights 1/(kernel size), which pads on all
    sides; exact with count_include_pad = 1.
    """

    id = "PL-6"
    name = "average-pool-bottom-right-padding"
    clause = "B, average pooling: padding only in top and left directions."
    kinds = (AVERAGE_POOL,)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per pooling."""
        _, end = window.pads(model, node)
        if any(end):
            yield self.at(model, node, f"padding {by(end)} at the bottom and right, it must be 0")
