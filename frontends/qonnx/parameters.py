"""Reading scales, zero points, bit widths and attributes, with a diagnostic for each that is off.

Every function returns None after adding a diagnostic.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.frontends.onnx.parameters import constant, quantised, scale, squeezed
from dlaconv.ir.graph import is_constant
from dlaconv.ir.rounding import Rounding

__all__ = [
    "bits", "constant", "flag", "quantised", "rounding", "scale", "squeezed", "zero_point",
]  # fmt: skip

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


def _bad_attribute(node: ir.Node, name: str, why: str, state: Import) -> None:
    state.refuse(
        node,
        "DLA108",
        "invalid-attribute",
        f"attribute {name!r} {why}",
        remedy="export the network again",
    )
