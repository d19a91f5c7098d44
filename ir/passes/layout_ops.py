"""Operators that work in any layout: what of them changes when their maps are transposed.

A map ``v`` is in layout ``perm`` when the graph holds ``Transpose(v, perm)`` in its place.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_constant,
    is_op,
    is_optional_input_absent,
    rank_of,
    register_constants,
    shape_of,
)

Perm = tuple[int, ...]

_ELEMENTWISE = (
    "Abs", "Add", "Ceil", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow",
    "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt",
    "Sub", "Sum", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_ON_AXIS = ("Concat", "LogSoftmax", "Softmax")
_REDUCE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")


def compose(first: Perm, then: Perm) -> Perm:
    """The one permutation that does what ``first`` and ``then`` do in turn."""
    return tuple(first[axis] for axis in then)


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes ``perm``."""
    return tuple(int(axis) for axis in np.argsort(perm))


def is_identity(perm: Perm) -> bool:
    """True if a permutation moves nothing."""
    return perm == tuple(range(len(perm)))


def layout_free(node: ir.Node) -> bool:
    """True if a node can work on transposed maps; all its maps then have one layout."""
    rank = rank_of(node.outputs[0])
    if not rank or rank < 2 or any(shape_of(value) is None for value in node.outputs):
        return False
    if not all(rank_of(node.inputs[index]) == rank for index in maps_of(node)):  # type: ignore[arg-type]
        return False
    return _rule(node) is not None


def maps_of(node: ir.Node) -> list[int]:
    """Indices of the inputs that are feature maps: everything but constants."""
    return [
        index
        for index, value in enumerate(node.inputs)
        if value is not None and not is_constant(value)
    ]


def transpose_parameters(node: ir.Node, perm: Perm) -> None:
    """Makes a layout-free node work on maps in layout ``perm``; constants are copied first."""
    rule = _rule(node)
    assert rule is not None
    rule(node, perm)
    assert isinstance(node.graph, ir.Graph)
    register_constants(node.graph, [node])


def reduce_without_axes(node: ir.Node, perm: Perm) -> bool:
    """True if a Reduce that drops its axes gives the same result on a map in layout ``perm``."""
    if not is_op(node, *_REDUCE) or attribute(node, "keepdims", 1):
        return False
    axes = _axes(node, len(perm))
    left = [axis for axis in perm if axes is not None and axis not in axes]
    return axes is not None and left == sorted(left)


def transpose_axes(node: ir.Node, perm: Perm) -> None:
    """Renumbers the axes of a Reduce for an input in layout ``perm``."""
    axes = _axes(node, len(perm))
    assert axes is not None
    moved = sorted(perm.index(axis) for axis in axes)
    _replace(node, 1, np.asarray(moved, np.int64))
    assert isinstance(node.graph, ir.Graph)
    register_constants(node.graph, [node])


_Rule = Callable[[ir.Node, Perm], None]


def _rule(node: ir.Node) -> _Rule | None:
    if dialect.is_quantize(node) or dialect.is_bipolar(node):
        return _transpose_constants
    if is_op(node, *_ELEMENTWISE):
        if is_op(node, "PRelu") and not is_constant(node.inputs[1]):
            return None
        return _transpose_constants
    if is_op(node, *_ON_AXIS):
        return _renumber_axis
    if is_op(node, *_REDUCE) and attribute(node, "keepdims", 1):
        rank = rank_of(node.outputs[0])
        return transpose_axes if rank and _axes(node, rank) is not None else None
    if is_op(node, "Resize") and _resizes_nearest(node):
        return _transpose_scales
    if is_op(node, "Pad") and input_array(node, 1) is not None:
        plain = is_optional_input_absent(node, 3)
        return (
            _transpose_pads if plain and attribute(node, "mode", "constant") == "constant" else None
        )
    return None


def _axes(node: ir.Node, rank: int) -> list[int] | None:
    axes = input_array(node, 1)
    return None if axes is None or not axes.size else [int(axis) % rank for axis in axes]


def _resizes_nearest(node: ir.Node) -> bool:
    roi = input_array(node, 1)
    if attribute(node, "mode", "nearest") != "nearest" or "axes" in node.attributes:
        return False
    if not is_optional_input_absent(node, 1) and (roi is None or roi.size):
        return False
    given = [index for index in (2, 3) if not is_optional_input_absent(node, index)]
    return bool(given) and all(input_array(node, index) is not None for index in given)


def _replace(node: ir.Node, index: int, array: np.ndarray) -> None:
    old = node.inputs[index]
    assert old is not None
    node.replace_input_with(index, dialect.constant(f"{old.name}/transposed", array))


def _transpose_constants(node: ir.Node, perm: Perm) -> None:
    for index in range(len(node.inputs)):
        array = input_array(node, index)
        if array is None or array.size == 1:
            continue
        full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
        _replace(node, index, np.ascontiguousarray(full.transpose(perm)))


def _renumber_axis(node: ir.Node, perm: Perm) -> None:
    axis = int(attribute(node, "axis", -1)) % len(perm)
    node.attributes["axis"] = ir.AttrInt64("axis", perm.index(axis))
    _transpose_constants(node, perm)


def _transpose_scales(node: ir.Node, perm: Perm) -> None:
    for index in (2, 3):
        array = input_array(node, index)
        if array is not None and array.size:
            _replace(node, index, array[list(perm)])


def _transpose_pads(node: ir.Node, perm: Perm) -> None:
    pads = input_array(node, 1)
    assert pads is not None
    _replace(node, 1, pads.reshape(2, -1)[:, list(perm)].reshape(-1))
