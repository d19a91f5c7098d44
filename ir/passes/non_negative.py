"""Where a map is known to hold nothing below zero."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.graph import input_array, is_op, producer
from dlaconv.ir.layers import MOVING
from dlaconv.ir.quantisation import Quantisation

_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs")
_AS_THEIR_INPUTS = (
    *MOVING, "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceSum", "ReduceMean",
    "ReduceMax", "Add", "LeakyRelu", "Dropout", "Identity",
)  # fmt: skip


def non_negative(value: ir.Value) -> bool:
    """True if no input of the network can make any element of ``value`` negative."""
    pending, seen = [value], {value}
    while pending:
        current = pending.pop()
        sources = _must_be_non_negative(current)
        if sources is None:
            if IntervalBounds().of(current)[0] < 0:
                return False
            continue
        pending += [source for source in sources if source not in seen]
        seen.update(sources)
    return True


def _must_be_non_negative(value: ir.Value) -> list[ir.Value] | None:
    """What has to be non-negative for a value to be so; None if only bounds can tell."""
    node = producer(value)
    if node is None:
        return None
    if is_op(node, *_NEVER_NEGATIVE):
        return []
    if is_op(node, "Clip"):
        least = input_array(node, 1)
        return [] if least is not None and least.min(initial=0) >= 0 and least.size else None
    inputs = [source for source in node.inputs if source is not None]
    if is_op(node, *_AS_THEIR_INPUTS):
        return inputs if is_op(node, "Add", "Concat") else inputs[:1]
    if dialect.is_quantize(node):
        quantisation = dialect.quantisation_of(node)
        if float(quantisation.qmin) >= float(quantisation.zero_point.max()):
            return []
        return inputs[:1] if _keeps_zero(quantisation) else None
    return None


def _keeps_zero(quantisation: Quantisation) -> bool:
    """True if zero is on the grid: then rounding makes nothing negative of what is not."""
    zeros = quantisation.zero_point
    return bool(
        (zeros == zeros.round()).all()
        and (zeros >= quantisation.qmin).all()
        and (zeros <= quantisation.qmax).all()
    )
