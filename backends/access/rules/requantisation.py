"""SC-9: the shift after the accumulator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.decoding import float_steps, usable_scales
from dlaconv.backends.access.model import LINEAR, AccessModel, input_of, output_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import some
from dlaconv.diagnostics import Diagnostic, Severity


class RequantisationShift(NodeRule):
    """The step from accumulator to output needs a shift that the hardware may not have.

    What it does: Computes S_w S_A / S_C per output channel (S_A S_B / S_C for MatMul), the factor
    by which the accumulator is multiplied, as an integer of the weights' width and a right shift. A
    left shift is a warning, and an error below the target's min_shift; a right shift beyond
    max_shift is a warning, too. Channels of nothing but zeros do not count.

    Why it matters on the hardware: The factor is a small multiplier and a right shift. A left shift
    means that the output is finer than the accumulator; field compilers abort below -1. A shift
    beyond the accumulator leaves nothing but zeros.

    What to do: Choose a larger output scale, or a weight scale of the magnitude of the weights.
    """

    id = "SC-9"
    name = "requantisation-shift"
    clause = "Silent; a field compiler checks that the shift is at least -1."
    severity = Severity.WARNING
    ops = (*LINEAR, "MatMul")

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for left and right shifts."""
        factors = _factors(model, node)
        usable = usable_scales(factors)
        _, exponent = np.frexp(np.where(usable, factors, 1.0))
        left = exponent - model.target.weight_bits  # > 0: the largest multiplier is not enough
        target = model.target
        worst = int(left[usable].max(initial=0))
        if worst > 0:
            yield self.at(
                model,
                node,
                f"channel {some(np.flatnonzero(usable & (left > 0)))} needs a left shift, by "
                f"{worst} bits at worst",
                severity=Severity.ERROR if -worst < target.min_shift else None,
            )
        right = 1 - exponent  # with a multiplier of 1
        lost = np.flatnonzero(usable & (right > target.max_shift))
        if lost.size:
            yield self.at(
                model,
                node,
                f"channel {some(lost)} needs a right shift by {right[lost].max()} bits, beyond "
                f"{target.max_shift}",
            )


def _factors(model: AccessModel, node: ir.Node) -> np.ndarray:
    """Accumulator units in units of the output, per channel; nan where that is not known."""
    inputs = (0, 1) if node.op_type == "MatMul" else (0,)
    steps = [model.map_step(input_of(node, index)) for index in inputs]
    after = model.map_step(output_of(node))
    ratio = np.nan
    if after is not None:
        ratio = float(np.prod([np.nan if step is None else step for step in steps])) / after
    if node.op_type == "MatMul":
        return np.asarray([ratio])
    scales, facts = model.numbers(node, "weight_ch_scales"), model.weight_facts(node)
    if scales is None or facts is None:
        return np.asarray([np.nan])
    with np.errstate(over="ignore"):
        factors: np.ndarray = float_steps(scales, model.convention) * ratio
    return np.where(facts.total > 0, factors, np.nan)
