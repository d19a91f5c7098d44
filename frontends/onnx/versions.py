"""One function per operator that says the same in opset 18 in another way than before or after.

`OLDER` brings forms of opset 7 to 17 forward, `NEWER` those of opset 19 to 21 back. `SAME` lists
operators that gained element types or optional features since, and mean the same without them.
The changes are those of ONNX's changelog (``Changelog.md``), read for inference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_optional_input_absent,
    rank_of,
    register_constants,
    replace_node,
)

_LOWEST, _HIGHEST = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)


class InexpressibleError(ValueError):
    """A node uses something that opset 18 does not have; the message says what."""


Change = Callable[[ir.Node, int], None]
"""Rewrites one node of the given opset in place."""


def _to_input(node: ir.Node, name: str, index: int, default: Sequence[int] | None = None) -> None:
    """Moves a list attribute to an input."""
    found = node.attributes.pop(name, None)
    values = default if found is None else list(found.as_ints())
    if values is not None:
        _set_input(node, index, np.asarray(values, np.int64), name)


def _set_input(node: ir.Node, index: int, array: np.ndarray, name: str) -> None:
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, dialect.constant(f"{node.name}/{name}", array))
    if isinstance(node.graph, ir.Graph):
        register_constants(node.graph, [node])


def _drop(node: ir.Node, name: str, harmless: float | str | list[int]) -> None:
    """Drops an attribute that opset 18 lacks, if its value changes nothing."""
    found = node.attributes.get(name)
    if found is None:
        return
    value = found.value
    value = value.decode() if isinstance(value, bytes) else value
    if isinstance(harmless, list):
        fits = all(item in harmless for item in value)
    else:
        fits = value == harmless
    if not fits:
        raise InexpressibleError(f"{name}={value}")
    node.attributes.pop(name)


def _only_outputs(node: ir.Node, count: int) -> None:
    if any(value.uses() or value.is_graph_output() for value in node.outputs[count:]):
        raise InexpressibleError(f"more than {count} outputs")
    node.resize_outputs(count)


def _axes(node: ir.Node, opset: int) -> None:
    _to_input(node, "axes", 1)


def _batch_normalization(node: ir.Node, opset: int) -> None:
    _drop(node, "spatial", 1)
    if opset < 14:
        _only_outputs(node, 1)


def _clip(node: ir.Node, opset: int) -> None:
    if opset >= 11:
        return
    for index, name, default in ((1, "min", _LOWEST), (2, "max", _HIGHEST)):
        found = node.attributes.pop(name, None)
        value = default if found is None else found.as_float()
        _set_input(node, index, np.asarray(value, np.float32), name)


def _dropout(node: ir.Node, opset: int) -> None:
    node.attributes.pop("ratio", None)
    _only_outputs(node, 1)


def _flattening(node: ir.Node, opset: int) -> None:
    """Softmax and its like up to opset 12 work on a matrix: axes before ``axis``, and the rest."""
    if opset >= 13:
        return
    source = node.inputs[0]
    rank = rank_of(source) if source is not None else None
    axis = int(attribute(node, "axis", 1))
    if rank is not None and axis % max(rank, 1) == rank - 1:
        node.attributes["axis"] = ir.AttrInt64("axis", rank - 1)
        return
    if axis < 0:
        raise InexpressibleError(f"axis={axis} counted from the end, of an unknown rank")
    shape = ir.node("Shape", [source], name=f"{node.name}/shape")
    flat = ir.node("Flatten", [source], {"axis": axis}, name=f"{node.name}/flatten")
    inner = ir.node(node.op_type, [flat.outputs[0]], {"axis": 1}, name=f"{node.name}/rows")
    back = ir.node("Reshape", [inner.outputs[0], shape.outputs[0]], name=f"{node.name}/reshape")
    for made in (shape, flat, inner, back):
        made.outputs[0].name = f"{made.name}/out"
    replace_node(node, shape, flat, inner, back)


def _pad(node: ir.Node, opset: int) -> None:
    if opset < 11:
        _to_input(node, "pads", 1)
        found = node.attributes.pop("value", None)
        _set_input(
            node, 2, np.asarray(0.0 if found is None else found.as_float(), np.float32), "value"
        )
    elif opset > 18 and attribute(node, "mode", "constant") == "wrap":
        raise InexpressibleError("mode=wrap")


def _resize(node: ir.Node, opset: int) -> None:
    if opset >= 19:
        if attribute(node, "coordinate_transformation_mode", "") == "half_pixel_symmetric":
            raise InexpressibleError("coordinate_transformation_mode=half_pixel_symmetric")
        return
    if opset == 10:
        _resize_10(node, node.inputs[1])
        return
    for index in (1, 2):  # opset 11 has no optional inputs: empty tensors stand for "not given"
        array = input_array(node, index)
        if array is not None and array.size == 0:
            node.replace_input_with(index, None)
    cropping = attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    if not cropping and len(node.inputs) > 1:
        node.replace_input_with(1, None)
    if not is_optional_input_absent(node, 2) and not is_optional_input_absent(node, 3):
        raise InexpressibleError("scales and sizes at once")
    if attribute(node, "coordinate_transformation_mode", "") == "tf_half_pixel_for_nn":
        raise InexpressibleError("coordinate_transformation_mode=tf_half_pixel_for_nn")


def _resize_10(node: ir.Node, scales: ir.Value | None) -> None:
    array = dialect.array_of(scales) if scales is not None and scales.const_value else None
    if array is None or (array < 1).any():
        raise InexpressibleError("scales that are not constant or shrink the map")
    node.resize_inputs(3)
    node.replace_input_with(1, None)
    node.replace_input_with(2, scales)
    mode = "nearest" if attribute(node, "mode", "nearest") == "nearest" else "linear"
    node.attributes["mode"] = ir.AttrString("mode", mode)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString(
        "coordinate_transformation_mode", "asymmetric"
    )
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")


def _upsample(node: ir.Node, opset: int) -> None:
    if opset >= 10:
        raise InexpressibleError("an operator that opset 10 removed")
    found = node.attributes.pop("scales", None)
    if found is not None:
        _set_input(node, 1, np.asarray(found.as_floats(), np.float32), "scales")
    node.op_type = "Resize"
    _resize_10(node, node.inputs[1] if len(node.inputs) > 1 else None)


def _roi_align(node: ir.Node, opset: int) -> None:
    name = "coordinate_transformation_mode"
    if opset < 16:
        node.attributes[name] = ir.AttrString(name, "output_half_pixel")


def _scatter(node: ir.Node, opset: int) -> None:
    node.op_type = "ScatterElements"


def _slice(node: ir.Node, opset: int) -> None:
    if opset >= 10:
        return
    axes = node.attributes.pop("axes", None)
    _to_input(node, "starts", 1, [])
    _to_input(node, "ends", 2, [])
    if axes is not None:
        _set_input(node, 3, np.asarray(axes.as_ints(), np.int64), "axes")


def _split(node: ir.Node, opset: int) -> None:
    if opset < 13:
        _to_input(node, "split", 1)
    if is_optional_input_absent(node, 1):
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _top_k(node: ir.Node, opset: int) -> None:
    found = node.attributes.pop("k", None)
    if found is not None:
        _set_input(node, 1, np.asarray([found.as_int()], np.int64), "k")


def _average_pool_back(node: ir.Node, opset: int) -> None:
    _drop(node, "dilations", [1])


def _cast_back(node: ir.Node, opset: int) -> None:
    node.attributes.pop("saturate", None)  # of meaning for 8-bit floats only


def _dequantize_back(node: ir.Node, opset: int) -> None:
    _drop(node, "block_size", 0)


_QUANTISED = (
    ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8, ir.DataType.UINT8,
    ir.DataType.INT16, ir.DataType.UINT16,
)  # fmt: skip
"""Opset 18 has the types of 8 bits only; frontends replace the others' quantisers."""


