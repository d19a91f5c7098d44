"""IO-5: the memory for the weights of a layer."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from dlaconv.backends.access.model import LINEAR, AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity


class OversizedWeights(NodeRule):
    """The weights of a layer do not fit the weight buffer.

    What it does: Compares the bytes of a layer's integers with the target's weight_buffer; a target
    that leaves it at 0 has no known limit.

    Why it matters on the hardware: The weights of a layer are loaded at once; the guide only says
    that their size depends on the buffer of the chip at hand.

    What to do: Split the layer by output channels and concatenate the results, which is exact.
    """

    id = "IO-5"
    name = "oversized-weights"
    clause = "A, Weights: depends on the hardware's buffer size."
    severity = Severity.WARNING
    ops = LINEAR

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields a finding if the buffer is too small."""
        limit = model.target.weight_buffer
        weights = model.weights(node) if limit else None
        if weights is None:
            return
        size = -(-weights.size * model.target.weight_bits // 8)
        if size > limit:
            yield self.at(model, node, f"the weights take {size} bytes, the buffer has {limit}")
