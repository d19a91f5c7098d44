"""Reading scales, zero points, bit widths and attributes, with a diagnostic for each that is off.

Every function returns None after adding a diagnostic.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.ir.graph import input_array, is_constant, is_optional_input_absent
from dlaconv.ir.rounding import Rounding

_MOST_BITS = 32
_ROUNDING = {
    "ROUND": Rounding.HALF_EVEN,
    "HALF_EVEN": Rounding.HALF_EVEN,
    "CEIL": Rounding.CEIL,
    "FLOOR": Rounding.FLOOR,
    "UP": Rounding.UP,
    "DOWN": Rounding.DOWN,
    "HALF_UP": Rounding.HALF_AWAY,
    "HALF_DOWN": Rounding.HALF_ZERO,
    "ROUND_TO_ZERO": Rounding.DOWN,
    "DPU": Rounding.HALF_DPU,
}
"""QONNX's names (in any case), and two of Brevitas', which it writes as they are."""
_KNOWN_UNABLE = {
    "STOCHASTIC_ROUND": "depends on chance (or is ROUND in eval mode, which the file does not say)",
    "LEARNED_ROUND": "depends on trained values that the file does not hold",
}


def quantised(node: ir.Node, state: Import) -> ir.Value | None:
    """The tensor that a node quantises."""
    x = node.inputs[0] if node.inputs else None
    if x is None or len(node.outputs) != 1:
        state.refuse(
            node,
            "DLA103",
            "missing-parameter",
            f"{node.op_type} needs something to quantise and has one result",
            remedy="export the network again",
        )
        return None
    if x.dtype not in {None, ir.DataType.FLOAT}:
        state.refuse(
            node,
            "DLA117",
            "element-type",
            f"the quantised tensor {x.name!r} holds {x.dtype} values, not float32",
            remedy="export the network in float32",
        )
        return None
    return x


def constant(node: ir.Node, index: int, what: str, state: Import) -> np.ndarray | None:
    """A constant input of numbers, as float32."""
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
    if array.dtype.kind not in "fiub" or array.size == 0:
        state.refuse(
            node,
            "DLA103",
            "missing-parameter",
            f"the {what} is a {array.dtype} tensor of shape {list(array.shape)}, not numbers",
            remedy="export the network again",
        )
        return None
    return array.astype(np.float32)


_LARGEST_SCALE = 2.0**100
"""Beyond it values and steps of the layers around leave float32."""


def scale(node: ir.Node, index: int, state: Import, what: str = "scale") -> np.ndarray | None:
    """A scale: positive and finite everywhere; shape ``[]`` if it is one number."""
    array = constant(node, index, what, state)
    if array is None:
        return None
    wrong = ~((array > 0) & (array < _LARGEST_SCALE))
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


def zero_point(node: ir.Node, index: int, state: Import) -> np.ndarray | None:
    """A zero point; shape ``[]`` if it is one number.

    Whole numbers on maps. Constants may have any: their values are known, so nothing is lost.
    """
    array = constant(node, index, "zero point", state)
    if array is None:
        return None
    wrong = ~np.isfinite(array)
    if not is_constant(node.inputs[0]):
        wrong |= np.rint(array) != array
    if wrong.any():
        state.refuse(
            node,
            "DLA106",
            "fractional-zero-point",
            f"the zero point must be a whole number: {float(array[wrong].flat[0]):g}",
            remedy="use a symmetric quantiser, or one that rounds its zero point",
            notes=("zero lies between two integers, so the integers are not those of the file",),
        )
        return None
    return squeezed(array)


def bits(node: ir.Node, index: int, state: Import, what: str = "bit width") -> int | None:
    """A bit width: one whole number from 1 to 32."""
    array = constant(node, index, what, state)
    if array is None:
        return None
    first = float(array.flat[0])
    if not (array == array.flat[0]).all():
        why = f"the {what} differs between channels: {array.min():g} to {array.max():g}"
    elif not np.isfinite(first) or first != np.rint(first) or not 1 <= first <= _MOST_BITS:
        why = f"the {what} must be a whole number from 1 to {_MOST_BITS}: {first:g}"
    else:
        return int(first)
    state.refuse(
        node,
        "DLA107",
        "invalid-bit-width",
        why,
        remedy="use a quantiser with one fixed bit width per tensor",
    )
    return None


def flag(node: ir.Node, name: str, state: Import, *, default: bool) -> bool | None:
    """An attribute that is 0 or 1."""
    found = node.attributes.get(name)
    if found is None:
        return default
    if found.type is ir.AttributeType.INT and found.value in {0, 1}:
        return bool(found.value)
    _bad_attribute(node, name, f"must be 0 or 1, not {_shown(found)}", state)
    return None


def rounding(node: ir.Node, state: Import, *, default: Rounding) -> Rounding | None:
    """The rounding mode."""
    found = node.attributes.get("rounding_mode")
    if found is None:
        return default
    if found.type is not ir.AttributeType.STRING:
        _bad_attribute(node, "rounding_mode", f"must be a name, not {_shown(found)}", state)
        return None
    written = found.as_string()
    mode = _ROUNDING.get(written.upper())
    if mode is None:
        why = _KNOWN_UNABLE.get(written.upper(), "is no rounding mode of QONNX")
        state.refuse(
            node,
            "DLA109",
            "unknown-rounding",
            f"rounding mode {written!r} {why}",
            remedy="train or export with a mode that says one integer: " + ", ".join(_ROUNDING),
            notes=("in power-of-two networks up to 6 % of the values are ties",),
        )
    return mode


def _shown(attribute: ir.Attr) -> str:
    """A value for a message: large ones by their type."""
    scalars = (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING)
    return repr(attribute.value) if attribute.type in scalars else f"of type {attribute.type.name}"


def squeezed(array: np.ndarray) -> np.ndarray:
    """An array of one number as a scalar; others as they are."""
    return array.reshape(()) if array.size == 1 else array


def _bad_attribute(node: ir.Node, name: str, why: str, state: Import) -> None:
    state.refuse(
        node,
        "DLA108",
        "invalid-attribute",
        f"attribute {name!r} {why}",
        remedy="export the network again",
    )
