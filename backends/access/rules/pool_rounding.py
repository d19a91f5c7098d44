"""PL-8: forms of pooling that the hardware does not have."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access import window
from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import AVERAGE_POOL, MAX_POOL, WindowRule
from dlaconv.backends.access.rules.wording import by
from dlaconv.diagnostics import Diagnostic


class PoolCeilMode(WindowRule):
    """A pooling rounds its size up, or is dilated.

    What it does: Checks that ceil_mode is 0 and every dilation 1.

    Why it matters on the hardware: The guide has no parameter for either; the compiler computes the
    size of the result from kernel, stride and padding, rounding down.

    What to do: Replace ceil_mode by explicit padding at the bottom and right (legal for max
    pooling, where it is exact). Dilated pooling has no replacement.
    """

    id = "PL-8"
    name = "pool-ceil-mode"
    clause = "Silent; there is no parameter for ceil_mode or dilation."
    kinds = (MAX_POOL, AVERAGE_POOL)

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for ceil_mode and dilation."""
        if mode := model.integer(node, "ceil_mode", 0):
            yield self.at(model, node, f"ceil_mode is {mode}, it must be 0")
        dilations = window.dilations(model, node)
        if set(dilations) != {1}:
            yield self.at(model, node, f"dilation {by(dilations)}, it must be 1")
