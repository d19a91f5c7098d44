"""Kernels and biases of linear layers: constants, quantised if the layer's dialect says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras.building import KerasLayer

Change = Callable[[np.ndarray], np.ndarray]


def unchanged(array: np.ndarray) -> np.ndarray:
    """Keras's layout is ONNX's."""
    return array


@dataclass(frozen=True)
class Variable:
    """A variable of a layer.

    Attributes:
        position: its place among the variables of the layer.
        shape: its shape in Keras's layout.
        names: what it may be called; the first is its role, such as ``kernel``.
        change: gives it the layout that the graph needs, by moving elements only.
    """

    position: int
    shape: tuple[int, ...]
    names: tuple[str, ...]
    change: Change = unchanged


Parameters = Callable[[KerasLayer, Variable], ir.Value]
"""How the variables of linear layers reach the graph: the value to compute with."""


def as_stored(layer: KerasLayer, variable: Variable) -> ir.Value:
    """A variable in floating point, as the file has it."""
    return layer.weight(variable.position, variable.shape, *variable.names, change=variable.change)
