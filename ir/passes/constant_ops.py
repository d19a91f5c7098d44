"""What standard operators compute on constants, and how large their result is, in NumPy.

Only operators whose result does not depend on the order of float additions are here, so a folded
graph computes what the graph computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir.graph import attribute, ints_attribute

Array = np.ndarray
Arrays = Sequence[Array | None]
Evaluate = Callable[[ir.Node, Arrays], "Array | list[Array]"]


class NotFoldableError(ValueError):
    """The operator is not evaluated here, or not on these inputs."""


def result_size(node: ir.Node, inputs: Arrays) -> int:
    """Number of elements of the results, known before anything is computed.

    Raises:
        NotFoldableError: if the operator is not evaluated here.
        ValueError: if the inputs do not fit.
    """
    arrays = [array for array in inputs if array is not None]
    op = node.op_type
    if op in _ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    if op not in _OPS:
        raise NotFoldableError(op)
    if op == "ConstantOfShape":
        return math.prod(_ints(inputs[0]))
    if op == "Expand":
        return math.prod(_expanded(inputs))
    if op == "Tile":
        return int(arrays[0].size) * math.prod(_ints(inputs[1]))
    if op == "Range":
        start, limit, delta = (array.item() for array in arrays)
        return max(math.ceil((limit - start) / delta), 0) if delta else 0
    if op == "Pad":
        return math.prod(
            size + low + high
            for size, (low, high) in zip(arrays[0].shape, _pads(node, inputs), strict=True)
        )
    if op == "Gather":
        axis = int(attribute(node, "axis", 0))
        return int(arrays[1].size * (arrays[0].size // max(arrays[0].shape[axis], 1)))
    if op == "Concat":
        return sum(array.size for array in arrays)
    return max((array.size for array in arrays), default=1)


def evaluate(node: ir.Node, inputs: Arrays) -> list[Array]:
    """The results of a node on constant inputs.

    Raises:
        NotFoldableError: if the operator is not evaluated here.
        ValueError: or another error of NumPy's if the inputs do not fit.
    """
    function = _OPS.get(node.op_type)
    if function is None:
        raise NotFoldableError(node.op_type)
    with np.errstate(all="ignore"):
        result = function(node, inputs)
    return result if isinstance(result, list) else [np.asarray(result)]


def _ints(array: Array | None) -> list[int]:
    if array is None or array.dtype.kind not in "iu":
        raise NotFoldableError("a shape or an axis that is no integer")
    return [int(value) for value in array.reshape(-1)]


def _optional_ints(inputs: Arrays, index: int) -> list[int] | None:
    if index >= len(inputs) or inputs[index] is None:
        return None
    return _ints(inputs[index])


def _first(inputs: Arrays) -> Array:
    if not inputs or inputs[0] is None:
        raise NotFoldableError("no first input")
    return inputs[0]


def _apply(function: Callable[..., Array]) -> Evaluate:
    def run(node: ir.Node, inputs: Arrays) -> Array:
        arrays = [array for array in inputs if array is not None]
        result = np.asarray(function(*arrays))
        keeps = result.dtype.kind in "fiu" and result.dtype != arrays[0].dtype
        return np.asarray(result, arrays[0].dtype) if keeps else result

    return run


def _divide(left: Array, right: Array) -> Array:
    if left.dtype.kind == "f":
        return np.asarray(left / right)
    if not np.all(right):
        raise NotFoldableError("a division by zero")
    quotient = np.abs(left) // np.abs(right)  # ONNX truncates, NumPy floors
    return np.asarray(quotient * np.sign(left) * np.sign(right))


def _power(base: Array, exponent: Array) -> Array:
    if base.dtype.kind != "f":
        raise NotFoldableError("a power of integers")
    return np.asarray(np.power(base, exponent.astype(base.dtype)))


def _clip(node: ir.Node, inputs: Arrays) -> Array:
    source = _first(inputs)
    low, high = (*inputs[1:3], None, None)[:2]
    limited = source if low is None else np.maximum(source, low)
    return limited if high is None else np.minimum(limited, high)


def _cast(node: ir.Node, inputs: Arrays) -> Array:
    to = ir.DataType(int(attribute(node, "to", 0)))
    source = _first(inputs)
    if to.bitwidth < 8 or to.numpy().kind not in "fiub" or source.dtype.kind not in "fiub":
        raise NotFoldableError(f"Cast to {to.name}")
    if source.dtype.kind == "f" and to.numpy().kind in "iu":
        low, high = np.iinfo(to.numpy()).min, np.iinfo(to.numpy()).max
        if not (np.isfinite(source).all() and ((source >= low) & (source <= high)).all()):
            raise NotFoldableError("a Cast of values out of range")
    return source.astype(to.numpy())


def _constant_of_shape(node: ir.Node, inputs: Arrays) -> Array:
    fill = node.attributes.get("value")
    value = np.zeros(1, np.float32) if fill is None else fill.as_tensor().numpy()
    return np.full(_ints(inputs[0]), value.reshape(-1)[0], value.dtype)


def _gather(node: ir.Node, inputs: Arrays) -> Array:
    indices = inputs[1]
    if indices is None or indices.dtype.kind not in "iu":
        raise NotFoldableError("indices that are no integers")
    return np.take(_first(inputs), indices, axis=int(attribute(node, "axis", 0)))


def _slice(node: ir.Node, inputs: Arrays) -> Array:
    data, starts, ends = _first(inputs), _ints(inputs[1]), _ints(inputs[2])
    axes = _optional_ints(inputs, 3) or list(range(len(starts)))
    steps = _optional_ints(inputs, 4) or [1] * len(starts)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = data.shape[axis]
        low = -1 if step < 0 else 0
        start = start + size if start < 0 else start
        end = end + size if end < 0 else end
        start = min(max(start, 0), size + low)
        end = min(max(end, low), size)
        index[axis] = slice(start, None if end < 0 else end, step)
    return data[tuple(index)]


def _reshape(node: ir.Node, inputs: Arrays) -> Array:
    data, target = _first(inputs), _ints(inputs[1])
    if not int(attribute(node, "allowzero", 0)):
        target = [data.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    return data.reshape(target)


def _flatten(node: ir.Node, inputs: Arrays) -> Array:
    data, axis = _first(inputs), int(attribute(node, "axis", 1))
    axis = axis + data.ndim if axis < 0 else axis
    return data.reshape(math.prod(data.shape[:axis]), -1)


def _transpose(node: ir.Node, inputs: Arrays) -> Array:
    data = _first(inputs)
    return data.transpose(ints_attribute(node, "perm", range(data.ndim)[::-1]))


def _squeeze(node: ir.Node, inputs: Arrays) -> Array:
    axes = _optional_ints(inputs, 1)
    return np.squeeze(_first(inputs), None if axes is None else tuple(axes))


def _unsqueeze(node: ir.Node, inputs: Arrays) -> Array:
    return np.expand_dims(_first(inputs), tuple(_ints(inputs[1])))


def _split(node: ir.Node, inputs: Arrays) -> list[Array]:
    data, axis = _first(inputs), int(attribute(node, "axis", 0))
    sizes = _optional_ints(inputs, 1)
    count, total = len(node.outputs), data.shape[axis]
    if sizes is None:
        size = -(-total // count)
        sizes = [size] * (count - 1) + [total - size * (count - 1)]
    if len(sizes) != count or sum(sizes) != total or min(sizes) < 0:
        raise NotFoldableError("a Split that does not fit")
    return np.split(data, np.cumsum(sizes)[:-1], axis)


def _expanded(inputs: Arrays) -> tuple[int, ...]:
    return np.broadcast_shapes(_first(inputs).shape, tuple(_ints(inputs[1])))


def _pads(node: ir.Node, inputs: Arrays) -> list[tuple[int, int]]:
    data, pads = _first(inputs), _ints(inputs[1])
    axes = _optional_ints(inputs, 3) or list(range(data.ndim))
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise NotFoldableError("a Pad that cuts")
    by_axis = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    return [by_axis.get(axis, by_axis.get(axis - data.ndim, (0, 0))) for axis in range(data.ndim)]


def _pad(node: ir.Node, inputs: Arrays) -> Array:
    if attribute(node, "mode", "constant") != "constant":
        raise NotFoldableError("Pad of another mode")
    value = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros(1)
    return np.pad(_first(inputs), _pads(node, inputs), constant_values=value.reshape(-1)[0])


def _reduce(function: Callable[..., Array], *, floats: bool) -> Evaluate:
    def run(node: ir.Node, inputs: Arrays) -> Array:
        data, axes = _first(inputs), _optional_ints(inputs, 1)
        if data.dtype.kind == "f" and not floats:
            raise NotFoldableError("a float sum, which depends on its order")
        if not axes and int(attribute(node, "noop_with_empty_axes", 0)):
            return data
        keep = bool(attribute(node, "keepdims", 1))
        reduced = function(data, axis=tuple(axes) if axes else None, keepdims=keep)
        return np.asarray(reduced, data.dtype)

    return run


_ELEMENTWISE: dict[str, Evaluate] = {
    "Add": _apply(np.add),
    "Sub": _apply(np.subtract),
    "Mul": _apply(np.multiply),
    "Div": _apply(_divide),
    "Pow": _apply(_power),
    "Neg": _apply(np.negative),
    "Abs": _apply(np.abs),
    "Sign": _apply(np.sign),
    "Sqrt": _apply(np.sqrt),
    "Exp": _apply(np.exp),
    "Log": _apply(np.log),
    "Ceil": _apply(np.ceil),
    "Floor": _apply(np.floor),
    "Round": _apply(np.rint),
    "Reciprocal": _apply(np.reciprocal),
    "Relu": _apply(lambda x: np.maximum(x, x.dtype.type(0))),
    "Identity": _apply(lambda x: x),
    "Not": _apply(np.logical_not),
    "And": _apply(np.logical_and),
    "Or": _apply(np.logical_or),
    "Equal": _apply(np.equal),
    "Less": _apply(np.less),
    "LessOrEqual": _apply(np.less_equal),
    "Greater": _apply(np.greater),
    "GreaterOrEqual": _apply(np.greater_equal),
    "Cast": _cast,
    "Clip": _clip,
    "Where": lambda node, inputs: np.where(*(array for array in inputs if array is not None)),
}

_OPS: dict[str, Evaluate] = {
    **_ELEMENTWISE,
    "ConstantOfShape": _constant_of_shape,
    "Gather": _gather,
    "Concat": lambda node, inputs: np.concatenate(
        [array for array in inputs if array is not None], int(attribute(node, "axis", 0))
    ),
    "Slice": _slice,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Split": _split,
    "Size": lambda node, inputs: np.asarray(_first(inputs).size, np.int64),
    "Expand": lambda node, inputs: np.broadcast_to(_first(inputs), _expanded(inputs)),
    "Tile": lambda node, inputs: np.tile(_first(inputs), _ints(inputs[1])),
    "Range": lambda node, inputs: np.arange(
        *(array.item() for array in inputs if array is not None), dtype=_first(inputs).dtype
    ),
    "Pad": _pad,
    "ReduceMax": _reduce(np.max, floats=True),
    "ReduceMin": _reduce(np.min, floats=True),
    "ReduceSum": _reduce(np.sum, floats=False),
    "ReduceProd": _reduce(np.prod, floats=False),
}
