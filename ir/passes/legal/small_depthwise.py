"""DW-1: depth-wise convolutions on maps that are too small for them."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS, bias_input, is_depthwise
from dlaconv.ir.passes.legal.grouped_conv import block_diagonal
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.passes.windows import window_of
from dlaconv.ir.pipeline import Context


@legalisation("Conv", rules=("DW-1",))
def small_depthwise(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A depth-wise convolution on a map below the smallest size becomes dense.

    Identity: A dense kernel with the depth-wise weights on its diagonal, and zeros between
    different channels, has the same sums.

    Conditions: The weights are constants. The map has no more channels than a dense convolution
    can have.

    Cost: (channels - 1) times the multiplications of the layer; such maps are tiny.
    """
    window = window_of(node)
    if window is None or not is_depthwise(node):
        return None
    smallest = context.target.depthwise.map_size[0]
    if min(window.size) >= smallest:
        return None
    weights = weights_of(node)
    if weights is None:
        return Blocked(CONSTANTS)
    channels, most = weights.channels, context.target.conv.channels[1]
    if channels > most:
        return Blocked(f"a dense convolution has at most {most} channels, not {channels}")
    builder = Builder(node)
    builder.conv(
        builder.x,
        replace(weights, array=block_diagonal(weights.array, channels)),
        bias_input(node),
        strides=window.strides,
        pads=window.pads,
        dilations=window.dilations,
    )
    size = "x".join(map(str, window.size))
    return builder.plan(
        f"depth-wise on a map of {size}, below {smallest}, as a dense convolution with "
        f"{channels} x {channels} kernels of which all off the diagonal are zeros"
    )
