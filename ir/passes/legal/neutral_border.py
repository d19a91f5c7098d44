"""Borders that never win a maximum, for poolings whose padding the hardware does not have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.identity import oversized, shape, zero_border
from dlaconv.ir.passes.legal.legalisation import Blocked
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.passes.non_negative import non_negative
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation


def neutral_border(
    builder: Builder, context: Context, x: ir.Value, pads: Sequence[int]
) -> ir.Value | Blocked:
    """A map with a border that no maximum over it and any element of the map comes from.

    Zeros where nothing is negative, else the smallest value of the map's grid.

    Args:
        builder: collects the nodes.
        context: its target limits what one convolution can do.
        x: the map ``[N, C, H, W]``.
        pads: top, left, bottom, right.
    """
    if not any(pads):
        return x
    if non_negative(x):
        return zero_border(builder, context, x, pads)
    quantisation = stored_quantisation(x)
    if quantisation is None:
        return Blocked(
            "the map may be negative, so zeros around it could win, and it has no grid with a "
            "smallest value"
        )
    return _least_border(builder, context, x, pads, quantisation)


def _least_border(
    builder: Builder,
    context: Context,
    x: ir.Value,
    pads: Sequence[int],
    quantisation: Quantisation,
) -> ir.Value | Blocked:
    """A border of the smallest integer, by a constant map that ends where the border begins.

    With a map that holds the integer m everywhere, ``q + w m - w m`` is q inside, and ``-w m``
    where convolution pads both maps with zeros.
    """
    parts = _product(quantisation)
    if parts is None:
        return Blocked(
            "the map may be negative, so zeros around it could win, and its grid has no smallest "
            "value that two integers of the hardware multiply to"
        )
    times, held = parts
    step = quantisation.scalar_step
    samples, channels, height, width = shape(x)
    extra = context.target.channel_multiple
    if (too_large := oversized(context, (samples, channels + extra, height, width))) is not None:
        return too_large
    most = context.target.conv.padding[1]
    left, value = list(pads), x
    while any(left):
        now = [min(pad, most) for pad in left]
        if not any(now):
            return Blocked("the hardware pads no convolution")
        nothing = Weights(np.zeros((extra, channels, 1, 1), np.int8), 0, np.ones(extra))
        constant = builder.conv(value, nothing, np.full(extra, held * step))
        joined = builder.concat([value, builder.stored_like(constant, x)])
        copies = np.zeros((channels, channels + extra, 1, 1), np.int8)
        copies[range(channels), range(channels)] = 1
        copies[:, channels] = times
        bias = np.full(channels, -times * held * step)
        padded = builder.conv(joined, Weights(copies, 0, np.ones(channels)), bias, pads=now)
        if (too_large := oversized(context, shape(padded))) is not None:
            return too_large
        value = builder.stored_like(padded, x)
        left = [pad - done for pad, done in zip(left, now, strict=True)]
    return value


def _product(quantisation: Quantisation) -> tuple[int, int] | None:
    """A weight and an integer of the map that multiply to the distance of its least value."""
    if not quantisation.per_tensor:
        return None
    zero = float(quantisation.zero_point.reshape(()))
    least, most = zero - quantisation.qmin, quantisation.qmax - zero
    if least != round(least) or not 0 < least <= _FAR:
        return None
    for times in range(1, _LARGEST_WEIGHT + 1):
        if least % times == 0 and least / times <= most:
            return times, round(least / times)
    return None


_FAR = 1 << 12
_LARGEST_WEIGHT = 127
