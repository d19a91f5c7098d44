"""Makes a clip in front of a quantiser part of the quantiser's range."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from dlaconv.ir import dialect
from dlaconv.ir.graph import consumers, insert_before, is_op, take_over
from dlaconv.ir.pipeline import Context, ir_pass
from dlaconv.ir.quantisation import Quantisation
from dlaconv.ir.saturation import clip_ends


@ir_pass()
def narrow_quantise(model: ir.Model, context: Context) -> None:
    """Replaces ``Quantize(Clip(x))`` with one Quantize of a smaller range.

    Rounding never swaps two values, so the clip's ends may be rounded instead of what is clipped:
    the integers are the same, whether or not the ends lie on the grid. A range that ends before the
    clip does makes the clip vanish.
    Only where nothing but quantisers of one step per tensor reads the clip.
    """
    del context
    for node in list(model.graph):
        ends = clip_ends(node) if is_op(node, "Clip") else None
        value = node.outputs[0]
        if ends is None or value.is_graph_output():
            continue
        narrowed = [_narrowed(reader, ends) for reader in consumers(value)]
        if any(found is None for found in narrowed):
            continue
        for reader, quantisation in zip(consumers(value), narrowed, strict=True):
            assert quantisation is not None
            _replace(reader, node.inputs[0], quantisation)
        model.graph.remove(node, safe=True)


def _narrowed(reader: ir.Node, ends: tuple[float, float]) -> Quantisation | None:
    if not dialect.is_quantize(reader):
        return None
    quantisation = dialect.quantisation_of(reader)
    if not quantisation.per_tensor:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = map(int, quantisation.integers(np.array(ends, np.float32)).reshape(-1))
    return replace(quantisation, qmin=low, qmax=high) if low < high else None


def _replace(old: ir.Node, x: ir.Value | None, quantisation: Quantisation) -> None:
    assert x is not None
    result = old.outputs[0]
    fresh = dialect.quantize(x, quantisation, name=old.name or "", output=f"{result.name}/narrowed")
    fresh.outputs[0].shape, fresh.outputs[0].type = result.shape, result.type
    insert_before(old, fresh)
    take_over(result, fresh.outputs[0])
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    graph.remove(old, safe=True)
