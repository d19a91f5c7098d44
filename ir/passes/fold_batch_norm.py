"""Folds batch normalisation and other constants per channel into the linear operator before."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import provenance
from dlaconv.ir.graph import take_over
from dlaconv.ir.passes.affine import affine_of
from dlaconv.ir.passes.linear_ops import (
    bias_of,
    linear_producer,
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
    which int16 holds until the scale stage decides). Factors, divisors and offsets per channel, of
    either sign and in chains of any length, fold the same way.
    Only where nothing else reads the linear operator's result; a normalisation that follows no
    linear operator stays, and a rule reports it.
    """
    for node in model.graph:
        affine = affine_of(node)
        terms = affine.per_channel() if affine is not None and affine.finite else None
        if affine is not None and terms is not None:
            _fold(node, affine.source, *terms, context)


def _fold(
    node: ir.Node, source: ir.Value, factors: np.ndarray, offsets: np.ndarray, context: Context
) -> None:
    """Folds ``linear * factors + offsets``, the result of ``node``, if the weights allow it."""
    linear = linear_producer(source)
    weights = weights_of(linear) if linear is not None else None
    if linear is None or weights is None or factors.shape != (weights.channels,):
        return
    bias = bias_of(linear, weights.channels)
    offset_only = bool((factors == 1).all())
    folded = weights if offset_only else scaled(weights, factors)
    if bias is None or folded is None:
        return
    bias = bias * factors + offsets
    if not (np.abs(bias) <= np.finfo(np.float32).max).all():
        return
    if folded.steps is not None and folded.array.dtype.itemsize > 4:
        return
    if not offset_only:
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
