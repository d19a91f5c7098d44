"""PL-2 to PL-4, PL-6: averages over whole maps that the hardware does not have."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import producer
from dlaconv.ir.passes.legal.averages import exact_divisor, legal_average, mean_of
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.identity import shape, zero_border
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.legal.picking import keeps_zero
from dlaconv.ir.passes.linear_ops import Weights
from dlaconv.ir.pipeline import Context
from dlaconv.ir.target import Target


@legalisation(
    "AveragePool", "GlobalAveragePool", rules=("PL-2", "PL-3", "PL-4", "PL-6", "PL-7", "PL-8")
)
def global_average(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """An average over a map that is too large for one becomes a convolution of its parts.

    Identity: A sum does not mind in which order its values are. Cut into g parts of h x w values
    each, the positions of a channel become g channels, which Reshape does, and a convolution of
    kernel h x w sums them all, divides by their number and rounds once.

    Conditions: The C g channels fit one layer; up to three rows or columns of zeros at the end help
    where the size has no fitting divisors. If the source quantises, the weight grid holds the
    divisor's inverse. A map of one position is its own average, one of the hardware's window sizes
    is averaged by GlobalAveragePool.

    Cost: C times one multiplication per value, since each result reads the parts of all channels.
    """
    mean = mean_of(node)
    if mean is None or legal_average(node, context.target):
        return None
    builder = Builder(node)
    x, (samples, channels, *size) = mean.x, mean.shape
    if mean.divisor > 1 and len(size) == 1:  # the hardware has maps, not lines
        size = [*size, 1]
        x = builder.reshape(x, (samples, channels, *size))
    limits = context.target.average_pool.kernel
    if mean.divisor == 1:
        builder.reshape(x, mean.result)
        return builder.plan("the one value of each channel")
    if all(limits[0] <= extent <= limits[1] for extent in size):
        builder.op("GlobalAveragePool", [x], mean.result)
        return builder.plan("one window over the whole map")
    if not exact_divisor(mean.divisor, mean.x, context):
        return Blocked(f"the grid of weight steps does not hold 1/{mean.divisor}")
    parts = _parts(channels, size, context.target, padded=keeps_zero(stored_quantisation(x)))
    if parts is None:
        words = "x".join(map(str, (channels, *size)))
        return Blocked(f"cut into parts of the largest kernel, {words} has too many channels")
    bordered = zero_border(builder, context, x, (0, 0, *parts.added))
    if isinstance(bordered, Blocked):
        return bordered
    if shape(bordered)[1:] != (channels * parts.count, *parts.kernel):
        bordered = builder.reshape(bordered, (samples, channels * parts.count, *parts.kernel))
    of_channel = np.repeat(np.eye(channels, dtype=np.int8), parts.count, axis=1)
    ones = np.ones(parts.kernel, np.int8)
    weights = Weights(of_channel[:, :, None, None] * ones, 0, np.full(channels, 1 / mean.divisor))
    value = builder.conv(bordered, weights)
    layer = producer(value)
    assert layer is not None
    builder.gains.append(layer)
    if shape(value) != mean.result:
        builder.reshape(value, mean.result)
    kernel = "x".join(map(str, parts.kernel))
    return builder.plan(f"a {kernel} convolution of {parts.count} parts of each channel")


@dataclass(frozen=True)
class _Parts:
    """How the positions of a map are cut.

    Attributes:
        count: parts of each channel.
        kernel: height and width of a part.
        added: rows and columns of zeros that make it come out even.
    """

    count: int
    kernel: tuple[int, int]
    added: tuple[int, int]


def _parts(channels: int, size: list[int], target: Target, *, padded: bool) -> _Parts | None:
    """Without zeros if that is possible, and in as few parts; None if nothing fits."""
    most = min(target.conv.channels[1], target.map_channels[1]) // channels
    largest = target.conv.kernel[1]
    reach = target.depthwise.padding[1] if padded else 0
    found: list[tuple[int, _Parts]] = []
    for rows, columns in product(range(reach + 1), repeat=2):
        total = (size[0] + rows) * (size[1] + columns)
        for height, width in product(range(1, largest + 1), repeat=2):
            count, rest = divmod(total, height * width)
            if rest == 0 and count <= most:
                found.append((total, _Parts(count, (height, width), (rows, columns))))
    return min(found, key=_price, default=(0, None))[1]


def _price(option: tuple[int, _Parts]) -> tuple[bool, int, int]:
    """A layer that pads, channels, multiplications."""
    total, parts = option
    return any(parts.added), parts.count, total
