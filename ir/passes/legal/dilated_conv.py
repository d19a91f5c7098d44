"""CV-6: dilated convolutions as ones with zeros in the kernel."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, bias_input, limits_of, spread
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.passes.windows import window_of
from dlaconv.ir.pipeline import Context


@legalisation("Conv", rules=("CV-6",))
def dilated_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A dilated convolution becomes one whose kernel has zeros between its taps.

    Identity: A kernel of k taps that are d apart covers (k - 1) d + 1 positions. The kernel of
    that extent with the same taps, and zeros at all other positions, has the same sums.

    Conditions: The weights are constants, and the extent is one that the hardware's kernels have.
    Larger ones are for polyphase.

    Cost: The layer's multiplications times (extent / k) along each dilated axis.
    """
    window = window_of(node)
    if window is None or all(dilation == 1 for dilation in window.dilations):
        return None
    limits = limits_of(node, context.target)
    if max(window.extents) > limits.kernel[1]:
        extents = "x".join(map(str, window.extents))
        return Blocked(
            f"with zeros between its taps the kernel is {extents}, the limit is {limits.kernel[1]}"
        )
    weights = weights_of(node)
    if weights is None:
        return Blocked(CONSTANTS)
    builder = Builder(node)
    builder.conv(
        builder.x,
        replace(weights, array=spread(weights.array, window.dilations)),
        bias_input(node),
        strides=window.strides,
        pads=window.pads,
        group=int(attribute(node, "group", 1)),
    )
    before, after = ("x".join(map(str, size)) for size in (window.kernel, window.extents))
    return builder.plan(f"a dilated {before} kernel as a {after} one with zeros between the taps")
