"""FC-1: fully connected layers with many inputs, as convolutions of the inputs laid out anew."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir.graph import shape_of
from dlaconv.ir.passes.legal.building import Shape
from dlaconv.ir.passes.legal.flatten_fc import (
    flattened,
    padded_channels,
    whole_map_convolution,
)
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import weights_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target


@legalisation("Gemm", rules=("FC-1",))
def wide_fc_inputs(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """A fully connected layer of many inputs becomes a convolution of these in another layout.

    Identity: K = C H W values in a row are a map [N, C, H, W] of fewer channels; weights [O, K] are
    a kernel [O, C, H, W] for a convolution with one position.

    Conditions: H and W are kernel sizes, and C = K / (H W) is no more than the channels of a map;
    whole groups of channels are preferred. flatten_fc comes first: it needs no other layout.

    Cost: None.
    """
    weights, target = weights_of(node), context.target
    x = node.inputs[0]
    shape = shape_of(x) if x is not None else None
    if weights is None or x is None or shape is None:
        return None
    count = weights.array.shape[1]
    source = flattened(node)
    channels = (shape_of(source) or (0, 1))[1] if source is not None else count
    padded = padded_channels(source, target) if source is not None else channels
    if count // channels * padded <= target.fc_channels[1]:
        return None
    layout = _layout(count, channels, padded, target)
    if layout is None and count > target.fc_channels[1]:
        layout = _layout(count, channels, channels, target)
    if layout is None and count <= target.fc_channels[1]:
        return None
    if layout is None:
        low, high = target.conv.kernel
        return Blocked(
            f"{count} inputs cannot be laid out in {target.map_channels[1]} channels of "
            f"{low}x{low} to {high}x{high} values"
        )
    return whole_map_convolution(node, x, target, layout=(shape[0], *layout))


def _layout(count: int, channels: int, padded: int, target: Target) -> Shape | None:
    """Channels, rows and columns of a map of ``count`` values.

    Args:
        count: the values.
        channels: those of the map that was flattened; if they are to be padded, each has to become
            several.
        padded: their number once they are padded.
        target: the hardware.
    """
    low, high = target.conv.kernel
    most = min(target.conv.channels[1], target.map_channels[1])
    fitting = []
    for rows in range(low, high + 1):
        for columns in range(low, rows + 1):
            made, rest = divmod(count, rows * columns)
            if rest or (made % channels and padded != channels):
                continue
            if made // channels * padded <= most if padded != channels else made <= most:
                fitting.append((made, rows, columns))

    def badness(layout: Shape) -> tuple[bool, bool, int, int]:
        made = layout[0]
        torn = made % channels != 0 and channels % made != 0
        return made % target.channel_multiple != 0 and padded == channels, torn, -made, layout[2]

    return min(fitting, key=badness, default=None)
