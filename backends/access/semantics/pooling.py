"""Pools and sums: integer sums with one division, or a selection."""

from __future__ import annotations

import numpy as np

from dlaconv.backends.access.semantics.windows import reduced_axes, window_of
from dlaconv.ir.layers import Layer


def average_pool(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AveragePool: the integer sum under each window, and by what it is divided.

    Padding is 0; it counts in the divisor if ``count_include_pad`` is 1.

    Returns:
        The sums ``[N, C, ...]`` and the divisors ``[1, 1, ...]``.
    """
    window = window_of(layer)
    total = sum(seen for _, seen in window.positions(window.padded(x, 0)))
    include = bool(layer.node.attributes.get_int("count_include_pad", 0))
    return np.asarray(total), window.counts(x.shape[2:], include_pad=include)


def global_average_pool(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GlobalAveragePool: the integer sum of each channel, divided by its number of positions."""
    del layer
    axes = tuple(range(2, x.ndim))
    return x.sum(axis=axes, keepdims=True), np.array(np.prod(x.shape[2:], dtype=np.int64))


def reduce_sum(layer: Layer, x: np.ndarray) -> np.ndarray:
    """ReduceSum: the integer sum over its axes."""
    axes = reduced_axes(layer.node, x.ndim)
    keep = bool(layer.node.attributes.get_int("keepdims", 1))
    return np.asarray(x.sum(axis=axes, keepdims=keep))


def max_pool(layer: Layer, x: np.ndarray) -> np.ndarray:
    """MaxPool: the largest integer under each window; padding is the smallest integer."""
    window = window_of(layer)
    seen = [part for _, part in window.positions(window.padded(x, layer.inputs[0].qmin))]
    return np.asarray(np.maximum.reduce(seen))
