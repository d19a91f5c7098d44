"""Convolutions that copy a map: padded with zeros, or fewer of its rows and columns.

On a quantised map they change no integer: their weights are ones and zeros, and their result has
the grid of what they copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import producer, shape_of
from dlaconv.ir.passes.legal.building import Builder
from dlaconv.ir.passes.legal.legalisation import Blocked
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import KernelLimits

_HEIGHT, _WIDTH = 2, 3


def scaled_window(
    builder: Builder,
    context: Context,
    x: ir.Value,
    kernel: np.ndarray,
    *,
    gain: float = 1.0,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    bias: np.ndarray | None = None,
) -> ir.Value | Blocked:
    """A convolution that does the same to every channel; not rounded yet.

    Args:
        builder: collects the nodes.
        context: its target decides between depth-wise and dense.
        x: the map ``[N, C, H, W]``.
        kernel: zeros and ones ``[kh, kw]``.
        gain: what a one of the kernel is worth.
        strides: along height and width.
        pads: top, left, bottom, right.
        bias: one number per channel.
    """
    channels, *size = shape(x)[1:]
    target = context.target
    if _fits(target.depthwise, channels, size, kernel.shape, strides, pads):
        group, pattern = channels, np.ones((channels, 1), np.int8)
    elif _fits(target.conv, channels, size, kernel.shape, strides, pads):
        group, pattern = 1, np.eye(channels, dtype=np.int8)
    else:
        return Blocked(
            f"the hardware has no {_by(kernel.shape)} convolution with strides {_by(strides)} and "
            f"padding {list(pads)} for a map of {channels}x{_by(size)}"
        )
    array = pattern[:, :, None, None] * kernel.astype(np.int8)
    weights = Weights(array, 0, np.full(channels, gain))
    result = builder.conv(x, weights, bias, strides=strides, pads=pads, group=group)
    layer = producer(result)
    assert layer is not None
    builder.gains.append(layer)
    return result


def zero_border(
    builder: Builder, context: Context, x: ir.Value, pads: Sequence[int]
) -> ir.Value | Blocked:
    """A map with zeros around it.

    Args:
        builder: collects the nodes.
        context: its target limits the pads of one convolution, so there may be several.
        x: the map ``[N, C, H, W]``.
        pads: top, left, bottom, right.
    """
    left, value = list(pads), x
    most = context.target.depthwise.padding[1]
    if most < 1 and any(left):
        return Blocked("the hardware pads no convolution")
    while any(left):
        now = [min(pad, most) for pad in left]
        padded = scaled_window(builder, context, value, _ONE, pads=now)
        if isinstance(padded, Blocked):
            return padded
        if (too_large := oversized(context, shape(padded))) is not None:
            return too_large
        value = builder.stored_like(padded, x)
        left = [pad - done for pad, done in zip(left, now, strict=True)]
    return value


def subsampled(
    builder: Builder,
    context: Context,
    x: ir.Value,
    strides: Sequence[int],
    counts: Sequence[int],
    store: Callable[[ir.Value], ir.Value],
) -> ir.Value | Blocked:
    """Every so many rows and columns of a map, from the first on; not rounded yet.

    Even strides are convolutions that skip every other row; odd ones fold each run of as many
    columns into a row of its own, of which a convolution takes the first.

    Args:
        builder: collects the nodes.
        context: its target limits what one convolution can do.
        x: the map ``[N, C, H, W]``; stored, unless both strides are one.
        strides: along height and width.
        counts: rows and columns that are wanted.
        store: rounds to the grid of ``x``.
    """
    value, left = x, list(strides)
    while any(stride % 2 == 0 for stride in left):
        steps = [2 if stride % 2 == 0 else 1 for stride in left]
        source = value if value is x else store(value)
        thinner = scaled_window(builder, context, source, _ONE, strides=steps)
        if isinstance(thinner, Blocked):
            return thinner
        value = thinner
        left = [stride // step for stride, step in zip(left, steps, strict=True)]
    for axis, stride in zip((_HEIGHT, _WIDTH), left, strict=True):
        if stride > 1:
            source = value if value is x else store(value)
            found = _every(builder, context, source, axis, stride, counts[axis - _HEIGHT])
            if isinstance(found, Blocked):
                return found
            value = found
    return value


def swapped(builder: Builder, x: ir.Value) -> ir.Value:
    """A map with height and width exchanged."""
    return builder.transpose(x, (0, 1, _WIDTH, _HEIGHT))


def oversized(context: Context, wanted: Sequence[int]) -> Blocked | None:
    """Why a map of this shape ``[N, C, H, W]`` cannot be stored, None if it can."""
    target = context.target
    if wanted[1] > target.map_channels[1] or max(wanted[_HEIGHT:]) > target.map_size[1]:
        return Blocked(f"it would need a map of {_by(wanted[1:])}, which the hardware cannot store")
    return None


def shape(value: ir.Value) -> tuple[int, ...]:
    """The static shape of a value."""
    found = shape_of(value)
    assert found is not None
    return found


def _every(
    builder: Builder, context: Context, x: ir.Value, axis: int, stride: int, count: int
) -> ir.Value | Blocked:
    """Every ``stride``-th (odd) row or column, ``count`` of them."""
    if axis == _HEIGHT:
        found = _every(builder, context, swapped(builder, x), _WIDTH, stride, count)
        return found if isinstance(found, Blocked) else swapped(builder, found)
    missing = count * stride - shape(x)[_WIDTH]
    if missing < 0:
        return Blocked(f"{-missing} columns behind the last window cannot be cut off")
    value = zero_border(builder, context, x, (0, 0, 0, missing))  # never taken
    if isinstance(value, Blocked):
        return value
    samples, channels, height, _ = shape(value)
    folded = (samples, channels, height * count, stride)
    if oversized(context, folded) is not None:
        folded = (samples, channels * height, count, stride)
    if (too_large := oversized(context, folded)) is not None:
        return too_large
    first = np.zeros((1, stride), np.int8)
    first[0, 0] = 1
    taken = scaled_window(builder, context, builder.reshape(value, folded), first)
    if isinstance(taken, Blocked):
        return taken
    return builder.reshape(taken, (samples, channels, height, count))


def _fits(
    limits: KernelLimits,
    channels: int,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
) -> bool:
    return (
        limits.channels[0] <= channels <= limits.channels[1]
        and all(limits.map_size[0] <= extent <= limits.map_size[1] for extent in size)
        and all(limits.kernel[0] <= extent <= limits.kernel[1] for extent in kernel)
        and all(limits.padding[0] <= pad <= limits.padding[1] for pad in pads)
        and all(stride in limits.strides for stride in strides)
    )


def _by(extents: Sequence[int]) -> str:
    return "x".join(map(str, extents))


_ONE = np.ones((1, 1), np.int8)
