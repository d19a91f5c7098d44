"""Clips that a map of the hardware does by itself, where it saturates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from dlaconv.ir.graph import input_array, is_op, is_optional_input_absent, producer
from dlaconv.ir.layers import ACTIVATED

_EVEN = 1 / 64
"""A map of 8 bits has one integer more below zero: relative difference of ends that it can have."""


@dataclass(frozen=True)
class Saturation:
    """A clip as saturation.

    Attributes:
        low: least result.
        high: largest result.
    """

    low: float
    high: float

    @property
    def rectified(self) -> bool:
        """True if the lower end is zero, which is a ReLU."""
        return self.low == 0

    def step(self, limits: tuple[int, int]) -> float:
        """The step with which a map saturates where the clip ends, half a unit beside at most.

        Args:
            limits: smallest and largest integer of the map.
        """
        if self.rectified:
            return self.high / limits[1]
        return (self.high - self.low) / (limits[1] - limits[0])


def clip_ends(node: ir.Node) -> tuple[float, float] | None:
    """Least and largest result of a Clip; None if they are computed or differ within the map."""
    ends = []
    for index, default in ((1, -math.inf), (2, math.inf)):
        if is_optional_input_absent(node, index):
            ends.append(default)
            continue
        array = input_array(node, index)
        if array is None or array.size != 1 or math.isnan(float(array.reshape(-1)[0])):
            return None
        ends.append(float(array.reshape(-1)[0]))
    return ends[0], ends[1]


def saturation_of(low: float, high: float) -> Saturation | None:
    """The saturation that is a clip between two numbers, None if none is.

    Integers are symmetric around zero, so a clip is at zero or as far below it as above.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= 0:
        return None
    if low != 0 and not high <= -low <= high * (1 + _EVEN):
        return None
    return Saturation(low, high)


def saturating_clip(node: ir.Node) -> Saturation | None:
    """What the map behind a layer has to do for a Clip, None if that cannot be its saturation."""
    ends = clip_ends(node) if is_op(node, "Clip") else None
    if ends is None or not is_op(producer(node.inputs[0]), *ACTIVATED):
        return None
    return saturation_of(*ends)
