"""Making nodes of the twin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect

Reader = tuple[ir.Node, int]
"""A node that reads a value, and as which input."""


def made(
    op_type: str,
    inputs: Sequence[ir.Value | None],
    name: str,
    shape: ir.Shape | None,
    dtype: ir.DataType = ir.DataType.FLOAT,
    *,
    output: str = "",
    axis: int | None = None,
) -> ir.Node:
    """A standard node whose one result has a name, a shape and a type.

    Args:
        op_type: the operator.
        inputs: what it reads.
        name: the node's name.
        shape: the result's shape.
        dtype: the result's type.
        output: the result's name, ``<name>/out`` if empty.
        axis: its attribute of this name, if it has one.
    """
    attributes = {} if axis is None else {"axis": axis}
    node = ir.node(op_type, list(inputs), attributes, name=name)
    result = node.outputs[0]
    result.name, result.shape, result.dtype = output or f"{name}/out", shape, dtype
    return node


def number(name: str, value: float) -> ir.Value:
    """A float32 constant."""
    return dialect.constant(name, np.array(value, np.float32))


def readers_of(value: ir.Value) -> list[Reader]:
    """Who reads a value at this moment."""
    return [(use.node, use.idx) for use in value.uses()]


def let_read(value: ir.Value, readers: Iterable[Reader]) -> None:
    """Gives the readers of another value this one."""
    for node, index in readers:
        node.replace_input_with(index, value)
