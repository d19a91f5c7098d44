"""Operators that move integers: Concat, Transpose, Reshape and its relatives."""

from __future__ import annotations

import numpy as np

from dlaconv.ir.graph import ints_attribute
from dlaconv.ir.layers import Layer


def concatenate(layer: Layer, *parts: np.ndarray) -> np.ndarray:
    """Concat: the integers side by side; all operands have the step of the output."""
    return np.concatenate(parts, axis=layer.node.attributes.get_int("axis", 1))


def transpose(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Transpose: axes in another order (reversed without ``perm``)."""
    return x.transpose(ints_attribute(layer.node, "perm", tuple(reversed(range(x.ndim)))))


def reshape(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Reshape, Flatten, Squeeze, Unsqueeze: the same integers in the output's shape."""
    return x.reshape(layer.output.shape)
