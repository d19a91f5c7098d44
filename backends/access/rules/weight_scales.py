"""SC-2, SC-3: scales of weight channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.decoding import grid_error, usable_scales
from dlaconv.backends.access.model import LINEAR, AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import some, span
from dlaconv.diagnostics import Diagnostic

_FLOAT32_ERROR = 2.0**-22


class WeightScaleGrid(NodeRule):
    """A weight scale is no power of two divided by a small integer.

    What it does: Checks that every entry of weight_ch_scales is 2^n/a within the rounding of
    float32 (2^-22), with a from the target's range.

    Why it matters on the hardware: The requantisation after the accumulator is a multiplication by
    an 8-bit number and a shift; other scales are rounded by the compiler without a word, and the
    result differs from what you verified.

    What to do: Convert the network with dlaconv, which rounds to the nearest such scale (at most
    0.4 % away) and reports it.
    """

    id = "SC-2"
    name = "weight-scale-grid"
    clause = "II: weight scale 2^n/a, a in 1 to 255, per output channel."
    ops = LINEAR

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per layer."""
        scales = model.numbers(node, "weight_ch_scales")
        if scales is None:
            return
        usable = np.flatnonzero(usable_scales(scales))
        errors = grid_error(scales[usable], model.target.scale_divisor)
        off = usable[errors > _FLOAT32_ERROR]
        if off.size:
            worst = usable[errors.argmax()]
            yield self.at(
                model,
                node,
                f"scale of channel {some(off)} is no 2^n/a with a in "
                f"{span(model.target.scale_divisor)}; channel {worst} has {scales[worst]:.9g}, "
                f"{errors.max():.2g} away",
            )


class WeightScaleCount(NodeRule):
    """Weight scales are missing for some channels, or unusable.

    What it does: Checks that weight_ch_scales has one positive, finite entry per output channel.

    Why it matters on the hardware: Every output channel has a requantisation of its own. An
    infinite scale, which field tools write for channels of zeros, makes the multiplier meaningless.

    What to do: Write one scale per output channel; give an all-zero channel any legal scale, such
    as that of its neighbour.
    """

    id = "SC-3"
    name = "weight-scale-count"
    clause = "III.B.1: weight_ch_scales, one per output channel."
    ops = LINEAR

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for number and values."""
        scales, weights = model.numbers(node, "weight_ch_scales"), model.weights(node)
        if scales is None:
            return
        if weights is not None and scales.size != len(weights):
            yield self.at(
                model, node, f"{scales.size} weight scales for {len(weights)} output channels"
            )
        unusable = np.flatnonzero(~usable_scales(scales))
        if unusable.size:
            yield self.at(
                model,
                node,
                f"scale of channel {some(unusable)} is not positive and finite: "
                f"{scales[unusable[0]]:g}",
            )
