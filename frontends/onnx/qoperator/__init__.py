"""Operators on quantised maps (QOperator files): each becomes its operator on real values.

The result is quantised as the file says; ONNX and onnxruntime define these operators that way, up
to the order of sums in floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from dlaconv.frontends.onnx.integers import OnnxImport
from dlaconv.frontends.onnx.qoperator.concat import qlinear_concat
from dlaconv.frontends.onnx.qoperator.elementwise import of_one, of_two, qlinear_softmax
from dlaconv.frontends.onnx.qoperator.layers import q_gemm, qlinear_conv, qlinear_mat_mul
from dlaconv.frontends.onnx.qoperator.pooling import (
    qlinear_average_pool,
    qlinear_global_average_pool,
    qlinear_reduce_mean,
)

Handler = Callable[[ir.Node, OnnxImport], None]
STANDARD: Mapping[str, Handler] = {
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_mat_mul,
}
"""Operators of ONNX itself; onnxruntime's own domain has them too."""
CONTRIBUTED: Mapping[str, Handler] = {
    **STANDARD,
    "QGemm": q_gemm,
    "QLinearAdd": of_two("Add"),
    "QLinearMul": of_two("Mul"),
    "QLinearAveragePool": qlinear_average_pool,
    "QLinearGlobalAveragePool": qlinear_global_average_pool,
    "QLinearReduceMean": qlinear_reduce_mean,
    "QLinearConcat": qlinear_concat,
    "QLinearSigmoid": of_one("Sigmoid"),
    "QLinearLeakyRelu": of_one("LeakyRelu"),
    "QLinearSoftmax": qlinear_softmax,
}
"""Operators of the domain com.microsoft."""

_ONE = {0: (1, 2)}
_TWO = {0: (1, 2), 3: (4, 5)}
OPERANDS: Mapping[str, Mapping[int, tuple[int, int]]] = {
    **dict.fromkeys(CONTRIBUTED, _ONE),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul"), _TWO),
    "QLinearConcat": {index: (index + 1, index + 2) for index in range(2, 302, 3)},
}
"""Where scale and zero point of each integer input stand, by operator."""
