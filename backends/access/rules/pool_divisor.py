"""PL-7: what a padded average is divided by."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import AVERAGE_POOL, WindowRule
from dlaconv.diagnostics import Diagnostic, Severity


class UncountedPadding(WindowRule):
    """A padded average pooling does not count its padding.

    What it does: Checks that an average pooling with padding has count_include_pad = 1.

    Why it matters on the hardware: Padding inserts zeros and the sum is divided by the kernel's
    size; a smaller divisor at the border would need hardware that the guide does not mention.

    What to do: Export with count_include_pad = 1 (Caffe and PyTorch do so by default), or pool
    without padding.
    """

    id = "PL-7"
    name = "uncounted-padding"
    clause = "Silent; padding value 0 suggests a division by the kernel's size."
    severity = Severity.WARNING
    kinds = (AVERAGE_POOL,)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per pooling."""
        start, end = window.pads(model, node)
        if any((*start, *end)) and model.integer(node, "count_include_pad", 0) != 1:
            yield self.at(
                model, node, "padding is left out of the average (count_include_pad is 0)"
            )
