"""An ACCESS file without its private attributes: plain ONNX that onnx's own tools accept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

import onnx_ir as ir

from dlaconv.ir.target import Target

if TYPE_CHECKING:
    import onnx

_WITHHELD_BYTES = 1024
"""Larger constants become graph inputs: the tools below need their shapes only."""

FIELD_ATTRIBUTES = frozenset(
    f"{what}_{kind}"
    for what in (
        "input", "output", "A", "B", "left", "right", "const", "weight", "weight_ch", "bias",
        "slopes", "intercepts",
    )
    for kind in ("scale", "scales", "bitdepth", "quant_dim")
)  # fmt: skip
"""Names that public files of other compiler versions use: vectors of scales, scales of the operands
of an Add, of constants and of piecewise linear functions."""


def private_attributes(target: Target) -> frozenset[str]:
    """Every attribute name that the target adds to standard operators, aliases included."""
    names = {name for attributes in target.ops.values() for name in attributes}
    return frozenset(names | set(target.attribute_aliases) | set(target.deprecated_attributes))


def remove_attributes(model: ir.Model, names: Collection[str]) -> Counter[str]:
    """Takes attributes away from every standard node; returns how many of each name."""
    removed: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        if node.domain not in {"", "ai.onnx"}:
            continue
        for name in [name for name in node.attributes if name in names]:
            del node.attributes[name]
            removed[name] += 1
    return removed


def infer_shapes(model: ir.Model) -> dict[str, tuple[int | None, ...]]:
    """Shapes by value name as onnx infers them, empty if it cannot; the model is not changed."""
    import onnx.shape_inference

    try:
        proto = onnx.shape_inference.infer_shapes(_light_proto(model), data_prop=True)
    except Exception:  # onnx's C++ code raises untyped exceptions; rules then see no shape
        return {}
    values = [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def checker_complaint(model: ir.Model, target: Target) -> str:
    """What ``onnx.checker`` says about the file without private attributes, empty if nothing."""
    import onnx.checker

    try:
        onnx.checker.check_model(_light_proto(model, private_attributes(target)), full_check=True)
    except Exception as error:  # onnx's C++ code raises untyped exceptions
        return str(error) or type(error).__name__
    return ""


def _light_proto(model: ir.Model, without: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """A protobuf of the model without large constants and without some attributes."""
    copy = model.clone()
    graph = copy.graph
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _WITHHELD_BYTES:
            continue
        value.shape, value.dtype = ir.Shape(tensor.shape.numpy()), tensor.dtype
        del graph.initializers[value.name or ""]
        value.const_value = None
        if value not in graph.inputs:
            graph.inputs.append(value)
    remove_attributes(copy, without)
    for node in graph:
        for value in node.outputs:
            if value.type is None:
                value.shape = None  # cannot be stored without a type; inferred again
    proto: onnx.ModelProto = ir.to_proto(copy)
    return proto
