"""Removes a rounding down in front of a coarser rounding that does not see it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.formats import PowerOfTwo
from dlaconv.ir.graph import bypass, is_op, producer, replace_node, unique_name
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.rounding import Rounding

_SELECTS = ("MaxPool", "Relu", "Reshape", "Transpose")
"""Operators that move or select values, or replace them by zero."""


@ir_pass()
def nested_floors(model: ir.Model, context: Context) -> None:
    """Replaces ``Quantize(floor(x))`` by one Quantize where the floor changes nothing.

    Rounding down to multiples of s moves no value across a multiple of s. So nothing that has its
    thresholds there sees it: rounding down to steps of n s, and half up to steps of 2 n s. The
    first range becomes part of the second one, as rounding never swaps two values. Operators that
    only select values may stand in between, ReLU among them; nothing else may read the first.
    Both steps must be powers of two, whose quotients are exact.
    """
    del context
    for node in list(model.graph):
        if not dialect.is_quantize(node):
            continue
        first, between = _before(node)
        if first is None:
            continue
        grid = _joined(dialect.quantisation_of(first), dialect.quantisation_of(node))
        if grid is None:
            continue
        loss = provenance.loss(node) or provenance.loss(first)
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        fresh = dialect.quantize(source, grid, name=node.name or "", output=f"{result.name}/nested")
        fresh.outputs[0].shape, fresh.outputs[0].type = result.shape, result.type
        replace_node(node, fresh)
        if loss:
            provenance.mark_loss(fresh, loss)
        bypass(first)
        for value in between:  # they are not the source's any more
            value.name = unique_name(model.graph, f"{value.name}/unrounded")


def _before(node: ir.Node) -> tuple[ir.Node | None, list[ir.Value]]:
    """The quantiser whose values alone a quantiser reads, and alone reads; the values between."""
    value, between = node.inputs[0], list[ir.Value]()
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        maker = producer(value)
        if maker is None or dialect.is_quantize(maker):
            return maker, between
        if not is_op(maker, *_SELECTS) or len(maker.outputs) > 1:
            break
        between.append(value)
        value = maker.inputs[0]
    return None, between


def _joined(first: Quantisation, second: Quantisation) -> Quantisation | None:
    """One quantisation that does what both do in turn, None if there is none."""
    if first.rounding is not Rounding.FLOOR or not all(map(_plain, (first, second))):
        return None
    thresholds = {Rounding.FLOOR: 1, Rounding.HALF_UP: 2}.get(second.rounding)
    if thresholds is None or second.scalar_step < thresholds * first.scalar_step:
        return None
    ends = np.array([first.qmin, first.qmax]) * first.scalar_step
    low, high = (int(end) for end in second.integers(ends))
    return replace(second, qmin=low, qmax=high) if low < high else None


def _plain(quantisation: Quantisation) -> bool:
    return (
        quantisation.per_tensor
        and quantisation.symmetric
        and PowerOfTwo.exactly(quantisation.scalar_step) is not None
    )
