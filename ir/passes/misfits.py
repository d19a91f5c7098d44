"""What ONNX's shape inference lets pass although no runtime can compute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx_ir as ir

from dlaconv.ir.graph import ints_attribute, is_op, shape_of

Shape = tuple[int, ...]
ShapeOf = Callable[[ir.Value], Shape | None]

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_POOLS = ("MaxPool", "AveragePool", "LpPool")
_LARGEST_NUMBER = 2**31 - 1
_MOST_ELEMENTS = 1 << 40
_LISTS = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Squeeze", "Unsqueeze", "Pad"), (1,)),
    **dict.fromkeys(("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"), (1,)),
    "Slice": (1, 2, 3, 4),
}
"""Inputs that are lists of numbers."""


def misfits(model: ir.Model, shape: ShapeOf = shape_of) -> Iterator[tuple[ir.Node, str]]:
    """Yields nodes whose constants, attributes and results contradict each other, and why.

    Args:
        model: a model of which onnx's checker approves, node by node.
        shape: tells the static shape of a value; what is not known is not judged.
    """
    for node in model.graph:
        for judge in _JUDGES:
            if why := judge(node, shape):
                yield node, why
                break


def _of_convolution(node: ir.Node, shape_of: ShapeOf) -> str:
    if not is_op(node, *_CONVOLUTIONS):
        return ""
    shape, weights, bias = (
        _input(node, 0, shape_of),
        _input(node, 1, shape_of),
        _input(node, 2, shape_of),
    )
    if shape is None or weights is None or len(shape) < 2:
        return ""
    if len(weights) != len(shape):
        return f"weights of shape {list(weights)} meet an input of {len(shape)} dimensions"
    group = node.attributes.get_int("group", 1)
    if group < 1 or weights[0] % group:
        return f"weights of shape {list(weights)} cannot be split into {group} groups"
    transposed = is_op(node, "ConvTranspose")
    wanted = weights[0] if transposed else weights[1] * group
    if shape[1] != wanted:
        return f"{shape[1]} channels meet weights for {wanted} (shape {list(weights)})"
    filters = weights[1] * group if transposed else weights[0]
    if bias is not None and bias != (filters,):
        return f"a bias of shape {list(bias)} for {filters} filters"
    kernel = ints_attribute(node, "kernel_shape", weights[2:])
    if kernel != weights[2:]:
        return f"the kernel is {list(kernel)}, the weights have the shape {list(weights)}"
    return ""


def _of_window(node: ir.Node, shape_of: ShapeOf) -> str:
    """Lists of one number per axis, or two, of other lengths or with numbers out of range."""
    shape = _input(node, 0, shape_of)
    if not is_op(node, *_CONVOLUTIONS, *_POOLS) or shape is None:
        return ""
    axes = max(len(shape) - 2, 0)
    lengths = {"kernel_shape": axes, "strides": axes, "dilations": axes, "pads": 2 * axes}
    for name, length in lengths.items():
        numbers = ints_attribute(node, name)
        if name in node.attributes and len(numbers) != length:
            return f"{name} has {len(numbers)} numbers, not {length}"
        least = 0 if name == "pads" else 1
        if any(not least <= number <= _LARGEST_NUMBER for number in numbers):
            return f"{name} is {list(numbers)}, not from {least} to {_LARGEST_NUMBER}"
    return ""


def _of_permutation(node: ir.Node, shape_of: ShapeOf) -> str:
    shape = _input(node, 0, shape_of)
    if not is_op(node, "Transpose") or shape is None or "perm" not in node.attributes:
        return ""
    axes = ints_attribute(node, "perm")
    if sorted(axes) == list(range(len(shape))):
        return ""
    return f"perm {list(axes)} is no order of {len(shape)} axes"


def _of_slopes(node: ir.Node, shape_of: ShapeOf) -> str:
    shape, slopes = _input(node, 0, shape_of), _input(node, 1, shape_of)
    if not is_op(node, "PRelu") or shape is None or slopes is None:
        return ""
    trailing = shape[len(shape) - len(slopes) :]
    if len(slopes) > len(shape) or any(
        s not in {1, d} for s, d in zip(slopes, trailing, strict=True)
    ):
        return f"slopes of shape {list(slopes)} for an input of shape {list(shape)}"
    return ""


def _of_lists(node: ir.Node, shape_of: ShapeOf) -> str:
    """Axes, sizes and pads that are no lists."""
    for index in _LISTS.get(node.op_type, ()) if is_op(node, *_LISTS) else ():
        shape = _input(node, index, shape_of)
        if shape is not None and len(shape) != 1:
            return f"input {index} is no list of numbers but has the shape {list(shape)}"
    return ""


def _of_result(node: ir.Node, shape_of: ShapeOf) -> str:
    for output in node.outputs:
        shape = shape_of(output) or ()
        empty = output.dtype is ir.DataType.FLOAT and min(shape, default=1) == 0
        if empty or min(shape, default=1) < 0:
            return f"the result {output.name!r} has the shape {list(shape)}, no element"
        if math.prod(shape) > _MOST_ELEMENTS:
            return f"the result {output.name!r} has the shape {list(shape)}, beyond any memory"
    return ""


def _of_reshape(node: ir.Node, shape_of: ShapeOf) -> str:
    if not is_op(node, "Reshape"):
        return ""
    before, after = _input(node, 0, shape_of), shape_of(node.outputs[0])
    if before is None or after is None or math.prod(before) == math.prod(after):
        return ""
    return f"{list(before)} cannot become {list(after)}"


def _input(node: ir.Node, index: int, shape_of: ShapeOf) -> Shape | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None else shape_of(value)


_JUDGES = (
    _of_convolution, _of_window, _of_slopes, _of_lists, _of_permutation, _of_result, _of_reshape,
)  # fmt: skip
