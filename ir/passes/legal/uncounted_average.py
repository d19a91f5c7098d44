"""PL-7, PL-8: averages that divide by less at the border."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import onnx_ir as ir

from dlaconv.ir.passes.legal.averages import Average, average_of, early, exact_divisor
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.channel_kinds import padded_count
from dlaconv.ir.passes.legal.identity import shape, zero_border
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.picking import Picks, keeps_zero, pick
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target


@legalisation("AveragePool", rules=("PL-2", "PL-3", "PL-4", "PL-6", "PL-7", "PL-8"))
def uncounted_average(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An average pool that leaves padding out of its averages becomes a product with a matrix.

    Identity: Row o of a matrix [positions out, positions in] holds 1/d at the d positions that
    window o averages, and zeros elsewhere. With positions as channels and channels as positions,
    which Reshape and Transpose make of a map, it is a 1x1 convolution; each output channel has a
    weight step of its own, so every window has its own divisor, and is rounded once.

    Conditions: The map has no more positions than a layer has channels. Rows and columns of zeros
    make positions a multiple of the hardware's channels, and a 1x1 convolution adds channels of
    zeros where there are no whole groups: channels that become positions cannot be padded later.
    What the result has more of is cut off by a convolution, which needs averages that are quantised
    right behind the pool, or not at all. If the source quantises, the weight grid holds 1/d.

    Cost: For each channel, positions of the map times positions of the result; and the convolutions
    that add and cut off.
    """
    average = average_of(node)
    if average is None or average.divisor is not None:
        return None
    builder, target = Builder(node), context.target
    x, (samples, own, *size), store = builder.x, shape(builder.x), early(builder, node)
    if not all(exact_divisor(d, x, context) for d in np.unique(_divisors(average)).tolist()):
        return Blocked("the grid of weight steps does not hold the inverse of a window's divisor")
    inside = _aligned(size, target, target.depthwise.padding[1])
    outside = _aligned(average.counts, target, target.depthwise.kernel[1] - 1)
    # a result that cannot be cut to its channels keeps those it has
    channels = padded_count(own, target) or own if store is not None else own
    folded = _folded(channels, target)
    if inside is None or outside is None or folded is None:
        by = "x".join(map(str, size))
        return Blocked(f"the {by} positions of the map are too many for the channels of a layer")
    if inside != tuple(size) and not keeps_zero(stored_quantisation(x)):
        return Blocked("zero is not on the map's grid, so no convolution can pad it")
    added = [wide - extent for wide, extent in zip(inside, size, strict=True)]
    if channels != own:
        further = np.concatenate([np.arange(own), np.full(channels - own, -1)])
        picks = Picks(further, np.zeros((channels, 2), np.int64), (1, 1), (size[0], size[1]))
        widened = pick(builder, x, picks, context)
        if isinstance(widened, Blocked):
            return widened
        x = builder.stored_like(widened, x)
    bordered = zero_border(builder, context, x, (0, 0, *added))
    if isinstance(bordered, Blocked):
        return bordered
    positions, results = math.prod(inside), math.prod(outside)
    rows = builder.reshape(bordered, (samples, channels, positions, 1))
    columns = builder.reshape(builder.transpose(rows, (0, 2, 1, 3)), (samples, positions, *folded))
    averaged = builder.conv(columns, _matrix(average, inside, outside))
    back = builder.reshape(averaged, (samples, results, channels, 1))
    value = builder.reshape(builder.transpose(back, (0, 2, 1, 3)), (samples, channels, *outside))
    if (channels, outside) != (own, average.counts):
        if store is None:
            return Blocked("the result needs another layer, and is not quantised right away")
        picks = Picks.all_of(own, (0, 0), (average.counts[0], average.counts[1]))
        cut = pick(builder, store(value), picks, context)
        if isinstance(cut, Blocked):
            return cut
    return builder.plan(f"a {results} x {positions} matrix of averages for each channel")


def _divisors(average: Average) -> np.ndarray:
    """What each window divides by, ``[rows, columns]``."""
    rows, columns = average.counted
    divisors: np.ndarray = np.outer(rows, columns)
    return divisors


def _matrix(average: Average, inside: Sequence[int], outside: Sequence[int]) -> Weights:
    """Ones where a window averages a position, with a step of their own for each window."""
    rows, columns = (_covered(average, axis, inside[axis], outside[axis]) for axis in range(2))
    divisors = np.ones(outside)
    divisors[: average.counts[0], : average.counts[1]] = _divisors(average)
    ones = np.kron(rows, columns)[:, :, None, None]
    return Weights(ones.astype(np.int8), 0, 1 / divisors.reshape(-1))


def _covered(average: Average, axis: int, size: int, count: int) -> np.ndarray:
    """Ones where a window ``[count]`` covers an element of the map ``[size]``, else zeros."""
    window = average.window
    found = np.zeros((count, size), np.int64)
    for index in range(average.counts[axis]):
        start = index * window.strides[axis] - window.pads[axis]
        found[index, max(start, 0) : min(start + window.kernel[axis], window.size[axis])] = 1
    return found


def _aligned(size: Sequence[int], target: Target, most: int) -> tuple[int, int] | None:
    """The smallest extents that hold so many positions in whole groups of channels.

    Args:
        size: rows and columns.
        target: its channels.
        most: rows and columns that may be added.
    """
    limit = min(target.map_channels[1], target.conv.channels[1])
    found = [
        (size[0] + rows, size[1] + columns)
        for rows, columns in product(range(most + 1), repeat=2)
        if (size[0] + rows) * (size[1] + columns) % target.channel_multiple == 0
    ]
    fitting = [extents for extents in found if math.prod(extents) <= limit]
    return min(fitting, key=math.prod, default=None)


def _folded(channels: int, target: Target) -> tuple[int, int] | None:
    """Channels as rows and columns of a map."""
    most = target.map_size[1]
    heights = [height for height in range(1, most + 1) if channels % height == 0]
    height = max(heights)
    return (height, channels // height) if channels // height <= most else None
