"""AC-4: the slopes of LeakyReLU and PReLU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from dlaconv.backends.access.model import AccessModel, Malformed, Unknown, input_of
from dlaconv.backends.access.rules.rule import NodeRule
from dlaconv.diagnostics import Diagnostic, Severity

_ONNX_DEFAULT_ALPHA = 0.01
_MOST_FRACTION_BITS = 31


class InexactSlope(NodeRule):
    """A LeakyReLU's or PReLU's slope is none that the hardware is sure to have.

    What it does: Checks that every slope lies in 0..1 and is an integer of the weights' width times
    a power of two (0.125 and 0.1015625 are, 0.01 is not), and that there is one slope in all or one
    per channel.

    Why it matters on the hardware: The guide does not say how slopes are stored; a multiplier of
    the weights' width and a shift is the most that can be expected. Another slope is rounded
    somewhere, and negative values then differ from the simulator's.

    What to do: Train with a slope such as 0.125, or accept the rounding.
    """

    id = "AC-4"
    name = "inexact-slope"
    clause = "Silent on the format of slopes."
    severity = Severity.WARNING
    ops = ("LeakyRelu", "PRelu")

    def check_node(self, model: AccessModel, node: ir.Node) -> Iterator[Diagnostic]:
        """Yields at most one finding per activation."""
        slopes = self._slopes(model, node)
        inside = (slopes >= 0) & (slopes <= 1)  # nan is outside
        if not inside.all():
            worst = slopes[~inside].flat[0]
            yield self.at(model, node, f"slope {worst:.6g} does not lie in 0..1")
            return
        shape = model.shape(input_of(node, 0))
        channels = shape[1] if shape is not None and len(shape) > 1 else None
        if slopes.size > 1 and channels is not None and slopes.size != channels:
            yield self.at(
                model, node, f"{slopes.size} slopes for {channels} channels, not 1 per channel"
            )
            return
        inexact = slopes.flat[~_representable(slopes, model.target.weight_range[1]).reshape(-1)]
        if inexact.size:
            bits = model.target.weight_bits
            yield self.at(
                model, node, f"slope {inexact[0]:.6g} is no {bits}-bit integer times a power of two"
            )

    def _slopes(self, model: AccessModel, node: ir.Node) -> np.ndarray:
        if node.op_type == "LeakyRelu":
            alpha = model.number(node, "alpha")
            if alpha is None and "alpha" in node.attributes:
                raise Malformed("alpha is no number")
            return np.asarray([_ONNX_DEFAULT_ALPHA if alpha is None else alpha])
        array = model.array(input_of(node, 1))
        if array is None:
            raise Malformed("the slope is no constant")
        if not array.size:
            raise Unknown("there is no slope")
        return np.asarray(array, np.float64)


def _representable(slopes: np.ndarray, largest: int) -> np.ndarray:
    mantissa, exponent = np.frexp(slopes)
    scaled = np.ldexp(mantissa, largest.bit_length())  # an integer if that many bits are enough
    fits: np.ndarray = (scaled == np.rint(scaled)) & (exponent > -_MOST_FRACTION_BITS)
    return fits
