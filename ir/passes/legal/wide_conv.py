"""CV-3: convolutions with many output channels, in parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute
from dlaconv.ir.passes.legal.activated import activated
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.convolutions import CONSTANTS
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.wide_fc_outputs import runs
from dlaconv.ir.passes.linear_ops import bias_of, weights_of
from dlaconv.ir.passes.windows import window_of
from dlaconv.ir.pipeline import Context


@legalisation("Conv", rules=("CV-3",))
def wide_conv(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A convolution with many output channels becomes several, joined by Concat.

    Identity: Output channels are filters of their own; any split of the filters computes the same.
    An activation behind the layer stands behind each part.

    Conditions: The weights are constants. Where the result is rounded, it is rounded in one way
    with one step. The joined map still has its channels: what reads it may have to be split, too.
    Depth-wise convolutions cannot be split: they would need parts of the map that they read.

    Cost: None.
    """
    window, layer, most = window_of(node), activated(node), context.target.conv.channels[1]
    weights = weights_of(node)
    group = int(attribute(node, "group", 1))
    if window is None:
        return None
    if weights is None or weights.channels <= most:
        return None
    if group != 1:
        return Blocked(
            f"parts of its groups would read parts of a map of more than {most} channels"
        )
    bias = bias_of(node, weights.channels)
    if bias is None:
        return Blocked(CONSTANTS)
    if layer.problem is not None:
        return Blocked(layer.problem)
    builder = Builder(node)
    parts, sizes = [], []
    for rows in runs(weights.channels, most, context.target.channel_multiple):
        steps = None if weights.steps is None else weights.steps[rows]
        value = builder.conv(
            builder.x,
            replace(weights, array=weights.array[rows], steps=steps),
            bias[rows] if bias.any() else None,
            strides=window.strides,
            pads=window.pads,
            dilations=window.dilations,
        )
        channels = np.arange(weights.channels)[rows]
        parts.append(layer.activate(builder, value, channels))
        sizes.append(str(len(channels)))
    builder.concat(parts)
    detail = f"{weights.channels} output channels in parts of {', '.join(sizes)}"
    return builder.plan(detail, behind=layer.activation)
