"""Joins a layer with the activation behind it, as the hardware does."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import bypass, is_op, producer, sole_consumer
from dlaconv.ir.layers import ACTIVATED, PIPELINED
from dlaconv.ir.pipeline import Context, Rewrite, ir_pass

PRODUCERS = ACTIVATED
"""Operators that an activation is pipelined behind."""


@ir_pass(tolerance=None)
def pipelined_activations(model: ir.Model, context: Context) -> None:
    """Replaces Quantize(layer) -> activation, with no other use, by layer -> activation.

    The hardware applies the activation to the accumulator, before its one rounding, so the first
    rounding cannot be kept. For ReLU it is the same integer (a monotone rounding that keeps zero
    commutes with max(x, 0)); for LeakyReLU and PReLU it is one rounding fewer, which is reported.
    """
    for node in list(model.graph):
        if not is_op(node, *PIPELINED):
            continue
        first = producer(node.inputs[0])
        if first is None or not dialect.is_quantize(first):
            continue
        if sole_consumer(first.outputs[0]) is not node:
            continue
        if not is_op(producer(first.inputs[0]), *PRODUCERS):
            continue
        second = sole_consumer(node.outputs[0])
        if second is not None and dialect.is_quantize(second):
            exact = is_op(node, "Relu") and _same_step(first, second)
        elif is_op(node, "Relu"):  # the quantiser moves behind the activation
            _move_behind(first, node)
            continue
        else:
            continue
        if not is_op(node, "Relu") or exact:
            bypass(first)
            _report(node, model, context, exact)


def _same_step(first: ir.Node, second: ir.Node) -> bool:
    one, two = dialect.quantisation_of(first), dialect.quantisation_of(second)
    return (
        one.per_tensor
        and two.per_tensor
        and one.symmetric
        and two.symmetric
        and one.scalar_step == two.scalar_step
        and one.rounding is two.rounding
        and two.qmax <= one.qmax
    )


def _move_behind(quantize: ir.Node, activation: ir.Node) -> None:
    """Quantize -> Relu becomes Relu -> Quantize; the result keeps its name."""
    x, result = quantize.inputs[0], activation.outputs[0]
    middle = quantize.outputs[0]
    name = result.name
    result.replace_all_uses_with(middle, replace_graph_outputs=True)
    activation.replace_input_with(0, x)
    quantize.replace_input_with(0, result)
    graph = quantize.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(quantize)
    graph.insert_after(activation, quantize)
    result.name = f"{name}/unrounded"
    middle.name = name


def _report(node: ir.Node, model: ir.Model, context: Context, exact: bool) -> None:
    place = provenance.location(node, model)
    detail = f"the rounding before {node.op_type} is dropped: the hardware rounds once, after it"
    context.rewrites.append(Rewrite("pipelined_activations", place.layer, detail, exact))
    if not exact:
        context.diagnostics.add(
            Diagnostic(
                "DLA204",
                "double-rounding",
                detail,
                Severity.WARNING,
                place,
                help="quantise after the activation only",
            )
        )
