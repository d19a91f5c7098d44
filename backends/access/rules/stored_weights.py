"""SC-4: weights stored on their grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access import decoding
from dlaconv.backends.access.model import LINEAR, AccessModel
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.weight_range import range_offence
from dlaconv.backends.access.rules.wording import some
from dlaconv.diagnostics import Diagnostic


class WeightsOffGrid(NodeRule):
    """Stored weights are no integers times their scale.

    What it does: Divides the weights of every convolution and fully connected layer by their
    channel's scale and checks that integers come out, to 0.001. The weights must be constants. For
    fully connected layers it checks the integers' range as well (convolutions: CV-8, DW-6).

    Why it matters on the hardware: The compiler divides in the same way and rounds; weights off the
    grid become other weights.

    What to do: Store scale times integer. If a whole file is off its grid, its scales follow the
    other convention; pass --scale-convention.
    """

    id = "SC-4"
    name = "weights-off-grid"
    clause = "III.A: weights are stored as S_w W_int."
    ops = LINEAR

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per layer."""
        if model.weights(node) is None:
            yield self.at(
                model,
                node,
                "the weights are no constant of numbers",
                help="store them as initializer, or use MatMul to multiply two maps",
            )
            return
        facts = model.weight_facts(node)
        if facts is None:
            return
        off = np.flatnonzero(facts.usable & (facts.residual > decoding.RESIDUAL_TOLERANCE))
        if facts.vanished.any() and (remedy := _other_convention(model, node)):
            yield self.at(
                model,
                node,
                f"weights of channel {some(np.flatnonzero(facts.vanished))} all become 0 (scale "
                f"convention '{model.convention}', {model.convention_source})",
                help=remedy,
            )
        elif off.size:
            worst = off[facts.residual[off].argmax()]
            yield self.at(
                model,
                node,
                f"weights of channel {some(off)} are no integers times their scale; in channel "
                f"{worst} one is {facts.residual[worst]:.3g} units off (scale convention "
                f"'{model.convention}', {model.convention_source})",
                help=_other_convention(model, node),
            )
        elif node.op_type == "Gemm" and (offence := range_offence(model, node)):
            yield self.at(model, node, offence)


def _other_convention(model: AccessModel, node: ir.Node) -> str:
    weights, scales = model.weights(node), model.numbers(node, "weight_ch_scales")
    if weights is None or scales is None:
        return ""
    found, _ = decoding.detect_convention([(weights, scales)], model.target.weight_range)
    if found is None or found == model.convention:
        return ""
    return f"this layer's weights are integers as '{found}': try --scale-convention {found}"
