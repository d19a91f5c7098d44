"""Attributes of the operators that onnxruntime defines: ONNX's own checks do not look at them."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.handlers import Import

_INT, _INTS = ir.AttributeType.INT, ir.AttributeType.INTS
TYPES = {
    "alpha": ir.AttributeType.FLOAT,
    "auto_pad": ir.AttributeType.STRING,
    "axes": _INTS,
    "axis": _INT,
    "ceil_mode": _INT,
    "channels_last": _INT,
    "count_include_pad": _INT,
    "dilations": _INTS,
    "group": _INT,
    "keepdims": _INT,
    "kernel_shape": _INTS,
    "opset": _INT,
    "pads": _INTS,
    "strides": _INTS,
    "transA": _INT,
    "transB": _INT,
}
"""What the handlers read, by name."""


def usable(node: ir.Node, state: Import) -> bool:
    """Takes attributes away that no handler reads; refuses those of another type than they have."""
    good = True
    for name, item in list(node.attributes.items()):
        if name not in TYPES:
            del node.attributes[name]
        elif item.type is not TYPES[name]:
            good = False
            state.refuse(
                node,
                "DLA108",
                "invalid-attribute",
                f"attribute {name!r} is of type {item.type.name}, not {TYPES[name].name}",
                remedy="export the network again",
            )
    return good
