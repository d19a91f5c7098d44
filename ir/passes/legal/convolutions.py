"""What rewrites of convolutions ask about one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute, shape_of
from dlaconv.ir.target import KernelLimits, Target

CONSTANTS = "the weights are no constants with one step per output channel"
"""Why a rewrite that changes weights is impossible."""


def is_depthwise(conv: ir.Node) -> bool:
    """True if each channel is a group of its own, with one filter."""
    shape = shape_of(conv.inputs[1]) if conv.inputs[1] is not None else None
    group = int(attribute(conv, "group", 1))
    return shape is not None and group > 1 and shape[:2] == (group, 1)


def limits_of(conv: ir.Node, target: Target) -> KernelLimits:
    """What the target allows for a convolution's kind."""
    return target.depthwise if is_depthwise(conv) else target.conv


def bias_input(conv: ir.Node) -> ir.Value | None:
    """The bias as a value, None without one."""
    return conv.inputs[2] if len(conv.inputs) > 2 else None


def spread(array: np.ndarray, dilations: Sequence[int]) -> np.ndarray:
    """Weights ``[O, C, k1, ...]`` with their taps ``dilations`` apart, and zeros between them."""
    kernel = array.shape[2:]
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    result = np.zeros((*array.shape[:2], *extents), array.dtype)
    taps = tuple(slice(None, None, dilation) for dilation in dilations)
    result[(slice(None), slice(None), *taps)] = array
    return result
