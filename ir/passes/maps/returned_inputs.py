"""Gives graph outputs that are graph inputs a layer of their own."""

from __future__ import annotations

import onnx_ir as ir

from dlaconv.ir import dialect, provenance
from dlaconv.ir.graph import insert_after
from dlaconv.ir.passes.maps.requantise import insert_identity
from dlaconv.ir.pipeline import Context, ir_pass


@ir_pass()
def returned_inputs(model: ir.Model, context: Context) -> None:
    """Puts an identity layer between a quantised graph input and the graph output that it is.

    A file holds operators and no quantisers, so the output would be the input itself. The integers
    are the same.
    """
    graph = model.graph
    for index, value in enumerate(graph.outputs):
        first = value.producer()
        if first is None or not dialect.is_quantize(first):
            continue
        source = first.inputs[0]
        if source is None or not source.is_graph_input():
            continue
        second = dialect.quantize(
            value, dialect.quantisation_of(first), name=f"{first.name}/returned"
        )
        result = second.outputs[0]
        provenance.inherit(second, first)
        insert_after(value, second)
        graph.outputs[index] = result
        value.name, result.name = f"{value.name}/fed", value.name
        result.shape, result.dtype = value.shape, ir.DataType.FLOAT
        insert_identity(second, value, context)
