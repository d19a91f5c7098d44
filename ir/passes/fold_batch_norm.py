"""Folds batch normalisation and other factors per channel into the linear operator before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import provenance
from dlaconv.ir.graph import attribute, input_array, is_op, shape_of, take_over
from dlaconv.ir.passes.linear_ops import (
    bias_of,
    linear_producer,
    per_channel,
    scaled,
    set_bias,
    set_weights,
    weights_of,
)
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass


@ir_pass(tolerance=1e-5)
def fold_batch_norm(model: ir.Model, context: Context) -> None:
    """Replaces ``BatchNormalization(Linear(x, W, b))`` with ``Linear(x, gW, (b - mean)g + beta)``.

    ``g = gamma / sqrt(variance + epsilon)`` per output channel. The integers of quantised weights
    stay: their step takes |g|, and they change sign where g is negative (-128 then becomes +128,
    which int16 holds until the scale stage decides). A constant factor or divisor per channel
    (``Mul``, ``Div``) folds the same way.
    Only where nothing else reads the linear operator's result; a normalisation that follows no
    linear operator stays, and a rule reports it.
    """
    for node in model.graph:
        if is_op(node, "BatchNormalization"):
            _fold_normalisation(node, context)
        elif is_op(node, "Mul", "Div"):
            _fold_factor(node, context)


def _fold_normalisation(node: ir.Node, context: Context) -> None:
    parameters = [input_array(node, index) for index in range(1, 5)]
    if attribute(node, "training_mode", 0) or any(value.uses() for value in node.outputs[1:]):
        return
    if any(parameter is None for parameter in parameters):
        return
    gamma, beta, mean, variance = (
        parameter.astype(np.float64) for parameter in parameters if parameter is not None
    )
    deviation = variance + float(attribute(node, "epsilon", 1e-5))
    if (deviation <= 0).any():
        return
    factors = gamma / np.sqrt(deviation)
    _fold(node, 0, factors, beta - mean * factors, context)


def _fold_factor(node: ir.Node, context: Context) -> None:
    for position in (0, 1) if is_op(node, "Mul") else (0,):
        linear = linear_producer(node.inputs[position])
        constant = input_array(node, 1 - position)
        if linear is None or constant is None:
            continue
        if shape_of(node.outputs[0]) != shape_of(linear.outputs[0]):
            continue
        weights = weights_of(linear)
        factors = per_channel(constant, linear, weights.channels) if weights else None
        if factors is None:
            continue
        if is_op(node, "Div"):
            if not factors.all():
                continue
            factors = 1 / factors
        _fold(node, position, factors, np.zeros_like(factors), context)
        return


def _fold(
    node: ir.Node, position: int, factors: np.ndarray, offsets: np.ndarray, context: Context
) -> None:
    """Folds ``linear * factors + offsets``, the result of ``node``, if the weights allow it."""
    linear = linear_producer(node.inputs[position])
    weights = weights_of(linear) if linear is not None else None
    if linear is None or weights is None or factors.shape != (weights.channels,):
        return
    bias = bias_of(linear, weights.channels)
    folded = scaled(weights, factors)
    if bias is None or folded is None:
        return
    bias = bias * factors + offsets
    if not (np.abs(bias) <= np.finfo(np.float32).max).all():
        return
    if folded.steps is not None and folded.array.dtype.itemsize > 4:
        return
    set_weights(linear, folded)
    set_bias(linear, bias)
    detail = (
        f"{node.op_type} folded into {provenance.location(linear, None).layer or linear.op_type}"
    )
    if negative := int((factors < 0).sum()):
        detail += f"; {negative} channels with a negative factor change sign"
    if zero := int((factors == 0).sum()):
        detail += f"; {zero} channels have a factor of zero"
    context.rewrites.append(
        Rewrite("fold_batch_norm", provenance.location(node, None).layer, detail)
    )
    take_over(node.outputs[0], linear.outputs[0])
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(node, safe=True)
