"""Quant and IntQuant (one operator under two names), and BipolarQuant.

QONNX computes, in float32: ``y = clip(x / scale + zeropt, qmin, qmax)``, rounds ``y``, and returns
``(y - zeropt) * scale``. Clipping to whole numbers before or after rounding is the same in every
mode. A signed Quant of one bit is no {-1, 0} but a sign: +1 from zero on, else -1.
"""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.frontends.handlers import Import
from dlaconv.frontends.qonnx import parameters
from dlaconv.ir import dialect
from dlaconv.ir.graph import replace_node
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding


def quant(node: ir.Node, state: Import) -> None:
    """Inputs: x, scale, zero point, bit width. Attributes: signed, narrow, rounding_mode."""
    scale = parameters.scale(node, 1, state)
    zero_point = parameters.zero_point(node, 2, state)
    bits = parameters.bits(node, 3, state)
    signed = parameters.flag(node, "signed", state, default=True)
    narrow = parameters.flag(node, "narrow", state, default=False)
    rounding = parameters.rounding(node, state, default=Rounding.HALF_EVEN)
    x = parameters.quantised(node, state)
    if x is None or scale is None or zero_point is None or bits is None:
        return
    if signed is None or narrow is None or rounding is None:
        return
    if bits == 1 and signed:
        if zero_point.any():
            state.refuse(
                node,
                "DLA106",
                "fractional-zero-point",
                f"a sign (signed, 1 bit) with a zero point of {float(zero_point.flat[0]):g}",
                remedy="use a symmetric quantiser",
            )
            return
        replace_node(node, dialect.bipolar(x, scale, name=node.name or "bipolar"))
        return
    if bits == 1 and narrow:
        state.refuse(
            node,
            "DLA107",
            "invalid-bit-width",
            "1 bit, unsigned and narrow leaves nothing but zero",
            remedy="drop the narrow range or use more bits",
        )
        return
    quantisation = Quantisation.of(
        scale, bits, signed=signed, narrow=narrow, zero_point=zero_point, rounding=rounding
    )
    replace_node(node, dialect.quantize(x, quantisation, name=node.name or "quant"))


def bipolar_quant(node: ir.Node, state: Import) -> None:
    """Inputs: x, scale. ``scale`` where x >= 0, else ``-scale``."""
    scale = parameters.scale(node, 1, state)
    x = parameters.quantised(node, state)
    if scale is not None and x is not None:
        replace_node(node, dialect.bipolar(x, scale, name=node.name or "bipolar"))
