"""PL-2, GR-3: means over whole axes that a layer with weights reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import is_op, producer
from dlaconv.ir.passes.legal.averages import Mean, legal_average, mean_of
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.identity import shape
from dlaconv.ir.passes.legal.legalisation import Plan, legalisation
from dlaconv.ir.passes.linear_ops import scaled, weights_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation

_SAME = 1e-6


@legalisation("Conv", "Gemm", rules=("PL-2", "PL-3", "GR-3"))
def global_average_sum(node: ir.Node, context: Context) -> Plan | None:
    """An average over a whole map becomes a sum, if a layer with weights takes the factor.

    Identity: W mean(x) = (W / d) sum(x) for d values. Rounding the sum in steps of d s is rounding
    the mean in steps of s, so there is one rounding as before, of the same integers.

    Conditions: Between average and layer there is nothing but Reshape, Transpose and a quantiser.
    If the source quantises, d s is the step of the map times a power of two, since the two maps of
    a sum are scaled together, and rounds to nearest; else see global_average. Averages that the
    hardware has stay.

    Cost: None.
    """
    chain = _chain(node, context)
    weights = weights_of(node) if chain is not None else None
    if chain is None or weights is None:
        return None
    mean, pool, between = chain
    smaller = scaled(weights, np.full(weights.channels, 1 / mean.divisor))
    if smaller is None:
        return None
    builder = Builder(node)
    axes = builder.constant("axes", np.asarray(mean.axes, np.int64))
    value = builder.op("ReduceSum", [mean.x, axes], mean.result, keepdims=1)
    if not mean.keepdims:
        value = builder.reshape(value, shape(pool.outputs[0]))
    for item in between:
        if dialect.is_quantize(item):
            quantisation = dialect.quantisation_of(item)
            step = quantisation.step * np.float32(mean.divisor)
            value = builder.quantised(value, replace(quantisation, step=step))
            original = item.outputs[0].name or ""
            builder.multiples[value.name or ""] = original, float(mean.divisor)
        else:
            value = builder.again(item, value)
    builder.op(
        node.op_type,
        [value, builder.weights(smaller), *node.inputs[2:]],
        shape(node.outputs[0]),
        **dict(node.attributes),
    )
    words = " x ".join(str(mean.shape[axis]) for axis in mean.axes)
    return builder.plan(f"the sum of {words} values, and weights divided by {mean.divisor}")


def _chain(node: ir.Node, context: Context) -> tuple[Mean, ir.Node, list[ir.Node]] | None:
    """The mean that a layer reads, the node that computes it, and what stands in between."""
    between: list[ir.Node] = []
    found = producer(node.inputs[0])
    while found is not None and (
        is_op(found, "Reshape", "Transpose") or dialect.is_quantize(found)
    ):
        between.insert(0, found)
        found = producer(found.inputs[0])
    mean = mean_of(found) if found is not None else None
    if found is None or mean is None or legal_average(found, context.target):
        return None
    quantisers = [dialect.quantisation_of(n) for n in between if dialect.is_quantize(n)]
    rounded_alike = all(_as_a_sum(mean, quantiser, context) for quantiser in quantisers)
    return (mean, found, between) if rounded_alike and len(quantisers) < 2 else None


def _as_a_sum(mean: Mean, quantiser: Quantisation, context: Context) -> bool:
    """True if rounding the sum can leave the integers that rounding the mean leaves."""
    source = stored_quantisation(mean.x)
    if source is None or not (source.per_tensor and quantiser.per_tensor and quantiser.symmetric):
        return False
    ratio = mean.divisor * quantiser.scalar_step / source.scalar_step
    power = float(PowerOfTwo.nearest(ratio).step)
    return abs(ratio / power - 1) < _SAME and (
        quantiser.rounding.nearest == context.rounding.nearest
    )
