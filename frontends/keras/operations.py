"""Operations between layers: ``keras.ops`` of Keras 3, functions of TensorFlow in Keras 2.

They count axes with the batch. What they do is a parameter of the operation, or an argument of the
call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.keras import activation, arranging, merging, pooling, selecting
from dlaconv.frontends.keras.building import Handler, KerasLayer, Shape, shape_of
from dlaconv.frontends.keras.windows import known


def function_of_tensorflow(layer: KerasLayer) -> list[ir.Value]:
    """TFOpLambda: a function by its name, such as ``nn.relu6``; no code of the file."""
    name = layer.given("function")
    found = FUNCTIONS.get(name.removeprefix("compat.v1.") if isinstance(name, str) else "")
    if found is None:
        raise layer.refusal(
            "DLA102",
            "unknown-operator",
            f"tf.{name} is no function that dlaconv knows",
            remedy="make it of layers of Keras",
        )
    return found(layer)


def elementwise(op_type: str) -> Handler:
    """The handler of a function of one tensor, element by element."""

    def handler(layer: KerasLayer) -> list[ir.Value]:
        return [layer.op(op_type, [layer.x], shape_of(layer.x))]

    handler.__doc__ = f"{op_type}."
    return handler


def square(layer: KerasLayer) -> list[ir.Value]:
    """Square."""
    return [layer.op("Mul", [layer.x, layer.x], shape_of(layer.x))]


def clip(layer: KerasLayer) -> list[ir.Value]:
    """Clip between two numbers."""
    bounds = [
        layer.argument(1, "x_min", "clip_value_min"),
        layer.argument(2, "x_max", "clip_value_max"),
    ]
    if not all(isinstance(item, (int, float)) and math.isfinite(item) for item in bounds):
        layer.refuse(f"clips between {bounds[0]!r} and {bounds[1]!r}")
    names = ("min", "max")
    limits = [layer.constant(n, np.float32(b)) for n, b in zip(names, bounds, strict=True)]
    return [layer.op("Clip", [layer.inputs[0], *limits], shape_of(layer.inputs[0]))]


def power(layer: KerasLayer) -> list[ir.Value]:
    """Power: of a tensor to a constant, or of a constant to a tensor."""
    if len(layer.inputs) == 1 and layer.argument(1, "x2", "y") == 2:
        return square(layer)
    return merging.power(layer)


def cast(layer: KerasLayer) -> list[ir.Value]:
    """Cast to floating point, all of which is computed in single precision."""
    name = layer.argument(1, "dtype")
    if name not in {"float16", "bfloat16", "float32", "float64"}:
        layer.no_form(f"a Cast to {name!r}")
    return [layer.inputs[0]]


def flattened(layer: KerasLayer) -> list[ir.Value]:
    """All axes but the batch as one."""
    shape = shape_of(layer.x)
    return [layer.reshaped(layer.x, (shape[0], math.prod(known(layer, shape[1:]))))]


def reduction(op_type: str) -> Handler:
    """The handler of a mean, sum or maximum over axes."""

    def handler(layer: KerasLayer) -> list[ir.Value]:
        x = layer.inputs[0]
        shape = shape_of(x)
        axis = layer.argument(1, "axis")
        listed = (
            [*range(len(shape))] if axis is None else axis if isinstance(axis, list) else [axis]
        )
        axes = sorted({layer.axis(item, len(shape)) for item in listed})
        if 0 in axes:
            layer.no_form("a reduction over the batch")
        keep = bool(layer.argument(2, "keepdims", default=False))
        left: list[int | None] = [1 if a in axes else size for a, size in enumerate(shape)]
        if not keep:
            left = [size for a, size in enumerate(shape) if a not in axes]
        given = layer.constant("axes", np.asarray(axes, np.int64))
        return [layer.op(op_type, [x, given], left, {"keepdims": int(keep)})]

    handler.__doc__ = f"{op_type}."
    return handler


def reshape(layer: KerasLayer) -> list[ir.Value]:
    """Reshape, batch included."""
    x = layer.inputs[0]
    shape = shape_of(x)
    target = layer.argument(1, "newshape", "shape")
    if not isinstance(target, list) or not target:
        layer.refuse(f"reshapes to {target!r}")
    if shape[0] is None and target[0] not in {None, -1}:
        layer.no_form(f"a Reshape of the batch to {target}")
    rest = [-1 if size is None else size for size in target[1:]]
    if not all(type(size) is int for size in rest):
        layer.refuse(f"reshapes to {target!r}")
    count = math.prod(known(layer, shape[1:]))
    return [layer.reshaped(x, (shape[0], *arranging.sizes_of(layer, rest, count)))]


def transpose(layer: KerasLayer) -> list[ir.Value]:
    """Transpose, batch included."""
    x = layer.inputs[0]
    rank = len(shape_of(x))
    axes = layer.argument(1, "axes", "perm", default=[*reversed(range(rank))])
    if not isinstance(axes, list):
        layer.refuse(f"transposes {axes!r}")
    perm = [layer.axis(axis, rank) for axis in axes]
    if sorted(perm) != [*range(rank)]:
        layer.refuse(f"transposes {axes!r} of {rank} dimensions")
    return [layer.transposed(x, perm)]


def expand_dims(layer: KerasLayer) -> list[ir.Value]:
    """ExpandDims."""
    x = layer.inputs[0]
    shape = shape_of(x)
    axis = layer.axis(layer.argument(1, "axis"), len(shape) + 1)
    if axis == 0:
        layer.no_form("a new axis before the batch")
    return [layer.reshaped(x, (*shape[:axis], 1, *shape[axis:]))]


def squeeze(layer: KerasLayer) -> list[ir.Value]:
    """Squeeze of given axes of one element, or of all of them."""
    x = layer.inputs[0]
    shape = shape_of(x)
    axis = layer.argument(1, "axis")
    if axis is None:
        axis = [item for item, size in enumerate(shape) if size == 1 and item]
    listed = axis if isinstance(axis, list) else [axis]
    axes = {layer.axis(item, len(shape)) for item in listed}
    if any(shape[item] != 1 for item in axes):
        layer.refuse(f"squeezes axes {sorted(axes)} of {list(shape)}")
    left: Shape = tuple(size for item, size in enumerate(shape) if item not in axes)
    return [layer.reshaped(x, left)]


def _leaky(layer: KerasLayer) -> list[ir.Value]:
    slope = layer.argument(1, "alpha", default=0.2)
    return [activation.apply(layer, _object("Relu", alpha=slope), layer.inputs[0])]


def _gelu(layer: KerasLayer) -> list[ir.Value]:
    approximate = bool(layer.argument(1, "approximate", default=False))
    return [activation.apply(layer, _object("Gelu", approximate=approximate), layer.inputs[0])]


def _softmax(layer: KerasLayer) -> list[ir.Value]:
    axis = layer.argument(1, "axis", default=-1)
    return [activation.apply(layer, _object("Softmax", axis=axis), layer.inputs[0])]


def _object(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": config}


_ADD, _MULTIPLY = merging.merge("Add"), merging.merge("Mul")
_LARGER, _SMALLER = merging.merge("Max"), merging.merge("Min")
OPERATIONS: dict[str, Handler] = {
    "Absolute": elementwise("Abs"),
    "Add": _ADD,
    "Amax": reduction("ReduceMax"),
    "Amin": reduction("ReduceMin"),
    "AveragePool": pooling.average,
    "Cast": cast,
    "Clip": clip,
    "Concatenate": merging.concatenate,
    "DepthToSpace": selecting.blocks("DepthToSpace"),
    "Divide": merging.divide,
    "Elu": activation.simple("Elu"),
    "Erf": elementwise("Erf"),
    "Exp": elementwise("Exp"),
    "ExpandDims": expand_dims,
    "Gelu": activation.simple("Gelu"),
    "GetItem": selecting.item,
    "HardSigmoid": activation.simple("HardSigmoid"),
    "HardSilu": activation.simple("HardSilu"),
    "HardTanh": activation.simple("hard_tanh"),
    "Identity": arranging.same,
    "LeakyRelu": activation.simple("LeakyRelu"),
    "Log": elementwise("Log"),
    "LogSoftmax": activation.simple("LogSoftmax"),
    "Max": reduction("ReduceMax"),
    "MaxPool": pooling.maximum,
    "Maximum": _LARGER,
    "Mean": reduction("ReduceMean"),
    "Min": reduction("ReduceMin"),
    "Minimum": _SMALLER,
    "Mish": activation.simple("Mish"),
    "Moveaxis": selecting.move_axis,
    "Multiply": _MULTIPLY,
    "Negative": elementwise("Neg"),
    "Pad": selecting.pad,
    "Power": power,
    "Reciprocal": elementwise("Reciprocal"),
    "Relu": activation.simple("Relu"),
    "Relu6": activation.simple("Relu6"),
    "Reshape": reshape,
    "Resize": selecting.resize,
    "Selu": activation.simple("Selu"),
    "Sigmoid": activation.simple("Sigmoid"),
    "Silu": activation.simple("Silu"),
    "Softmax": activation.simple("Softmax"),
    "Softplus": activation.simple("Softplus"),
    "Softsign": activation.simple("Softsign"),
    "SpaceToDepth": selecting.blocks("SpaceToDepth"),
    "Split": selecting.split,
    "Sqrt": elementwise("Sqrt"),
    "Square": square,
    "Squeeze": squeeze,
    "Stack": selecting.stack,
    "Subtract": merging.subtract,
    "Sum": reduction("ReduceSum"),
    "Swapaxes": selecting.swap_axes,
    "Tanh": activation.simple("Tanh"),
    "Tile": selecting.tile,
    "Transpose": transpose,
    "TrueDivide": merging.divide,
}
"""Operations of ``keras.ops`` by their class."""
FUNCTIONS: dict[str, Handler] = {
    "__operators__.add": _ADD,
    "__operators__.getitem": selecting.item,
    "abs": elementwise("Abs"),
    "cast": cast,
    "clip_by_value": clip,
    "concat": merging.concatenate,
    "expand_dims": expand_dims,
    "identity": arranging.same,
    "image.resize": selecting.resize,
    "keras.backend.batch_flatten": flattened,
    "math.abs": elementwise("Abs"),
    "math.add": _ADD,
    "math.add_n": _ADD,
    "math.divide": merging.divide,
    "math.exp": elementwise("Exp"),
    "math.log": elementwise("Log"),
    "math.maximum": _LARGER,
    "math.minimum": _SMALLER,
    "math.multiply": _MULTIPLY,
    "math.negative": elementwise("Neg"),
    "math.pow": power,
    "math.reciprocal": elementwise("Reciprocal"),
    "math.reduce_max": reduction("ReduceMax"),
    "math.reduce_mean": reduction("ReduceMean"),
    "math.reduce_min": reduction("ReduceMin"),
    "math.reduce_sum": reduction("ReduceSum"),
    "math.sigmoid": activation.simple("Sigmoid"),
    "math.softplus": activation.simple("Softplus"),
    "math.sqrt": elementwise("Sqrt"),
    "math.square": square,
    "math.subtract": merging.subtract,
    "math.tanh": activation.simple("Tanh"),
    "math.truediv": merging.divide,
    "nn.avg_pool2d": selecting.MEAN,
    "nn.bias_add": _ADD,
    "nn.depth_to_space": selecting.blocks("DepthToSpace"),
    "nn.elu": activation.simple("Elu"),
    "nn.gelu": _gelu,
    "nn.leaky_relu": _leaky,
    "nn.max_pool2d": selecting.MAXIMUM,
    "nn.relu": activation.simple("Relu"),
    "nn.relu6": activation.simple("Relu6"),
    "nn.selu": activation.simple("Selu"),
    "nn.sigmoid": activation.simple("Sigmoid"),
    "nn.silu": activation.simple("Silu"),
    "nn.softmax": _softmax,
    "nn.space_to_depth": selecting.blocks("SpaceToDepth"),
    "nn.swish": activation.simple("Silu"),
    "nn.tanh": activation.simple("Tanh"),
    "pad": selecting.pad,
    "reshape": reshape,
    "split": selecting.split,
    "squeeze": squeeze,
    "stack": selecting.stack,
    "tile": selecting.tile,
    "transpose": transpose,
    "unstack": selecting.unstack,
}
"""Functions of TensorFlow by the name that TFOpLambda stores."""
