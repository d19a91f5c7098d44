"""SC-10: the width of the accumulator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import LINEAR, AccessModel, Unknown, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import some
from dlaconv.diagnostics import Diagnostic, Severity


class AccumulatorOverflow(NodeRule):
    """A layer's sum can exceed the accumulator.

    What it does: Bounds the sum from the integers that are there: magnitudes of a channel's weights
    times the largest magnitude of a map, plus the bias. For MatMul it takes the largest magnitude
    for both operands.

    Why it matters on the hardware: An accumulator that overflows wraps around, and a large positive
    value becomes a negative one. Its width is not documented; 32 bits are assumed.

    What to do: Split the layer, or use a larger weight scale. Layers within the size limits cannot
    reach 32 bits.
    """

    id = "SC-10"
    name = "possible-overflow"
    clause = "Silent on the accumulator; 32 bits assumed."
    severity = Severity.WARNING
    ops = (*LINEAR, "MatMul")

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per layer."""
        target = model.target
        largest, limit = -target.map_range[0], 2 ** (target.accumulator_bits - 1)
        if node.op_type == "MatMul":
            shape = model.shape(input_of(node, 0))
            depth = shape[-1] if shape else None
            if depth is None:
                raise Unknown("the number of products is not known")
            bounds = np.asarray([float(depth) * largest * largest])
        else:
            facts = model.weight_facts(node)
            if facts is None:
                return
            bounds = facts.total * float(largest)
            bias = model.decode_bias(node)
            if bias is not None and bias.integers.shape == bounds.shape:
                bounds = bounds + np.abs(bias.integers)
        beyond = np.flatnonzero(bounds >= limit)
        if beyond.size:
            yield self.at(
                model,
                node,
                f"the sum of channel {some(beyond)} can reach {bounds.max():.3g}, beyond "
                f"{target.accumulator_bits} bits",
            )
