"""Reading the constant parameters of quantisers, with a diagnostic for each that is off.

Every function returns None after adding a diagnostic.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.ir.graph import input_array, is_optional_input_absent

LARGEST_SCALE = 2.0**100
"""Beyond it values and steps of the layers around leave float32."""


def quantised(node: ir.Node, state: Import, outputs: int = 1) -> ir.Value | None:
    """The tensor of real values that a node quantises."""
    x = node.inputs[0] if node.inputs else None
    if x is None or len(node.outputs) != outputs:
        missing(node, "something to quantise and one result", state)
        return None
    if x.dtype not in {None, ir.DataType.FLOAT}:
        refuse_type(node, x, state)
        return None
    return x


def refuse_type(node: ir.Node, x: ir.Value, state: Import) -> None:
    """Adds an error for a quantised tensor that does not hold float32 values."""
    state.refuse(
        node,
        "DLA117",
        "element-type",
        f"the quantised tensor {x.name!r} holds {x.dtype} values, not float32",
        remedy="export the network in float32",
    )


def missing(node: ir.Node, what: str, state: Import) -> None:
    """Adds an error for a node that lacks a part."""
    state.refuse(
        node,
        "DLA103",
        "missing-parameter",
        f"{node.op_type} needs {what}",
        remedy="export the network again",
    )


def constant(node: ir.Node, index: int, what: str, state: Import) -> np.ndarray | None:
    """A constant input of numbers, as float32."""
    array = numbers(node, index, what, state)
    return None if array is None else array.astype(np.float32)


def numbers(node: ir.Node, index: int, what: str, state: Import) -> np.ndarray | None:
    """A constant input of numbers, in its own type."""
    if is_optional_input_absent(node, index):
        state.refuse(
            node,
            "DLA103",
            "missing-parameter",
            f"{node.op_type} has no {what} (input {index})",
            remedy="export the network again",
        )
        return None
    array = input_array(node, index)
    if array is None:
        value = node.inputs[index]
        state.refuse(
            node,
            "DLA104",
            "dynamic-parameter",
            f"the {what} {value.name if value else ''!r} is computed from the network's data",
            remedy="export the network in eval mode, with static quantisers",
            notes=("a step on the accelerator is a constant of the compiled network",),
        )
        return None
    if not _is_numeric(array) or array.size == 0:
        state.refuse(
            node,
            "DLA103",
            "missing-parameter",
            f"the {what} is a {array.dtype} tensor of shape {list(array.shape)}, not numbers",
            remedy="export the network again",
        )
        return None
    return array


def _is_numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "fiub" or array.dtype.name in {"int4", "uint4"}


def scale(node: ir.Node, index: int, state: Import, what: str = "scale") -> np.ndarray | None:
    """A scale: positive and finite everywhere; shape ``[]`` if it is one number."""
    array = constant(node, index, what, state)
    if array is None:
        return None
    wrong = ~((array > 0) & (array < LARGEST_SCALE))
    if wrong.any():
        value = float(array[wrong].flat[0])
        many = f"{int(wrong.sum())} of {array.size} values, such as " if array.size > 1 else ""
        state.refuse(
            node,
            "DLA105",
            "invalid-scale",
            f"the {what} must be positive and finite, below 2^100: {many}{value:g}",
            remedy="check the training: a scale that has collapsed belongs to a dead channel",
        )
        return None
    return squeezed(array)


def squeezed(array: np.ndarray) -> np.ndarray:
    """An array of one number as a scalar; others as they are."""
    return array.reshape(()) if array.size == 1 else array
