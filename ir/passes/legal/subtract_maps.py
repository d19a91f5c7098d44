"""GR-3: differences of maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.calibration.bounds import IntervalBounds
from dlaconv.ir.graph import is_constant, producer, shape_of
from dlaconv.ir.passes.legal.building import Builder, stored_quantisation
from dlaconv.ir.passes.legal.diagonal import diagonal_layer
from dlaconv.ir.passes.legal.legalisation import Blocked, Plan, legalisation
from dlaconv.ir.passes.linear_ops import bias_of, linear_producer, scaled, weights_of
from dlaconv.ir.pipeline import Context
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding


@legalisation("Sub", rules=("GR-3",))
def subtract_maps(node: ir.Node, context: Context) -> Plan | Blocked | None:
    """The difference of two maps becomes the sum of the first and the negated second.

    Identity: a - b = a + (-b). A layer with weights that computes b for nothing else computes -b
    with the opposite weights and bias; else a 1x1 convolution with weights of -1 does.

    Conditions: Both maps have one shape. The integers of a stored b lie in the range that holds
    their negatives, too: -128 has none. Where they do not, weighted_sum makes one layer of the
    difference if both maps are on one grid. A b that a quantised network does not round is computed
    by a layer with weights, which is there twice if others read b, too: so -b is rounded as b is.

    Cost: None, or one multiplication per value of b, C if the convolution is dense; that of the
    layer where it is there twice.
    """
    left, right = node.inputs
    if left is None or right is None or is_constant(left) or is_constant(right):
        return None
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    shape = shape_of(left)
    if shape is None or shape != shape_of(right):
        return Blocked(f"maps of shapes {list(shape or ())} and {list(shape_of(right) or ())}")
    builder, stored = Builder(node), stored_quantisation(right)
    alone = linear_producer(right)
    unrounded = stored is None and _quantised(node)
    linear = producer(right) if unrounded else alone
    if linear is not None and (opposite := _opposite(builder, linear)) is not None:
        if linear.name in context.gains and (layer := producer(opposite)) is not None:
            builder.gains.append(layer)
        builder.add(left, opposite)
        dropped = [linear] if alone is not None else []
        return builder.plan("an Add of what the layer computes with opposite signs", dropped)
    if unrounded:
        return Blocked(f"{right.name!r} is not rounded in the source, and no layer computes it")
    if stored is not None and not negatable(right, stored):
        return Blocked(
            f"the integers of {right.name!r} reach {stored.qmin}, whose negative is no integer of "
            "the hardware"
        )
    ones = np.ones(shape[1] if len(shape) > 1 else 1)
    negated = diagonal_layer(builder, right, -ones, 0 * ones, context.target)
    if isinstance(negated, Blocked):
        return negated
    if stored is not None:
        mirrored = _mirrored(stored)
        negated = builder.quantised(negated, mirrored)
    builder.add(left, negated)
    return builder.plan("an Add of the negated map")


def _quantised(node: ir.Node) -> bool:
    """True in a network that quantises maps."""
    assert node.graph is not None
    return any(dialect.is_quantize(other) for other in node.graph)


def _opposite(builder: Builder, linear: ir.Node) -> ir.Value | None:
    """What a layer computes, with opposite signs."""
    weights = weights_of(linear)
    bias = bias_of(linear, weights.channels) if weights is not None else None
    turned = scaled(weights, np.full(weights.channels, -1.0)) if weights is not None else None
    if (
        turned is None
        or bias is None
        or (turned.steps is not None and turned.array.dtype.itemsize > 4)
    ):
        return None
    return builder.op(
        linear.op_type,
        [
            linear.inputs[0],
            builder.weights(turned),
            builder.constant("bias", -bias.astype(np.float32)),
        ],
        shape_of(linear.outputs[0]) or (),
        **dict(linear.attributes),
    )


def negatable(value: ir.Value, stored: Quantisation) -> bool:
    """True if the hardware's range holds the negative of every stored integer."""
    if not (stored.per_tensor and stored.symmetric):
        return False
    if stored.qmin >= -stored.qmax:
        return True
    low, _ = IntervalBounds().of(value)
    return bool(low >= -stored.qmax * stored.scalar_step)


def _mirrored(stored: Quantisation) -> Quantisation:
    """The grid of the negatives; nothing is rounded on the way there."""
    low, high = -stored.qmax, -max(stored.qmin, -stored.qmax)
    return replace(stored, qmin=low, qmax=high, rounding=Rounding.HALF_EVEN)
