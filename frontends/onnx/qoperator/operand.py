"""What the handlers of QLinear operators have in common: operands in, one quantised result out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.onnx import parameters
from dlaconv.frontends.onnx.integers import (
    Grid,
    OnnxImport,
    dequantised,
    grid_of,
    made,
    reals_of,
    store,
)
from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    input_array,
    is_constant,
    is_optional_input_absent,
    rank_of,
)

Operand = tuple[ir.Value, Grid]
"""The real values of an operand, and what its integers are worth."""


def operand(
    node: ir.Node,
    places: tuple[int, int, int],
    state: OnnxImport,
    *,
    axis: int | None = None,
    what: str = "",
) -> Operand | None:
    """Reads a quantised operand; None after adding a diagnostic.

    Args:
        node: the node.
        places: inputs of the integers, of the scale, of the zero point.
        state: what became of integers so far; takes the diagnostics.
        axis: the axis that parameters per channel count, None if they cannot.
        what: the operand in words, for messages.
    """
    value = node.inputs[places[0]] if places[0] < len(node.inputs) else None
    if value is None:
        parameters.missing(node, f"an input {places[0]}", state)
        return None
    kind = state.stored[value].dtype if value in state.stored else value.dtype
    grid = grid_of(
        node,
        *places[1:],
        state,
        kind=kind,
        axis=axis,
        rank=rank_of(value),
        what=what or "an operand",
    )
    real = reals_of(node, places[0], grid, state) if grid is not None else None
    return None if real is None or grid is None else (real, grid)


def result_grid(
    node: ir.Node, scale: int, zero: int, state: OnnxImport, kind: ir.DataType | None = None
) -> Grid | None:
    """What the integers of the result are worth; None after adding a diagnostic.

    Args:
        node: the node.
        scale: input of the scale.
        zero: input of the zero point.
        state: takes the diagnostics.
        kind: the result's type where no zero point says it.
    """
    given = node.inputs[zero] if zero < len(node.inputs) else None
    kind = kind if given is None else given.dtype
    node.outputs[0].dtype = kind or ir.DataType.UINT8
    return grid_of(node, scale, zero, state, kind=kind, what="the result")


def kind_of(node: ir.Node, index: int, state: OnnxImport) -> ir.DataType | None:
    """The element type of an integer input."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    return state.stored[value].dtype if value in state.stored else value.dtype


def bias(node: ir.Node, index: int, step: np.ndarray, state: OnnxImport) -> ir.Value | None:
    """A constant int32 bias, in steps of the accumulator; None if it is no constant.

    Args:
        node: the node.
        index: where the bias is; it is there.
        step: what a unit of the accumulator is worth, one number or one per output channel.
        state: takes the diagnostics.
    """
    value = node.inputs[index]
    if value is None or not is_constant(value):
        parameters.numbers(node, index, "bias", state)
        return None
    if value.dtype is not ir.DataType.INT32 or rank_of(value) != 1:
        state.refuse(
            node,
            "DLA117",
            "element-type",
            f"the bias {value.name!r} is no vector of int32",
            remedy="export the network again",
        )
        return None
    return dequantised(node, value, step, value.name or "bias")


def accumulator_step(one: Grid, other: Grid) -> np.ndarray:
    """What a unit of a sum of products is worth: one number, or one per output channel."""
    step = one.scale.reshape(-1) * other.scale.reshape(-1)
    return np.asarray(parameters.squeezed(step), np.float32)


def kept(node: ir.Node, op_type: str) -> dict[str, ir.Attr]:
    """The attributes that the operator in floating point has too."""
    import onnx

    known = onnx.defs.get_schema(op_type, dialect.OPSET, "").attributes
    return {name: item for name, item in node.attributes.items() if name in known}


def finish(
    node: ir.Node,
    op_type: str,
    inputs: list[ir.Value | None],
    grid: Grid,
    state: OnnxImport,
    attributes: dict[str, ir.Attr] | None = None,
    *,
    zero_first: bool = False,
) -> None:
    """Replaces a node by the operator on reals, and a quantiser of its result.

    Args:
        node: the node.
        op_type: the operator.
        inputs: its real operands.
        grid: what the integers of the result are worth.
        state: learns of them.
        attributes: those of the operator.
        zero_first: True for the operators that onnxruntime rounds with the zero point added, which
            decides ties where it is odd.
    """
    store(node, made(node, op_type, inputs, attributes), grid, state, zero_first=zero_first)


def first_channels(node: ir.Node, x: ir.Value) -> ir.Value:
    """A map with its channels in front, whatever ``channels_last`` says."""
    if not attribute(node, "channels_last", 0):
        return x
    last = (rank_of(x) or 4) - 1
    perm = [0, last, *range(1, last)]
    return made(node, "Transpose", [x], {"perm": ir.AttrInt64s("perm", perm)})


def back_again(node: ir.Node, x: ir.Value, dimensions: int | None) -> ir.Value:
    """Undoes `first_channels` on a result."""
    if not attribute(node, "channels_last", 0):
        return x
    perm = [0, *range(2, dimensions or 4), 1]
    return made(node, "Transpose", [x], {"perm": ir.AttrInt64s("perm", perm)})


def integers(node: ir.Node, name: str, values: list[int]) -> ir.Value:
    """A constant list of numbers."""
    return dialect.constant(f"{node.name}/{name}", np.asarray(values, np.int64))


def absent(node: ir.Node, index: int) -> bool:
    """True if an optional input is left out."""
    return is_optional_input_absent(node, index) or (
        (array := input_array(node, index)) is not None and array.size == 0
    )
