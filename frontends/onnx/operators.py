"""Which operators the frontend of plain ONNX knows, and what to do about those that it does not."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from dlaconv.frontends.onnx.dynamic import (
    conv_integer,
    dynamic_quantize_linear,
    dynamic_quantize_mat_mul,
    mat_mul_integer,
    mat_mul_integer_to_float,
)
from dlaconv.frontends.onnx.integers import OnnxImport
from dlaconv.frontends.onnx.qdq import dequantize_linear, quantize_linear
from dlaconv.frontends.onnx.qoperator import CONTRIBUTED, STANDARD

Handler = Callable[[ir.Node, OnnxImport], None]
CONTRIB = "com.microsoft"
_QDQ: dict[str, Handler] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
}
DYNAMIC: dict[str, dict[str, Handler]] = {
    "": {
        "DynamicQuantizeLinear": dynamic_quantize_linear,
        "ConvInteger": conv_integer,
        "MatMulInteger": mat_mul_integer,
    },
    CONTRIB: {
        "DynamicQuantizeMatMul": dynamic_quantize_mat_mul,
        "MatMulIntegerToFloat": mat_mul_integer_to_float,
    },
}
"""Operators of networks whose maps are quantised by what they happen to hold at run time."""
HANDLERS: dict[str, dict[str, Handler]] = {
    "": {**_QDQ, **STANDARD, **DYNAMIC[""]},
    CONTRIB: {**_QDQ, **CONTRIBUTED, **DYNAMIC[CONTRIB]},
}
"""The handlers by domain and operator."""

_FUSED = (
    "is a layer that onnxruntime has fused",
    "export the network again, and save it without onnxruntime's optimisations",
)
_KNOWN: dict[tuple[str, str], tuple[str, str]] = {
    (CONTRIB, "MatMulNBits"): (
        "has weights in blocks that each have their own scale",
        "quantise the weights per output channel, or convert the float original with --calibrate",
    ),
    (CONTRIB, "DynamicQuantizeLSTM"): (
        "is a recurrent layer, quantised by what its maps hold at run time",
        "the accelerator has no recurrent layers; convert the part before it",
    ),
    (CONTRIB, "QAttention"): (
        "computes attention on quantised maps",
        "convert the float original; attention runs on the host (--partition)",
    ),
}
_OPTIMISED = ("Fused", "Bias", "Skip", "NhwcFused", "QuickGelu", "FastGelu", "TransposeMatMul")
_REMEDY = "express it with standard ONNX operators, or add it with a plugin (register_layers)"


def why_not(domain: str, op_type: str) -> tuple[str, str]:
    """What is known about an operator that cannot be read, and what to do about it."""
    if known := _KNOWN.get((domain, op_type)):
        return known
    if domain in {CONTRIB, "com.ms.internal.nhwc", "com.microsoft.nchwc"} and (
        domain != CONTRIB or op_type.startswith(_OPTIMISED)
    ):
        return _FUSED
    place = f"of domain {domain!r} " if domain else ""
    return f"{place}is no operator that this frontend knows", _REMEDY
