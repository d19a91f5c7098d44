"""Operators that multiply a map by constants and add constants: what they compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_op,
    is_optional_input_absent,
    producer,
    shape_of,
    sole_consumer,
)

AFFINE_OPS = ("BatchNormalization", "Mul", "Div", "Add", "Sub", "Neg")
"""Operators that can be affine."""


@dataclass(frozen=True, eq=False)
class Affine:
    """``scale * source + offset``, elementwise.

    Attributes:
        source: the map.
        scale: float64, of the map's rank, broadcasts against the map.
        offset: float64, likewise.
        nodes: the operators that compute it, the first one first.
    """

    source: ir.Value
    scale: np.ndarray
    offset: np.ndarray
    nodes: tuple[ir.Node, ...]

    @property
    def finite(self) -> bool:
        """False where an operator divides by zero or a constant is no number."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.offset).all())

    @property
    def words(self) -> str:
        """The operators, in words."""
        return ", ".join(node.op_type for node in self.nodes)

    def per_channel(self, axis: int = 1) -> tuple[np.ndarray, np.ndarray] | None:
        """Scale and offset ``[C]`` along an axis, None if they vary along another one."""
        shape = shape_of(self.source) or ()
        if len(shape) <= max(axis, 1):
            return None
        found = [one_per_channel(a, shape[axis], axis) for a in (self.scale, self.offset)]
        return None if found[0] is None or found[1] is None else (found[0], found[1])


def affine_of(node: ir.Node) -> Affine | None:
    """What an operator with constants computes, None if it is not affine in one map."""
    if not is_op(node, *AFFINE_OPS) or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    if is_op(node, "BatchNormalization"):
        found = normalisation_of(node)
        position, terms = 0, found
    elif is_op(node, "Neg"):
        position, terms = 0, (np.array(-1.0), np.array(0.0))
    else:
        position, terms = _arithmetic(node)
    source = node.inputs[position]
    shape = shape_of(source) if source is not None else None
    if terms is None or source is None or not shape or shape != shape_of(node.outputs[0]):
        return None
    scale, offset = (_of_rank(term, node, len(shape)) for term in terms)
    return Affine(source, scale, offset, (node,))


def affine_chain(node: ir.Node) -> Affine | None:
    """What an affine operator and those before it compute, if nothing else reads in between."""
    chain = affine_of(node)
    while chain is not None and chain.finite:
        before = producer(chain.source)
        if before is None or sole_consumer(chain.source) is not chain.nodes[0]:
            break
        inner = affine_of(before)
        if inner is None or not inner.finite:
            break
        chain = Affine(
            inner.source,
            chain.scale * inner.scale,
            chain.scale * inner.offset + chain.offset,
            (*inner.nodes, *chain.nodes),
        )
    return chain


def normalisation_of(node: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """Factor and offset ``[C]`` of a BatchNormalization, float64.

    None if it is in training mode, its parameters are no constants or its variance is negative.
    """
    parameters = [input_array(node, index) for index in range(1, 5)]
    if attribute(node, "training_mode", 0) or any(value.uses() for value in node.outputs[1:]):
        return None
    if any(parameter is None for parameter in parameters):
        return None
    gamma, beta, mean, variance = (
        parameter.astype(np.float64) for parameter in parameters if parameter is not None
    )
    deviation = variance + float(attribute(node, "epsilon", 1e-5))
    if (deviation <= 0).any():
        return None
    factors = gamma / np.sqrt(deviation)
    return factors, beta - mean * factors


def one_per_channel(array: np.ndarray, channels: int, axis: int = 1) -> np.ndarray | None:
    """An array that broadcasts against a map, as ``[C]``; None if it varies along other axes.

    Args:
        array: of the map's rank.
        channels: C.
        axis: the axis of the channels.
    """
    if array.size == 1:
        return np.full(channels, array.reshape(-1)[0])
    moved = np.moveaxis(array, axis, 0)
    rows = moved.reshape(moved.shape[0], -1)
    if (rows != rows[:, :1]).any():
        return None
    return np.broadcast_to(rows[:, 0], (channels,)).copy()


def _arithmetic(node: ir.Node) -> tuple[int, tuple[np.ndarray, np.ndarray] | None]:
    """The position of the map, and factor and offset."""
    constants = [input_array(node, index) for index in (0, 1)]
    if (constants[0] is None) == (constants[1] is None):
        return 0, None
    position = 0 if constants[0] is None else 1
    found = constants[1 - position]
    if found is None or found.dtype.kind != "f" or is_optional_input_absent(node, position):
        return position, None
    constant, one, zero = found.astype(np.float64), np.array(1.0), np.array(0.0)
    if is_op(node, "Add"):
        return position, (one, constant)
    if is_op(node, "Sub"):
        return position, (one, -constant) if position == 0 else (-one, constant)
    if is_op(node, "Mul"):
        return position, (constant, zero)
    if position == 1:  # a constant divided by a map
        return position, None
    with np.errstate(divide="ignore"):
        return position, (1 / constant, zero)


def _of_rank(array: np.ndarray, node: ir.Node, rank: int) -> np.ndarray:
    if is_op(node, "BatchNormalization"):
        return array.reshape((1, -1) + (1,) * (rank - 2))
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