def _quantize_back(node: ir.Node, opset: int) -> None:
    _drop(node, "block_size", 0)
    node.attributes.pop("saturate", None)
    found = node.attributes.pop("output_dtype", None)
    if found is not None and found.as_int() and is_optional_input_absent(node, 2):
        kind = ir.DataType(found.as_int())
        if kind not in _QUANTISED:
            raise InexpressibleError(f"output_dtype={kind.name}")
        scale = input_array(node, 1)
        if scale is None:
            raise InexpressibleError("output_dtype with a scale that is not constant")
        _set_input(node, 2, np.zeros(scale.shape, kind.numpy()), "zero_point")


_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

OLDER: dict[str, Change] = {
    **dict.fromkeys((*_REDUCTIONS, "Squeeze", "Unsqueeze"), _axes),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _flattening),
    "BatchNormalization": _batch_normalization,
    "Clip": _clip,
    "Dropout": _dropout,
    "Pad": _pad,
    "Resize": _resize,
    "RoiAlign": _roi_align,
    "Scatter": _scatter,
    "Slice": _slice,
    "Split": _split,
    "TopK": _top_k,
    "Upsample": _upsample,
}

NEWER: dict[str, Change] = {
    "AveragePool": _average_pool_back,
    "Cast": _cast_back,
    "CastLike": _cast_back,
    "DequantizeLinear": _dequantize_back,
    "Pad": _pad,
    "QuantizeLinear": _quantize_back,
    "Resize": _resize,
}

SAME = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "Cast", "CastLike", "Ceil",
        "Compress", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "CumSum",
        "DepthToSpace", "DequantizeLinear", "Div", "Equal", "Erf", "Exp", "Expand", "Flatten",
        "Floor", "GRU", "Gather", "GatherElements", "GatherND", "Gemm", "Greater",
        "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "LRN", "LSTM", "LeakyRelu", "Less",
        "LessOrEqual", "Log", "LpPool", "MatMul", "Max", "MaxPool", "MaxUnpool", "Mean",
        "MeanVarianceNormalization", "Min", "Mod", "Mul", "Neg", "NonMaxSuppression", "NonZero",
        "OneHot", "PRelu", "Pow", "QLinearMatMul", "QuantizeLinear", "RNN", "Reciprocal",
        "ReduceMax", "ReduceMin", "Relu", "Reshape", "ScatterElements", "ScatterND", "Shape",
        "Sigmoid", "Sign", "Size", "SpaceToDepth", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh",
        "Tile", "Transpose", "Unsqueeze", "Where",
    }
)  # fmt: skip
"""Operators whose older and newer forms are valid in opset 18 as they are."""
