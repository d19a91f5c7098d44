"""A multiplication by one positive number moves forward, into the weights of the next layer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import bypass, is_op, replace_node, sole_consumer, unique_name
from dlaconv.ir.passes.absorb_scaling import factor_of, put_number_last
from dlaconv.ir.passes.linear_ops import LINEAR, scaled, set_weights, weights_of
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass

_COMMUTING = (
    "MaxPool", "AveragePool", "GlobalAveragePool", "Relu", "LeakyRelu", "PRelu", "Reshape",
    "Transpose",
)  # fmt: skip
"""Operators f with f(c x) = c f(x) for every c > 0."""


@ir_pass(tolerance=None)
def forward_scaling(model: ir.Model, context: Context) -> None:
    """``c x -> step s -> Linear(W, b)`` becomes ``x -> step s/c -> Linear(cW, b)``.

    The integers are the same; running the result in float32 may differ at ties. Pools, ReLUs and
    operators that move values may stand in between, but nothing else may read what is scaled. Older
    exports of truncated averages multiply by the area of a window this way, and networks that take
    pixels divide them by 255.
    """
    for node in list(model.graph):
        factor = factor_of(node)
        path = _path(node) if factor is not None else []
        if factor is None or not path:
            continue
        *between, linear = path
        weights = weights_of(linear)
        assert weights is not None
        larger = scaled(weights, np.full(weights.channels, factor))
        if larger is None or not all(_representable(item, factor) for item in between):
            continue
        set_weights(linear, larger)
        for item in between:
            _rescale(item, factor, model.graph)
        put_number_last(node)
        layer = provenance.location(node, model).layer
        reached = provenance.location(linear, None).layer
        if bypass(node):
            detail = f"a factor moved into the weights of {reached}"
            context.rewrites.append(Rewrite("forward_scaling", layer, detail))


def _path(node: ir.Node) -> list[ir.Node]:
    """The nodes that the result of a multiplication goes through, the linear one last."""
    path: list[ir.Node] = []
    while (following := sole_consumer(node.outputs[0])) is not None:
        if following.inputs[0] is not node.outputs[0] or len(node.outputs[0].uses()) > 1:
            return []
        path.append(following)
        if is_op(following, *LINEAR):
            return path if weights_of(following) is not None else []
        per_tensor = (
            dialect.is_quantize(following) and dialect.quantisation_of(following).per_tensor
        )
        if not (per_tensor or is_op(following, *_COMMUTING)):
            return []
        node = following
    return []


def _per_tensor(node: ir.Node) -> bool:
    return dialect.is_quantize(node) and dialect.quantisation_of(node).per_tensor


def _representable(node: ir.Node, factor: float) -> bool:
    if not dialect.is_quantize(node):
        return True
    step, limits = dialect.quantisation_of(node).scalar_step / factor, np.finfo(np.float32)
    return float(limits.tiny) <= step <= float(limits.max)


def _rescale(node: ir.Node, factor: float, graph: ir.Graph) -> None:
    """Lets a node work on values that are smaller by a factor; they get names of their own."""
    if dialect.is_quantize(node):
        quantisation = dialect.quantisation_of(node)
        source = node.inputs[0]
        assert source is not None
        step = np.asarray(quantisation.scalar_step / factor, np.float32)
        finer = quantisation.with_step(step)
        fresh = dialect.quantize(source, finer, name=node.name or "quantise")
        replace_node(node, fresh)
        node = fresh
    node.outputs[0].name = unique_name(graph, f"{node.outputs[0].name}/rescaled")
