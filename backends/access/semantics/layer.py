"""One layer on integers: the row of its operator, then rectifier, rounding and saturation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from dlaconv.backends.access.semantics.elementwise import add, divide
from dlaconv.backends.access.semantics.linear import convolve, fully_connected, matrix_product
from dlaconv.backends.access.semantics.moving import concatenate, reshape, transpose
from dlaconv.backends.access.semantics.pooling import (
    average_pool,
    global_average_pool,
    max_pool,
    reduce_sum,
)
from dlaconv.backends.access.semantics.problems import INT32, overflow
from dlaconv.backends.access.semantics.rationals import Rationals, fractions, rectified
from dlaconv.backends.access.semantics.tables import look_up
from dlaconv.ir.layers import TABLES, Layer
from dlaconv.ir.rounding import Rounding

ActivationOrder = Literal["mac", "after-clamp"]
"""Where a pipelined activation acts: on the accumulator before the one rounding (``mac``), or on
the clamped integers, with a rounding of its own (``after-clamp``)."""
ACTIVATION_ORDERS: tuple[ActivationOrder, ...] = ("mac", "after-clamp")

SUMS: Mapping[str, Callable[..., np.ndarray]] = {
    "Conv": convolve,
    "Gemm": fully_connected,
    "MatMul": matrix_product,
    "Add": add,
    "ReduceSum": reduce_sum,
}
"""Operators with an int32 accumulator, worth `Layer.multipliers` each."""
AVERAGES: Mapping[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
}
"""Operators with an int32 sum and a divisor."""
MOVES: Mapping[str, Callable[..., np.ndarray]] = {
    "MaxPool": max_pool,
    "Concat": concatenate,
    "Transpose": transpose,
    "Reshape": reshape,
    "Flatten": reshape,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
}
"""Operators that move integers."""


def evaluate(
    layer: Layer,
    inputs: Sequence[np.ndarray],
    *,
    rounding: Rounding,
    activation_order: ActivationOrder = "mac",
) -> np.ndarray:
    """The integers that a layer stores.

    Args:
        layer: the layer.
        inputs: int64 arrays, one per map that it reads.
        rounding: how an exact result becomes an integer.
        activation_order: see `ActivationOrder`.

    Returns:
        int64 in the output's range.

    Raises:
        ConversionError: if the accumulator leaves 32 bits.
    """
    if layer.op in TABLES:
        return look_up(layer, inputs[0], rounding)
    exact = exact_result(layer, inputs)
    alone = layer.activation is None
    if layer.rectifier is None:
        return saturated(exact.rounded(rounding), layer)
    if alone or activation_order == "mac":
        return saturated(rectified(exact, layer.slopes).rounded(rounding), layer)
    clamped = Rationals.of(saturated(exact.rounded(rounding), layer))
    return saturated(rectified(clamped, layer.slopes).rounded(rounding), layer)


def exact_result(layer: Layer, inputs: Sequence[np.ndarray]) -> Rationals:
    """The operator's exact result in units of the output, before any activation."""
    if layer.op in SUMS:
        acc = _checked(layer, SUMS[layer.op](layer, *inputs))
        return Rationals.of(acc).times(_by_channel(layer, acc.ndim))
    if layer.op in AVERAGES:
        acc, divisors = AVERAGES[layer.op](layer, *inputs)
        worth = fractions(layer.multipliers).reshape(()) / fractions(divisors)
        return Rationals.of(_checked(layer, acc)).times(np.asarray(worth, dtype=object))
    if layer.op == "Div":
        return divide(layer, *inputs)
    move = MOVES.get(layer.op)
    return Rationals.of(inputs[0] if move is None else move(layer, *inputs))


def saturated(integers: np.ndarray, layer: Layer) -> np.ndarray:
    """Integers clipped to the range of the layer's output."""
    return np.asarray(np.clip(integers, layer.output.qmin, layer.output.qmax), np.int64)


def _checked(layer: Layer, acc: np.ndarray) -> np.ndarray:
    low, high = int(acc.min(initial=0)), int(acc.max(initial=0))
    if low < INT32[0] or high > INT32[1]:
        raise overflow(layer, low, high)
    return acc


def _by_channel(layer: Layer, rank: int) -> np.ndarray:
    factors = fractions(layer.multipliers)
    return factors.reshape(-1, *(1,) * (rank - 2)) if factors.size > 1 else factors.reshape(())
