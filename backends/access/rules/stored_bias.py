"""SC-5: biases stored on their grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import LINEAR, AccessModel, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.backends.access.rules.wording import some, span
from dlaconv.diagnostics import Diagnostic


class BiasOffGrid(NodeRule):
    """A stored bias is no integer of the accumulator's unit, or does not fit its bits.

    What it does: Divides the bias of every convolution and fully connected layer by weight scale
    times input scale; integers of the target's bias width must come out, to 0.001 plus the rounding
    of float32. The bias must be a constant with one value per output channel.

    Why it matters on the hardware: The bias is added to the accumulator as an integer in the
    accumulator's unit; a value beyond its bits saturates, which ruins the channel.

    What to do: Store S_w S_A times an integer. For a bias that is too large raise the channel's
    weight scale until it fits and quantise its weights again (dlaconv does both).
    """

    id = "SC-5"
    name = "bias-off-grid"
    clause = "II.C, III.A: bias S_b B_int with S_b = S_w S_A, 16 bit."
    ops = LINEAR

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding each for form, grid and range."""
        value = input_of(node, 2)
        if value is None:
            return
        bias, weights = model.array(value), model.weights(node)
        if bias is None:
            yield self.at(model, node, f"the bias {value.name!r} is no constant of numbers")
            return
        if weights is not None and bias.size != len(weights):
            yield self.at(
                model, node, f"{bias.size} bias values for {len(weights)} output channels"
            )
            return
        decoded, facts = model.decode_bias(node), model.weight_facts(node)
        if decoded is None or facts is None:
            return
        off = np.flatnonzero(facts.usable & (decoded.residual > decoded.tolerance))
        if off.size:
            worst = off[decoded.residual[off].argmax()]
            yield self.at(
                model,
                node,
                f"bias of channel {some(off)} is no integer times S_w S_A; channel {worst} is "
                f"{decoded.residual[worst]:.3g} units off",
            )
        low, high = model.target.bias_range
        beyond = np.flatnonzero((decoded.integers < low) | (decoded.integers > high))
        if beyond.size:
            worst = beyond[np.abs(decoded.integers[beyond]).argmax()]
            yield self.at(
                model,
                node,
                f"bias of channel {some(beyond)} does not fit {model.target.bias_bits} bits; "
                f"channel {worst} has {decoded.integers[worst]}, beyond {span((low, high))}",
            )
