"""Computes a value once for each of its roundings."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dlaconv.diagnostics import Diagnostic, Severity
from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import insert_before, is_op
from dlaconv.ir.layers import PIPELINED, ROUNDING
from dlaconv.ir.passes.maps.requantise import insert_identity
from dlaconv.ir.pipeline import Context, Reread, Rewrite, ir_pass
from dlaconv.ir.quantisation import Quantisation


@ir_pass()
def single_use(model: ir.Model, context: Context) -> None:
    """Replaces a layer whose unrounded result is used n times by n copies of it.

    The hardware stores rounded maps only, so two quantisers (or activations) on one unrounded
    value need the layer twice: rounding one after the other is not the same. A graph input cannot
    be computed twice: its finest quantiser stays, the others requantise its map, and that is
    reported.
    """
    for value in model.graph.inputs:
        _one_quantiser(value, model, context)
    for node in reversed(list(model.graph)):
        if is_op(node, *ROUNDING, *PIPELINED) and not _stored_activation(node):
            _copy_for_each_use(node, context)


def _stored_activation(node: ir.Node) -> bool:
    """True for a ReLU on a stored map: its result is stored too, and may be used at will."""
    source = node.inputs[0]
    made_by = source.producer() if source is not None else None
    return is_op(node, "Relu") and not is_op(made_by, *ROUNDING)


def _copy_for_each_use(node: ir.Node, context: Context) -> None:
    result = node.outputs[0]
    uses = list(result.uses())
    if len(uses) < 2:
        return
    for count, use in enumerate(uses[1:], start=1):
        use.node.replace_input_with(use.idx, copy_of(node, f"copy{count}").outputs[0])
    layer = provenance.location(node).layer
    context.rewrites.append(
        Rewrite("single_use", layer, f"computed {len(uses)} times, once for each rounding")
    )


def copy_of(node: ir.Node, word: str) -> ir.Node:
    """A new node beside another one that computes the same; ``word`` tells its name apart."""
    result = node.outputs[0]
    copy = ir.node(
        node.op_type, list(node.inputs), dict(node.attributes.items()), name=f"{node.name}/{word}"
    )
    provenance.inherit(copy, node)
    twin = copy.outputs[0]
    twin.name, twin.shape, twin.type = f"{result.name}/{word}", result.shape, result.type
    insert_before(node, copy)
    return copy


def _one_quantiser(value: ir.Value, model: ir.Model, context: Context) -> None:
    nodes = [use.node for use in value.uses() if dialect.is_quantize(use.node)]
    if len(nodes) < 2:
        return
    nodes.sort(key=lambda node: _fineness(dialect.quantisation_of(node)))
    first = nodes[0]
    graph = model.graph
    graph.remove(first)
    graph.insert_before(next(iter(graph)), first)
    lossy = []
    for other in nodes[1:]:
        lost = _reread(other, first, value.name or "")
        if lost is not None:
            lossy.append(other)
            context.rereads[other.outputs[0].name or ""] = lost
        other.replace_input_with(0, first.outputs[0])
        insert_identity(other, first.outputs[0], context, exact=lost is None)
    if not lossy:
        return
    context.diagnostics.add(
        Diagnostic(
            "DLA206",
            "input-quantised-twice",
            f"{len(nodes)} quantisers read the graph input {value.name!r}; the hardware stores "
            "it once, so all but the finest requantise the stored map: they read values rounded to "
            f"{_words(first)}, the widest of them {_words(max(lossy, key=_reach))} in the source",
            Severity.WARNING,
            provenance.location(lossy[0], model),
            help="share one quantiser at the input",
        )
    )


def _fineness(quantisation: Quantisation) -> tuple[float, int]:
    """Sorts the finest first, of equal ones the widest."""
    return float(quantisation.step.min()), quantisation.qmin - quantisation.qmax


def _reread(other: ir.Node, first: ir.Node, source: str) -> Reread | None:
    """What another quantiser of a graph input loses behind the first one, None for nothing."""
    wanted, stored = dialect.quantisation_of(other), dialect.quantisation_of(first)
    (low, high), (bottom, top) = wanted.ends, stored.ends
    slack = float(stored.step.max()) / 2
    clipped = low < bottom - slack or high > top + slack
    same = (
        np.array_equal(wanted.step, stored.step)
        and np.array_equal(wanted.zero_point, stored.zero_point)
        and wanted.rounding is stored.rounding
    )
    return None if same and not clipped else Reread(source, _words(first), clipped)


def _reach(quantiser: ir.Node) -> float:
    low, high = dialect.quantisation_of(quantiser).ends
    return high - low


def _words(quantiser: ir.Node) -> str:
    quantisation = dialect.quantisation_of(quantiser)
    low, high = quantisation.ends
    return f"{float(quantisation.step.max()):.6g} within {low:.6g}..{high:.6g}"
