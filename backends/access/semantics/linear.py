"""Conv, Gemm (fully connected) and MatMul: integers times integers into the accumulator."""

from __future__ import annotations

import numpy as np

from dlaconv.backends.access.semantics.windows import window_of
from dlaconv.ir.layers import Layer


def convolve(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Convolution: sum of w_int a_int over the window and the group's channels, plus b_int.

    Args:
        layer: a Conv.
        x: int64 ``[N, I, ...]``.

    Returns:
        The accumulator, int64 ``[N, O, ...]``.
    """
    weights = layer.weights
    assert weights is not None
    window = window_of(layer)
    groups = layer.node.attributes.get_int("group", 1)
    w: np.ndarray = weights.integers.astype(np.int64)
    acc = np.zeros((x.shape[0], w.shape[0], *window.output), np.int64)
    into, from_ = w.shape[0] // groups, x.shape[1] // groups
    padded = window.padded(x, 0)
    for group in range(groups):
        rows = slice(group * into, (group + 1) * into)
        for tap, seen in window.positions(padded[:, group * from_ : (group + 1) * from_]):
            taps = np.moveaxis(w[rows], (0, 1), (-2, -1))[tap]
            acc[:, rows] += np.einsum("ni...,oi->no...", seen, taps)
    if weights.bias is not None:
        acc += weights.bias.reshape(-1, *(1,) * len(window.output))
    return acc


def fully_connected(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Gemm: x W^T + b_int, int64 ``[N, K]`` to ``[N, O]``."""
    weights = layer.weights
    assert weights is not None
    acc = x @ weights.integers.astype(np.int64).T
    return acc if weights.bias is None else acc + weights.bias


def matrix_product(layer: Layer, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """MatMul of two maps: the plain integer product, ``[..., M, K]`` times ``[..., K, N]``."""
    del layer
    return np.asarray(a @ b)
