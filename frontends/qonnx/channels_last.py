"""Operators on channels-last maps (``qonnx-to-channels-last``): Transpose, operator, Transpose.

Weights of Conv are stored channels last too, ``[O, kh, kw, I]``: that is what QONNX executes. Some
files keep them ``[O, I, kh, kw]``; the kernel's shape tells which.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    ints_attribute,
    is_constant,
    is_op,
    producer,
    rank_of,
    replace_node,
    shape_of,
)

_KERNEL = ("Conv", "MaxPool", "AveragePool")
OPERATORS = (*_KERNEL, "BatchNormalization", "GlobalAveragePool", "GlobalMaxPool")
"""The standard operators that the domain wraps."""
_FEWEST_DIMENSIONS = 2
_ELEMENTWISE = (
    "Relu", "LeakyRelu", "PRelu", "Clip", "Tanh", "Sigmoid", "HardSwish", "Add", "Sub", "Mul",
    "Div", "Concat", "Identity", "Dropout",
)  # fmt: skip


def channels_last(node: ir.Node, state: Import) -> None:
    """Wraps a standard operator of the same name and attributes; weights are turned too."""
    x = node.inputs[0] if node.inputs else None
    if (why := _invalid(node)) is not None:
        state.refuse(node, "DLA108", "invalid-attribute", why, remedy="export the network again")
        return
    rank = _rank(node)
    if x is None or rank is None or rank < _FEWEST_DIMENSIONS or len(node.outputs) != 1:
        state.refuse(
            node,
            "DLA116",
            "unknown-layout",
            f"the number of dimensions of the channels-last {node.op_type} is not known",
            remedy="export with shapes (qonnx-cleanup adds them), or keep the network channels "
            "first",
        )
        return
    last = rank - 1
    first, back = [0, last, *range(1, last)], [0, *range(2, rank), 1]
    before = _transpose(x, first, f"{node.name}/nchw")
    made = [before]
    inputs = [before.outputs[0], *node.inputs[1:]]
    if node.op_type == "Conv" and len(inputs) > 1 and inputs[1] is not None:
        layout = _weight_layout(node)
        if layout is None:
            state.refuse(
                node,
                "DLA116",
                "unknown-layout",
                f"weights of shape {list(shape_of(inputs[1]) or ())} do not fit a kernel of "
                f"{list(ints_attribute(node, 'kernel_shape'))}, in whatever order",
                remedy="export the network again",
            )
            return
        if layout == "channels last":
            made.append(_transpose(inputs[1], first, f"{node.name}/weights"))
            inputs[1] = made[-1].outputs[0]
    operator = ir.node(node.op_type, inputs, dict(node.attributes), name=node.name)
    operator.outputs[0].name = f"{node.name}/nchw/out"
    after = _transpose(operator.outputs[0], back, f"{node.name}/nhwc")
    replace_node(node, *made, operator, after)


def _transpose(value: ir.Value, perm: Sequence[int], name: str) -> ir.Node:
    node = ir.node("Transpose", [value], {"perm": list(perm)}, name=name)
    node.outputs[0].name = f"{name}/in"
    return node


def _invalid(node: ir.Node) -> str | None:
    """What the standard operator of the same name has against the node, if anything."""
    import onnx

    proto = ir.serde.serialize_node(node)
    proto.domain = ""
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = dialect.IR_VERSION, {"": dialect.OPSET}
    try:
        onnx.checker.check_node(proto, context)
    except onnx.checker.ValidationError as error:
        return str(error).strip().partition("\n")[0]
    return None


def _rank(node: ir.Node) -> int | None:
    if kernel := ints_attribute(node, "kernel_shape"):
        return len(kernel) + 2
    indices = (1, 0) if node.op_type == "Conv" else (0,)
    for index in indices:
        value = node.inputs[index] if index < len(node.inputs) else None
        if (rank := _rank_of_value(value)) is not None:
            return rank
    return rank_of(node.outputs[0])


def _rank_of_value(value: ir.Value | None) -> int | None:
    """The rank of a value: declared, or that of what it is computed from elementwise."""
    while value is not None and (rank := rank_of(value)) is None:
        node = producer(value)
        if is_op(node, "Transpose") and node is not None and "perm" in node.attributes:
            return len(ints_attribute(node, "perm"))  # of an operator that was turned before
        if node is None or not (node.domain == dialect.DOMAIN or is_op(node, *_ELEMENTWISE)):
            return None
        value = next((x for x in node.inputs if x is not None and not is_constant(x)), None)
    return rank if value is not None else None


def _weight_layout(node: ir.Node) -> str | None:
    weights = node.inputs[1]
    shape = shape_of(weights) if weights is not None else None
    kernel = ints_attribute(node, "kernel_shape")
    if shape is None or not kernel or shape[1:-1] == kernel:
        return "channels last"
    return "channels first" if shape[2:] == kernel else None
