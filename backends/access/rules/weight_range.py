"""CV-8, DW-6: the range of weight integers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel
from dlaconv.backends.access.rules.window_rule import CONV, DEPTHWISE, WindowRule
from dlaconv.backends.access.rules.wording import some, span
from dlaconv.diagnostics import Diagnostic


def range_offence(model: AccessModel, node: ir.Node) -> str:
    """What is wrong with the range of a layer's integers, empty if nothing is."""
    facts = model.weight_facts(node)
    if facts is None:
        return ""
    low, high = model.target.weight_range
    beyond = np.flatnonzero(facts.usable & ((facts.low < low) | (facts.high > high)))
    if not beyond.size:
        return ""
    return (
        f"weights of channel {some(beyond)} are integers of {facts.low[beyond].min()} to "
        f"{facts.high[beyond].max()}, beyond {span((low, high))} (scale convention "
        f"'{model.convention}', {model.convention_source})"
    )


class _WeightRange(WindowRule):
    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per convolution."""
        if offence := range_offence(model, node):
            yield self.at(model, node, offence)


class ConvWeightRange(_WeightRange):
    """A convolution's weights do not fit the bits that the hardware has for them.

    What it does: Divides the stored weights by their channel's scale and checks the range.

    Why it matters on the hardware: Weights are signed integers of fixed width; what becomes of
    larger ones is not documented.

    What to do: Use a larger weight scale for these channels and quantise them again.
    """

    id = "CV-8"
    name = "conv-weight-range"
    clause = "B.2: bit width 8 bit."
    kinds = (CONV,)


class DepthwiseWeightRange(_WeightRange):
    """A depth-wise convolution's weights do not fit the bits that the hardware has for them.

    What it does: Divides the stored weights by their channel's scale and checks the range.

    Why it matters on the hardware: Weights are signed integers of fixed width; what becomes of
    larger ones is not documented.

    What to do: Use a larger weight scale for these channels and quantise them again.
    """

    id = "DW-6"
    name = "depthwise-weight-range"
    clause = "B, depth-wise convolution: bit width 8 bit."
    kinds = (DEPTHWISE,)
