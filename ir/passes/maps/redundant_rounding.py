"""Drops a rounding that changes nothing because its values are on its grid already."""

from __future__ import annotations

import math

import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import (
    attribute,
    bypass,
    ints_attribute,
    is_op,
    producer,
    shape_of,
    sole_consumer,
)
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation

_SAME = 1e-5


@ir_pass(tolerance=None)
def redundant_rounding(model: ir.Model, context: Context) -> None:
    """Replaces Quantize(Quantize(average)) by one Quantize where the first is exact.

    The average of k integers of step s is a multiple of s/k. A quantiser of that step, or of a
    whole fraction of it, moves nothing; Brevitas exports one as the first half of each Trunc. The
    hardware sums integers, so it needs no such step; float arithmetic does, at exact ties, so
    values of the float graph may change by a unit there.
    """
    del context
    for node in list(model.graph):
        if not dialect.is_quantize(node) or not is_op(
            producer(node.inputs[0]), "AveragePool", "GlobalAveragePool"
        ):
            continue
        following = sole_consumer(node.outputs[0])
        if following is None or not dialect.is_quantize(following):
            continue
        average = producer(node.inputs[0])
        if average is not None and _on_grid(average, dialect.quantisation_of(node)):
            bypass(node)


def _on_grid(average: ir.Node, quantisation: Quantisation) -> bool:
    source = _quantisation_before(average.inputs[0])
    count = values_averaged(average)
    if source is None or count is None or not (source.per_tensor and quantisation.per_tensor):
        return False
    if not (source.symmetric and quantisation.symmetric):
        return False
    ratio = source.scalar_step / count / quantisation.scalar_step
    if round(ratio) < 1 or abs(ratio / round(ratio) - 1) > _SAME:
        return False
    reach = round(ratio) * count
    return source.qmin * reach >= quantisation.qmin and source.qmax * reach <= quantisation.qmax


def _quantisation_before(value: ir.Value | None) -> Quantisation | None:
    """The quantiser whose integers a value holds, through operators that move them."""
    node = producer(value)
    while is_op(node, "MaxPool", "Reshape", "Transpose", "Relu") and node is not None:
        node = producer(node.inputs[0])
    if node is None or not dialect.is_quantize(node):
        return None
    return dialect.quantisation_of(node)


def values_averaged(average: ir.Node) -> int | None:
    """Values in each average, None if that varies."""
    if is_op(average, "GlobalAveragePool"):
        shape = shape_of(average.inputs[0]) if average.inputs[0] is not None else None
        return None if shape is None else math.prod(shape[2:])
    padded = any(ints_attribute(average, "pads")) or attribute(average, "ceil_mode", 0)
    if padded and not attribute(average, "count_include_pad", 0):
        return None
    return math.prod(ints_attribute(average, "kernel_shape"))
